"""Configuration of the expert transformer, and its form in the diffusers layout."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from cogvx.errors import InputError

# Our name -> the name in `config.json`, where they differ.
_NAMES = {
    "num_heads": "num_attention_heads",
    "head_dim": "attention_head_dim",
    "temporal_patch_size": "patch_size_t",
    "text_size": "text_embed_dim",
    "time_size": "time_embed_dim",
    "ofs_size": "ofs_embed_dim",
    "max_text_length": "max_text_seq_length",
    "rotary": "use_rotary_positional_embeddings",
    "learned_positions": "use_learned_positional_embeddings",
    "spatial_scale": "spatial_interpolation_scale",
    "temporal_scale": "temporal_interpolation_scale",
}
# Settings that every released form shares; other values are not supported.
_FIXED: dict[str, Any] = {
    "activation_fn": "gelu-approximate",
    "timestep_activation_fn": "silu",
    "attention_bias": True,
    "norm_elementwise_affine": True,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "dropout": 0.0,
}
# Settings that no released form has; at their defaults they are not written, so that the files stay the official ones.
Positions = Literal["fit", "extrapolate", "interpolate"]
AttentionKind = Literal["full", "separated"]
Modulation = Literal["expert", "shared"]
Streams = Literal["shared", "separate"]
_OWN: dict[str, Any] = {
    "positions": Positions,
    "attention": AttentionKind,
    "modulation": Modulation,
    "streams": Streams,
}
_CLASS_NAME = "CogVideoXTransformer3DModel"


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes of the expert transformer; defaults are those that the released `config.json` files leave out.

    Attributes:
        temporal_patch_size: Latent frames a token (1.5 models), or None for one frame a token (1.0 models).
        text_size: Width of the text embeddings.
        time_size: Width of the time embedding that steers every norm.
        ofs_size: Width of the second scalar's embedding (1.5 image-to-video), or None.
        sample_height: Rows of latents at the model's own size.
        sample_width: Columns of latents at the model's own size.
        sample_frames: Pixel frames at the model's own length.
        rotary: Positions by rotation of queries and keys, else by an added table.
        learned_positions: The added table is part of the weights (5B image-to-video; rotation stays).
        patch_bias: Read and written only; the patch projection of every released model has a bias.
        positions: Rotary coordinates of a size other than the model's own: "fit" as the released models sample,
            "extrapolate" plain integers, "interpolate" stretched onto the model's own grid. Time is never stretched.
        attention: "full" over text, space and time, or "separated": space in even layers, time in odd ones.
        modulation: "expert", one set for text and one for video, or "shared", one for both.
        streams: "shared" weights of attention and feed-forward, or "separate" ones for text and video (MMDiT).
    """

    num_layers: int = 30
    num_heads: int = 30
    head_dim: int = 64
    in_channels: int = 16
    out_channels: int = 16
    patch_size: int = 2
    temporal_patch_size: int | None = None
    text_size: int = 4096
    time_size: int = 512
    ofs_size: int | None = None
    max_text_length: int = 226
    sample_height: int = 60
    sample_width: int = 90
    sample_frames: int = 49
    rotary: bool = False
    learned_positions: bool = False
    spatial_scale: float = 1.875
    temporal_scale: float = 1.0
    temporal_compression_ratio: int = 4
    norm_eps: float = 1e-5
    patch_bias: bool = True
    positions: Positions = "fit"
    attention: AttentionKind = "full"
    modulation: Modulation = "expert"
    streams: Streams = "shared"

    @property
    def hidden_size(self) -> int:
        """Width of a token."""
        return self.num_heads * self.head_dim

    @property
    def patch_values(self) -> int:
        """Latent positions a token, over space and time."""
        return self.patch_size**2 * (self.temporal_patch_size or 1)

    @property
    def sample_patches(self) -> tuple[int, int]:
        """Rows and columns of tokens at the model's own size."""
        return self.sample_height // self.patch_size, self.sample_width // self.patch_size

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "TransformerConfig":
        """Read the `config.json` of a transformer in the diffusers layout.

        Raises:
            InputError: A key is unknown, or has a value that no released form has.
        """
        ours = {_NAMES.get(name, name): name for name in cls.__dataclass_fields__}
        known: dict[str, Any] = {}
        for key, value in config.items():
            if key in ours:
                known[ours[key]] = value
            elif key in _FIXED:
                if value != _FIXED[key]:
                    raise InputError(f"transformer config: {key}={value!r} is not supported (only {_FIXED[key]!r})")
            elif not key.startswith("_"):
                raise InputError(f"transformer config: unknown key {key!r}")
        made = cls(**known)
        if made.ofs_size is not None and made.ofs_size != made.time_size:
            raise InputError(
                f"transformer config: ofs_embed_dim={made.ofs_size} must equal time_embed_dim={made.time_size}"
            )
        if made.head_dim % 8:
            raise InputError(f"transformer config: attention_head_dim={made.head_dim} is not a multiple of 8")
        for name, kind in _OWN.items():
            if getattr(made, name) not in get_args(kind):
                names = ", ".join(get_args(kind))
                raise InputError(f"transformer config: {name}={getattr(made, name)!r} is not one of {names}")
        if made.positions == "interpolate" and not made.rotary:
            raise InputError('transformer config: positions="interpolate" needs rotary positions')
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `config.json` in the diffusers layout."""
        own = {
            _NAMES.get(name, name): getattr(self, name)
            for name, field in self.__dataclass_fields__.items()
            if name not in _OWN or getattr(self, name) != field.default
        }
        return {"_class_name": _CLASS_NAME, **_FIXED, **own}
