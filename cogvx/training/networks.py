"""Which networks a recipe trains and uses, from configs alone: nothing is downloaded and no weights are read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import torch
from torch import nn

from cogvx.checkpoints.diffusers import open_model
from cogvx.errors import InputError, MissingError, UsageError
from cogvx.models.captioner import Captioner, CaptionerConfig
from cogvx.models.dual_encoder import DualEncoder, DualEncoderConfig
from cogvx.models.transformer import ExpertTransformer, TransformerConfig
from cogvx.models.vae import CausalVAE, VAEConfig
from cogvx.presets import PRESETS, Preset, cached_path, fetch_command, is_name, resolve
from cogvx.training.clip_text import clip_text_config, placeholders
from cogvx.training.recipe import CLIP_TEXT, Recipe

_MAX_SIZE = 1_000_000
_MAX_LAYERS = 1000

# The official checkpoints, for plans on machines that do not have them; keys left out have the defaults of the configs.
_5B = {"num_layers": 42, "num_attention_heads": 48, "use_rotary_positional_embeddings": True}
_1_5 = _5B | {"patch_size_t": 2, "patch_bias": False, "sample_height": 300, "sample_width": 300, "sample_frames": 81}
_TRANSFORMERS: dict[str, dict[str, Any]] = {
    "2b": {},
    "5b": _5B,
    "5b-i2v": _5B | {"in_channels": 32, "use_learned_positional_embeddings": True},
    "1.5-5b": _1_5,
    "1.5-5b-i2v": _1_5 | {"in_channels": 32, "ofs_embed_dim": 512},
}
_T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}

Config = TypeVar("Config", VAEConfig, TransformerConfig)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Sizes of a run's networks.

    Attributes:
        vae: Of the VAE.
        transformer: Of the transformer as it is trained; None when something else is.
        text_encoder: Content of the text encoder's `config.json`; None without a transformer.
        clip_text: Of the captioner or the dual encoder, with as many words as it may get; None when another is trained.
    """

    vae: VAEConfig
    transformer: TransformerConfig | None = None
    text_encoder: Mapping[str, Any] | None = None
    clip_text: CaptionerConfig | DualEncoderConfig | None = None


def read_networks(recipe: Recipe) -> Networks:
    """Return the sizes of the networks that a recipe names.

    Raises:
        UsageError: A table of the recipe is no config, or nothing says what a part is.
        InputError: A model's files are damaged.
        MissingError: A model is neither on this machine nor an official one.
    """
    vae = _vae(recipe)
    if recipe.kind == "vae":
        return Networks(vae=vae)
    if recipe.kind in CLIP_TEXT:
        return Networks(vae=vae, clip_text=clip_text_config(recipe, vae, placeholders(recipe)))
    transformer = _transformer(recipe)
    if recipe.kind == "i2v" and transformer.in_channels == transformer.out_channels:
        transformer = replace(transformer, in_channels=transformer.in_channels + vae.latent_channels)
    return Networks(vae=vae, transformer=transformer, text_encoder=_text_encoder(recipe))


def build(config: VAEConfig | TransformerConfig | CaptionerConfig | DualEncoderConfig) -> nn.Module:
    """Return a network without weights, on the meta device.

    Raises:
        UsageError: Its sizes do not go together.
    """
    try:
        with torch.device("meta"):
            if isinstance(config, CaptionerConfig):
                return Captioner(config)
            if isinstance(config, DualEncoderConfig):
                return DualEncoder(config)
            return CausalVAE(config) if isinstance(config, VAEConfig) else ExpertTransformer(config)
    except (ValueError, RuntimeError, ZeroDivisionError, IndexError) as error:
        name = "vae" if isinstance(config, VAEConfig) else "transformer"
        raise UsageError(f"the sizes of model.{name} do not go together: {error}") from error


def _vae(recipe: Recipe) -> VAEConfig:
    if recipe.model.vae:
        return _checked(VAEConfig, recipe.model.vae, "model.vae")
    return _checked(VAEConfig, _config(recipe, "vae"), "vae")


def _transformer(recipe: Recipe) -> TransformerConfig:
    if recipe.model.transformer:
        return _checked(TransformerConfig, recipe.model.transformer, "model.transformer")
    return _checked(TransformerConfig, _config(recipe, "transformer"), "transformer")


def _text_encoder(recipe: Recipe) -> Mapping[str, Any]:
    config = dict(recipe.model.text_encoder or _config(recipe, "text_encoder"))
    for key in ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"):
        limit = _MAX_LAYERS if key == "num_layers" else _MAX_SIZE
        if type(config.get(key)) is not int or not 1 <= config[key] <= limit:
            got = config.get(key)
            raise UsageError(f"model.text_encoder: {key} must be a whole number from 1 to {limit}, got {got!r}")
    return config


def _config(recipe: Recipe, part: str) -> Mapping[str, Any]:
    """Return the content of the `config.json` of a part that comes from a model."""
    source = recipe.model.parts.get(part, recipe.model.base)
    if not source:
        raise UsageError(f"the recipe says nothing about the {part}: give model.base, model.parts or [model.{part}]")
    preset = PRESETS.get(source.lower()) or next((p for p in PRESETS.values() if source in (p.repo, p.old_repo)), None)
    if preset is not None and preset.repo is not None and cached_path(preset) is None:
        return _official(preset, part)
    if preset is None and is_name(source) and not _is_here(source):
        raise MissingError(f"the model {source} is not on this machine; run `{fetch_command(source)}`")
    found = resolve(source)
    configs = open_model(found.path, shared=found.shared).configs
    if part not in configs:
        raise InputError(f"{source}: no {part} in this model (it has: {', '.join(configs) or 'nothing'})")
    return configs[part]


def _is_here(source: str) -> bool:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if Path(source).expanduser().is_dir():
        return True
    try:
        snapshot_download(source, local_files_only=True)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        return False
    return True


def _official(preset: Preset, part: str) -> Mapping[str, Any]:
    if part == "transformer":
        return _TRANSFORMERS[preset.name]
    if part == "vae":
        scaling = VAEConfig().scaling_factor if preset.name == "2b" else 0.7
        return {"scaling_factor": scaling, "invert_scale_latents": preset.name.startswith("1.5")}
    return _T5_XXL


def _checked(kind: type[Config], table: Mapping[str, Any], where: str) -> Config:
    """Make a config from a table of the recipe, whatever nonsense stands in it."""
    try:
        made = kind.from_dict(dict(table))
        hints = get_type_hints(kind)
        values = {name: getattr(made, name) for name in hints}
    except InputError as error:
        raise UsageError(f"{where}: {error}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(f"{where}: {error}") from error
    for name, value in values.items():
        _check_value(value, hints[name], f"{where}: {name}", limit=_MAX_LAYERS if "layers" in name else _MAX_SIZE)
    return made


def _check_value(value: Any, hint: Any, where: str, *, limit: int) -> None:
    if hint == tuple[int, ...]:
        fits = 0 < len(value) <= 16 and all(type(item) is int and 0 < item <= limit for item in value)
    elif hint is float:
        fits = type(value) in (int, float) and 0 < abs(value) <= limit
    elif int in (hint, *get_args(hint)):
        fits = (value is None and hint is not int) or (type(value) is int and 0 < value <= limit)
    elif hint is bool:
        fits = type(value) is bool
    else:
        return
    if not fits:
        raise UsageError(f"{where} cannot be {value!r}")
