"""The model that a training run starts from: each part read from a model, or made from nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cogvx.checkpoints.diffusers import open_model
from cogvx.checkpoints.model_folder import ModelFolder
from cogvx.diffusion.schedule import Schedule
from cogvx.errors import UsageError
from cogvx.models.text_encoder import TextEncoder
from cogvx.models.transformer import ExpertTransformer, TransformerConfig
from cogvx.models.vae import CausalVAE, VAEConfig
from cogvx.presets import resolve
from cogvx.training.draws import seeded, source
from cogvx.training.recipe import ModelOptions, Recipe

PATCHES = "patch_embed.proj.weight"


@dataclass
class StartingModel:
    """Where each part of a model comes from, and the parts that were made so far.

    Attributes:
        options: What the recipe says.
        seed: Of the weights that are made from nothing.
        folders: Part -> the model that it is read from; a part that is made from nothing has none.
        max_text_length: Tokens of a prompt.
    """

    options: ModelOptions
    seed: int
    folders: Mapping[str, ModelFolder]
    max_text_length: int

    @property
    def schedule(self) -> Schedule:
        """Noise levels: those of the model that is read, else with zero signal at the last time and no shift."""
        return self.folders["scheduler"].schedule() if "scheduler" in self.folders else Schedule()

    @property
    def vae_config(self) -> VAEConfig:
        """Sizes of the VAE."""
        if self.options.vae:
            return VAEConfig.from_dict(dict(self.options.vae))
        return self._folder("vae").vae_config

    @property
    def transformer_config(self) -> TransformerConfig:
        """Sizes of the transformer, before it is given channels for a first frame."""
        if self.options.transformer:
            return TransformerConfig.from_dict(dict(self.options.transformer))
        return self._folder("transformer").transformer_config

    def vae(self, device: torch.device) -> CausalVAE:
        """Return the VAE in float32, not to be trained."""
        if self.options.vae:
            with seeded(self.seed, "vae"):
                vae = CausalVAE(self.vae_config).to(device)
        else:
            vae = self._folder("vae").load_vae(device=device)
        return vae.eval().requires_grad_(False)

    def tokenizer(self) -> Any:
        """Return the tokenizer."""
        return self._folder("tokenizer").load_tokenizer()

    def text_encoder(self, device: torch.device, dtype: torch.dtype = torch.float32) -> TextEncoder:
        """Return the text encoder, not to be trained unless it is asked to."""
        if self.options.text_encoder:
            from transformers import T5Config, T5EncoderModel

            with seeded(self.seed, "text_encoder"):
                encoder: Any = T5EncoderModel(T5Config(**self.options.text_encoder))
            made = TextEncoder(self.tokenizer(), encoder.to(device, dtype), self.max_text_length)
        else:
            loaded = self._folder("text_encoder").load_text_encoder(dtype=dtype, device=device)
            made = TextEncoder(loaded.tokenizer, loaded.encoder, self.max_text_length)
        return made.eval().requires_grad_(False)

    def transformer(
        self, device: torch.device, dtype: torch.dtype = torch.float32, *, with_image: bool = False
    ) -> ExpertTransformer:
        """Return the transformer.

        Args:
            device: Where it goes.
            dtype: Of its weights.
            with_image: Give a text-to-video transformer the channels of a first frame, at zero.
        """
        if self.options.transformer:
            transformer = ExpertTransformer(self.transformer_config)
            init_transformer(transformer, generator=source(self.seed, "transformer"))
            transformer.to(device, dtype)
        else:
            transformer = self._folder("transformer").load_transformer(dtype=dtype, device=device)
        if with_image and not takes_image(transformer.config, self.vae_config):
            transformer = with_image_channels(transformer, self.vae_config.latent_channels)
        return transformer.train()

    def _folder(self, part: str) -> ModelFolder:
        if part not in self.folders:
            raise UsageError(f"the recipe says nothing about the {part}: give model.base, model.parts or model.{part}")
        return self.folders[part]


def find_model(recipe: Recipe, *, announce: Callable[[str], None] = lambda text: None) -> StartingModel:
    """Find the models that a recipe names; only their configs are read.

    Args:
        recipe: The run.
        announce: Called with a line before a download starts.

    Raises:
        UsageError: No model is called so.
        InputError: A model is damaged, or a table of the recipe is no config.
        MissingError: A model is not on this machine and cannot be downloaded.
    """
    options = recipe.model
    opened: dict[str, ModelFolder] = {}

    def opened_once(name: str) -> ModelFolder:
        if name not in opened:
            found = resolve(name, announce=announce)
            opened[name] = open_model(found.path, shared=found.shared)
        return opened[name]

    folders = {part: opened_once(name) for part, name in options.parts.items()}
    if options.base:
        base = opened_once(options.base)
        folders = {part: base for part in base.components} | folders
    for part in ("vae", "text_encoder", "transformer"):
        if getattr(options, part):
            folders.pop(part, None)
    if options.transformer:
        length = TransformerConfig.from_dict(dict(options.transformer)).max_text_length
    else:
        length = folders["transformer"].max_text_length if "transformer" in folders else 0
    return StartingModel(options, recipe.seed, folders, length)


def takes_image(transformer: TransformerConfig, vae: VAEConfig) -> bool:
    """Tell whether a transformer wants a first frame beside the noised latents."""
    return transformer.in_channels > vae.latent_channels


def with_image_channels(transformer: ExpertTransformer, num_channels: int) -> ExpertTransformer:
    """Return an image-to-video transformer that ignores its image: it computes what the given one computes.

    Args:
        transformer: A text-to-video model; its weights are shared with the result, but for the patch projection.
        num_channels: Channels of the image's latents.

    Source: CogVideoX paper (arXiv 2408.06072), "Image to video".
    """
    with torch.device("meta"):
        wide = ExpertTransformer(replace(transformer.config, in_channels=transformer.config.in_channels + num_channels))
    wide.load_state_dict(widen_input(transformer.state_dict(), wide), assign=True)
    wide.attention_backend = transformer.attention_backend
    return wide.requires_grad_(True)


def widen_input(weights: Mapping[str, Tensor], transformer: ExpertTransformer) -> dict[str, Tensor]:
    """Return text-to-video weights for a transformer with more input channels; the new ones start at zero."""
    narrow = weights[PATCHES]
    # A projection over time too is a matrix whose columns are ordered by channel first, as a kernel's are.
    wide = narrow.new_zeros(transformer.state_dict()[PATCHES].shape)
    wide[:, : narrow.shape[1]] = narrow
    return {**weights, PATCHES: wide}


def init_transformer(transformer: ExpertTransformer, *, generator: torch.Generator) -> None:
    """Initialise for training from nothing: modulations and output at zero, projections small.

    Source: zai-org/CogVideo sat/dit_video_concat.py (SPEC of the training from scratch).
    """
    layers = transformer.config.num_layers
    for name, weight in transformer.named_parameters():
        if "norm" in name and "linear" not in name:
            continue
        if name.endswith("bias") or ".linear.weight" in name or name.startswith("proj_out"):
            nn.init.zeros_(weight)
        else:
            out = ".to_out." in name or ".ff.net.2." in name
            flat = weight.flatten(1)
            std = flat.shape[1] ** -0.5 * (0.5 / (2 * layers) ** 0.5 if out else 0.5)
            nn.init.normal_(weight, std=std, generator=generator)
