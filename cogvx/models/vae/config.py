"""Configuration of the 3D causal VAE, and its form in the diffusers layout."""

from dataclasses import dataclass
from typing import Any

from cogvx.errors import InputError

# Keys that the reference writes but that change nothing; a value other than these is not supported.
_FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "force_upcast": True,
    "latents_mean": None,
    "latents_std": None,
    "shift_factor": None,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
_HARMLESS = {"force_upcast", "latents_mean", "latents_std", "shift_factor"}  # never read by CogVideoX
_CLASS_NAME = "AutoencoderKLCogVideoX"


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes of the 3D causal VAE; names and defaults are those of the official checkpoints."""

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (128, 256, 256, 512)
    latent_channels: int = 16
    layers_per_block: int = 3
    norm_eps: float = 1e-6
    norm_num_groups: int = 32
    temporal_compression_ratio: int = 4
    sample_height: int = 480
    sample_width: int = 720
    scaling_factor: float = 1.15258426
    invert_scale_latents: bool = False

    @property
    def num_temporal_levels(self) -> int:
        """How many levels halve the frames."""
        return self.temporal_compression_ratio.bit_length() - 1

    @property
    def spatial_ratio(self) -> int:
        """Pixels a latent, in each direction: 8 for four levels."""
        return 2 ** (len(self.block_out_channels) - 1)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "VAEConfig":
        """Read the `config.json` of a VAE in the diffusers layout.

        Raises:
            InputError: A key is unknown, or asks for a part that no CogVideoX has.
        """
        names = set(cls.__dataclass_fields__)
        known: dict[str, Any] = {}
        for key, value in config.items():
            if key in names:
                known[key] = tuple(value) if key == "block_out_channels" else value
            elif key in _FIXED:
                if value != _FIXED[key] and key not in _HARMLESS:
                    raise InputError(f"VAE config: {key}={value!r} is not supported (only {_FIXED[key]!r})")
            elif key in ("down_block_types", "up_block_types"):
                wanted = "CogVideoXDownBlock3D" if key.startswith("down") else "CogVideoXUpBlock3D"
                if set(value) != {wanted}:
                    raise InputError(f"VAE config: {key}={value!r} is not supported (only {wanted})")
            elif not key.startswith("_"):
                raise InputError(f"VAE config: unknown key {key!r}")
        ratio = known.get("temporal_compression_ratio", 4)
        if not isinstance(ratio, int | float) or ratio != int(ratio) or int(ratio) & (int(ratio) - 1) or ratio < 1:
            raise InputError(f"VAE config: temporal_compression_ratio={ratio!r} is not a power of two")
        known["temporal_compression_ratio"] = int(ratio)
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `config.json` in the diffusers layout."""
        levels = len(self.block_out_channels)
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        own["block_out_channels"] = list(self.block_out_channels)
        return {
            "_class_name": _CLASS_NAME,
            **_FIXED,
            **own,
            "down_block_types": ["CogVideoXDownBlock3D"] * levels,
            "up_block_types": ["CogVideoXUpBlock3D"] * levels,
        }
