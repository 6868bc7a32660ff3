"""The result of a training run, in the diffusers layout."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cogvx.checkpoints.diffusers import model_index
from cogvx.checkpoints.model_folder import pipeline_class
from cogvx.checkpoints.saving import TRANSFORMERS_STEM, write_component, write_json
from cogvx.checkpoints.tokenizer import copy_tokenizer
from cogvx.models.transformer import ExpertTransformer
from cogvx.presets import read_defaults
from cogvx.training.conditioning import ImageLatent
from cogvx.training.recipe import Recipe
from cogvx.training.start import StartingModel, takes_image

_WORDS, _WORDS_AGAIN = "shared.weight", "encoder.embed_tokens.weight"  # one table of T5 under two names


def export_model(
    folder: Path,
    model: StartingModel,
    recipe: Recipe,
    *,
    transformer: ExpertTransformer,
    text_encoder: nn.Module | None,
    dtype: torch.dtype,
) -> None:
    """Write a whole model: what was trained, and the parts that it was trained with.

    Args:
        folder: The folder.
        model: Where the parts come from that were not trained.
        recipe: The run; its last stage says what clips the model makes by default.
        transformer: What was trained.
        text_encoder: The T5 encoder, if it was trained.
        dtype: Of the trained weights in the file.
    """
    with_image = takes_image(transformer.config, model.vae_config)
    configs = {"transformer": transformer.config.to_dict(), "scheduler": model.schedule.config}
    write_component(_cast(transformer.state_dict(), dtype), configs["transformer"], folder / "transformer")
    configs["vae"] = write_vae(folder / "vae", model, recipe.diffusion.image_latent if with_image else "diffusers")
    _write_text_encoder(folder / "text_encoder", model, text_encoder, dtype)
    copy_tokenizer(model.folders["tokenizer"], folder / "tokenizer")
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    write_json(folder / "scheduler" / "scheduler_config.json", configs["scheduler"])
    names = dict.fromkeys(("vae", "transformer", "text_encoder", "tokenizer", "scheduler"))
    index = model_index(pipeline_class(configs["transformer"]), names)
    base = model.folders["transformer"].configs["model_index"] if "transformer" in model.folders else {}
    own = _own_defaults(recipe, configs, base.get("_cogvx", {}))
    write_json(folder / "model_index.json", {**index, **({"_cogvx": own} if own else {})})


def vae_config(model: StartingModel, convention: ImageLatent) -> dict[str, Any]:
    """Return the `config.json` of the VAE, saying the image latents that the transformer was trained with."""
    config = model.vae_config
    inverse = config.invert_scale_latents and convention == "diffusers"
    return replace(config, invert_scale_latents=inverse).to_dict()


def write_vae(folder: Path, model: StartingModel, convention: ImageLatent = "diffusers") -> dict[str, Any]:
    """Write the VAE that a run used into a folder, and return the content of its `config.json`."""
    config = vae_config(model, convention)
    if "vae" in model.folders:
        write_component(model.folders["vae"].weights("vae"), config, folder)
    else:
        write_component(model.vae(torch.device("cpu")).state_dict(), config, folder)
    return config


def _write_text_encoder(folder: Path, model: StartingModel, trained: nn.Module | None, dtype: torch.dtype) -> None:
    if trained is None and "text_encoder" in model.folders:
        source = model.folders["text_encoder"]
        write_component(source.weights("text_encoder"), source.configs["text_encoder"], folder, stem=TRANSFORMERS_STEM)
        return
    encoder: Any = trained if trained is not None else model.text_encoder(torch.device("cpu")).encoder
    config = {**encoder.config.to_dict(), "architectures": ["T5EncoderModel"]}
    state = {key: value for key, value in encoder.state_dict().items() if key != _WORDS_AGAIN}
    write_component(_cast(state, dtype), config, folder, stem=TRANSFORMERS_STEM)


def _own_defaults(recipe: Recipe, configs: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return what sampling must know that the configs do not tell: size, length and rate of the trained clips."""
    stage = recipe.stages[-1]
    height, width = max(stage.sizes, key=lambda size: size[0] * size[1])
    trained = {"height": height, "width": width, "num_frames": stage.max_frames, "fps": recipe.data.fps}
    implied = asdict(read_defaults(configs))
    return {**base, **{key: value for key, value in trained.items() if key in base or value != implied[key]}}


def _cast(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {key: (value.to(dtype) if value.is_floating_point() else value).contiguous() for key, value in state.items()}
