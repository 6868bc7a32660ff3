"""A model on disk, whatever its layout: its configs, and its parts when they are asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import torch

from cogvx.checkpoints.hashes import combined
from cogvx.checkpoints.loading import check_weights, load_module
from cogvx.checkpoints.weights import Weights, read_json, shown, weight_files
from cogvx.diffusion.schedule import Schedule
from cogvx.errors import InputError, RefusedError
from cogvx.models.text_encoder import TextEncoder
from cogvx.models.transformer.config import TransformerConfig
from cogvx.models.transformer.model import ExpertTransformer
from cogvx.models.vae.autoencoder import CausalVAE
from cogvx.models.vae.config import VAEConfig

WEIGHTED = ("vae", "transformer", "text_encoder")
COMPONENTS = (*WEIGHTED, "tokenizer", "scheduler")
PIPELINES = (
    "CogVideoXPipeline",
    "CogVideoXImageToVideoPipeline",
    "CogVideoXVideoToVideoPipeline",
    "CogVideoXFunControlPipeline",
)
_T5_ALIASES = {"encoder.embed_tokens.weight": "shared.weight"}  # one table under two names
_T5_UNUSED = ("decoder.", "lm_head.")  # a file of the whole T5 has them
_MAX_LENGTH = 226
_LIMITS = {"num_layers": 1000, "layers_per_block": 100}
_MAX_SIZE = 10_000_000

Device = torch.device | str
Config = TypeVar("Config", VAEConfig, TransformerConfig)


@dataclass(frozen=True)
class ModelFolder:
    """A model that was found and whose configs were read; weights are read when a part is loaded.

    Attributes:
        path: Its folder.
        class_name: Class of its pipeline in diffusers; says text to video or image to video.
        components: Where each part lies (vae, transformer, text_encoder, tokenizer, scheduler; those that are there).
        configs: Content of each part's config file, and of the model's own (`model_index`).
        layout: "diffusers" or "sat".
        readers: How to open the weights of each part that has some.
    """

    path: Path
    class_name: str
    components: Mapping[str, Path]
    configs: Mapping[str, dict[str, Any]]
    layout: str
    readers: Mapping[str, Callable[[], Weights]]

    @property
    def vae_config(self) -> VAEConfig:
        """Sizes of the VAE."""
        return _checked(VAEConfig, self._config("vae"), self._where("vae"))

    @property
    def transformer_config(self) -> TransformerConfig:
        """Sizes of the transformer."""
        return _checked(TransformerConfig, self._config("transformer"), self._where("transformer"))

    @property
    def max_text_length(self) -> int:
        """Tokens that a prompt is padded to."""
        return int(self.configs.get("transformer", {}).get("max_text_seq_length", _MAX_LENGTH))

    def weights(self, name: str) -> Weights:
        """Open the weights of a part, under their diffusers (or transformers) names, without reading them.

        Raises:
            InputError: The model has no such part, or its files are damaged.
            RefusedError: Only pickles are there, and they are not allowed.
        """
        if name not in self.readers:
            raise InputError(
                f"{shown(self.path)}: no {name} in this model (it has: {', '.join(self.components) or 'nothing'})"
            )
        return self.readers[name]()

    def check(self, name: str) -> None:
        """Check names and shapes of a part's weights against its config, without reading the weights.

        Raises:
            InputError: They differ, or the part is not there.
        """
        with torch.device("meta"):
            if name == "vae":
                module: torch.nn.Module = CausalVAE(self.vae_config)
            elif name == "transformer":
                module = ExpertTransformer(self.transformer_config)
            else:
                return
        shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
        check_weights(self.weights(name), shapes, name=self._where(name))

    def load_vae(self, dtype: torch.dtype | None = torch.float32, device: Device = "cpu") -> CausalVAE:
        """Load the VAE, in the type of the file if dtype is None (errors: see weights and load_module)."""
        config = self.vae_config
        return load_module(
            lambda: CausalVAE(config), self.weights("vae"), name=self._where("vae"), dtype=dtype, device=device
        )

    def load_transformer(self, dtype: torch.dtype | None = torch.float32, device: Device = "cpu") -> ExpertTransformer:
        """Load the transformer, in the type of the file if dtype is None (errors: see weights and load_module)."""
        config = self.transformer_config
        return load_module(
            lambda: ExpertTransformer(config),
            self.weights("transformer"),
            name=self._where("transformer"),
            dtype=dtype,
            device=device,
        )

    def load_text_encoder(self, dtype: torch.dtype | None = torch.float32, device: Device = "cpu") -> TextEncoder:
        """Load the T5 encoder and its tokenizer.

        In float16 the second projection of every feed-forward stays float32, as the transformers library has it: its
        values do not fit.
        """
        from transformers import T5Config, T5EncoderModel

        where = self._where("text_encoder")
        raw = self._config("text_encoder")
        if raw.get("model_type", "t5") != "t5":
            raise InputError(f"{where}: a text encoder of type {raw['model_type']!r} is not supported (only t5)")
        _check_sizes(raw, where)
        try:
            config = T5Config.from_dict({**raw, "torch_dtype": None, "dtype": None})
        except Exception as error:  # transformers raises many kinds for a config that is none
            raise InputError(f"{where}: not the config of a T5 encoder: {error}") from error
        tokenizer = self.load_tokenizer()
        encoder = load_module(
            lambda: T5EncoderModel(config),
            self.weights("text_encoder"),
            name=where,
            dtype=dtype,
            device=device,
            keep_fp32=lambda key: dtype == torch.float16 and ".wo." in key,
            aliases=_T5_ALIASES,
            ignore=_T5_UNUSED,
        )
        return TextEncoder(tokenizer, encoder, self.max_text_length)

    def load_tokenizer(self) -> Any:
        """Load the tokenizer from its folder, never from the network, and never with code of its own."""
        from transformers import AutoTokenizer

        if "tokenizer" not in self.components:
            raise InputError(f"{shown(self.path)}: no tokenizer in this model")
        folder = self.components["tokenizer"]
        for name in ("tokenizer_config.json", "config.json"):
            if (folder / name).exists() and "auto_map" in read_json(folder / name):
                raise RefusedError(f"{shown(folder / name)}: refused: the tokenizer asks for code of its own")
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # OSError, ValueError, and whatever tokenizers and sentencepiece raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{shown(folder)}: no usable T5 tokenizer: {reason}") from error

    def schedule(self) -> Schedule:
        """Make the noise schedule from scheduler_config.json."""
        return Schedule.from_config(self._config("scheduler"))

    def weights_sha256(self, name: str) -> str:
        """Return the hash of one part's weight files (see cogvx.checkpoints.hashes)."""
        if name not in self.components:
            raise InputError(f"{shown(self.path)}: no {name} in this model")
        place = self.components[name]
        return combined([place] if place.is_file() else weight_files(place))

    def _config(self, name: str) -> dict[str, Any]:
        if name not in self.configs:
            raise InputError(
                f"{shown(self.path)}: no {name} in this model (it has: {', '.join(self.components) or 'nothing'})"
            )
        return self.configs[name]

    def _where(self, name: str) -> str:
        return shown(self.components.get(name, self.path / name))


def pipeline_class(transformer: Mapping[str, Any]) -> str:
    """Return the class of the pipeline for a transformer: image to video where it takes more channels than it gives."""
    with_image = transformer.get("in_channels", 16) > transformer.get("out_channels", 16)
    return "CogVideoXImageToVideoPipeline" if with_image else "CogVideoXPipeline"


def _checked(kind: type[Config], raw: dict[str, Any], where: str) -> Config:
    """Make a config from a file's content, whatever nonsense stands in it."""
    _check_sizes(raw, where)
    try:
        made = kind.from_dict(raw)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: config.json: {error}") from error
    for name, wanted in get_type_hints(kind).items():
        value = getattr(made, name)
        if wanted == tuple[int, ...]:
            fits = all(type(item) is int for item in value)
        elif wanted is float:
            fits = type(value) in (int, float)
        elif get_origin(wanted) is Literal:
            fits = value in get_args(wanted)
        else:
            fits = type(value) in (get_args(wanted) or (wanted,))
        if not fits:
            raise InputError(f"{where}: config.json: {name} is {value!r}")
    return made


def _check_sizes(raw: dict[str, Any], where: str) -> None:
    """Refuse sizes that no model has, before anything is built from them."""
    for key, value in raw.items():
        values = value if isinstance(value, list) else [value]
        limit = _LIMITS.get(key, _MAX_SIZE)
        if len(values) > 1000 or any(isinstance(item, int | float) and not abs(item) <= limit for item in values):
            raise InputError(f"{where}: config.json: {key} is out of bounds")
        if any(isinstance(item, int) and item < 0 for item in values) and key != "shift_factor":
            raise InputError(f"{where}: config.json: {key} is negative")
