"""Where a model's parts wait, and how they come to the device."""

import gc
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cogvx.checkpoints.lora import LoRA, apply_lora, match_lora
from cogvx.checkpoints.model_folder import ModelFolder
from cogvx.diffusion.schedule import Schedule
from cogvx.generate.options import Runtime
from cogvx.models.text_encoder import TextEncoder
from cogvx.models.transformer import ExpertTransformer
from cogvx.models.vae import CausalVAE


class Parts(Protocol):
    """What a Generator needs of a model. Each call may drop the part that was given before."""

    @property
    def schedule(self) -> Schedule:
        """Noise levels."""

    def text_encoder(self) -> TextEncoder:
        """Prompts to embeddings."""

    def transformer(self) -> ExpertTransformer:
        """Noised latents to velocity."""

    def vae(self) -> CausalVAE:
        """Clips to latents and back."""


class LoadedParts:
    """Parts that are in memory already, such as those of a training run."""

    def __init__(
        self, *, vae: CausalVAE, transformer: ExpertTransformer, text_encoder: TextEncoder, schedule: Schedule
    ) -> None:
        self._vae, self._transformer, self._text_encoder = vae, transformer, text_encoder
        self.schedule = schedule

    def text_encoder(self) -> TextEncoder:
        """Return the text encoder."""
        return self._text_encoder

    def transformer(self) -> ExpertTransformer:
        """Return the transformer."""
        return self._transformer

    def vae(self) -> CausalVAE:
        """Return the VAE."""
        return self._vae


class StoredParts:
    """Parts that are read from a model's folder when they are needed; runtime.memory decides how long they stay."""

    def __init__(self, folder: ModelFolder, runtime: Runtime, *, loras: Iterable[tuple[LoRA, float]] = ()) -> None:
        """Prepare to read a model; nothing is read yet.

        Args:
            folder: The model.
            runtime: Device, precision, and where the weights wait.
            loras: Adapters of the transformer and their weights.

        Raises:
            InputError: A LoRA does not fit the model.
        """
        self.folder = folder
        self.runtime = runtime
        self.loras = tuple(loras)
        self.schedule = folder.schedule()
        self.warnings = self._check_loras()
        self._kept: dict[str, Any] = {}

    def text_encoder(self) -> TextEncoder:
        """Return the text encoder, read if it is not here."""
        return self._get("text_encoder")

    def transformer(self) -> ExpertTransformer:
        """Return the transformer with its LoRAs, read if it is not here."""
        return self._get("transformer")

    def vae(self) -> CausalVAE:
        """Return the VAE, read if it is not here."""
        return self._get("vae")

    def release(self) -> None:
        """Drop every part from memory."""
        self._kept.clear()
        gc.collect()
        if self.runtime.device.type == "cuda":
            torch.cuda.empty_cache()

    def _check_loras(self) -> list[str]:
        """Match the LoRAs with names and shapes in the model's files, before anything is loaded; return warnings."""
        if not self.loras:
            return []
        weights = self.folder.weights("transformer")
        names = [name for name, stored in weights.items() if name.endswith(".weight") and len(stored.shape) > 1]
        shapes = {name.removesuffix(".weight"): weights[name].shape for name in names}
        return [warning for lora, _ in self.loras for warning in match_lora(lora, shapes)[1]]

    def _get(self, name: str) -> Any:
        if name not in self._kept:
            if self.runtime.memory != "none":
                self.release()
            self._kept[name] = self._load(name)
        return self._kept[name]

    def _load(self, name: str) -> Any:
        runtime = self.runtime
        if name == "vae":
            return self.folder.load_vae(dtype=runtime.dtype, device=runtime.device)
        by_layer = runtime.memory == "layer"
        # By layer, the weights wait in memory as they are stored, and become dtype on their way to the device.
        dtype, device = (None, torch.device("cpu")) if by_layer else (runtime.dtype, runtime.device)
        if name == "text_encoder":
            text_encoder = self.folder.load_text_encoder(dtype=dtype, device=device)
            if by_layer:
                t5: Any = text_encoder.encoder
                stream_layers(text_encoder, t5.encoder.block, runtime)
            return text_encoder
        transformer = self.folder.load_transformer(dtype=dtype, device=device)
        for lora, weight in self.loras:
            # As if it were to be trained, a LoRA stays float32 until its layer goes to the device.
            apply_lora(transformer, lora, weight, trainable=by_layer)
        transformer.requires_grad_(False)
        transformer.attention_backend = runtime.attention
        if by_layer:
            stream_layers(transformer, transformer.transformer_blocks, runtime)
        return transformer


def stream_layers(module: nn.Module, layers: Iterable[nn.Module], runtime: Runtime) -> None:
    """Let each layer be on the device, in the runtime's precision, only while it runs; the rest stays there.

    Args:
        module: A module on the CPU, in the precision of its file.
        layers: The submodules that take most of its memory.
        runtime: Device and precision.
    """
    streamed: set[int] = set()
    for layer in layers:
        waiting = {name: parameter.data for name, parameter in layer.named_parameters()}
        streamed.update(id(parameter) for parameter in layer.parameters())

        def fetch(layer: nn.Module, inputs: Any, waiting: dict[str, Tensor] = waiting) -> None:
            for name, parameter in layer.named_parameters():
                parameter.data = waiting[name].to(runtime.device, _precision(name, runtime.dtype))

        def give_back(layer: nn.Module, inputs: Any, output: Any, waiting: dict[str, Tensor] = waiting) -> None:
            for name, parameter in layer.named_parameters():
                parameter.data = waiting[name]

        layer.register_forward_pre_hook(fetch)
        layer.register_forward_hook(give_back)
    for name, parameter in module.named_parameters():
        if id(parameter) not in streamed:
            parameter.data = parameter.data.to(runtime.device, _precision(name, runtime.dtype))
    for _, buffer in module.named_buffers():
        buffer.data = buffer.data.to(runtime.device, runtime.dtype if buffer.is_floating_point() else buffer.dtype)


def _precision(name: str, dtype: torch.dtype) -> torch.dtype:
    # transformers keeps these weights of T5 in float32 when the rest is float16, whose range is too small for them.
    return torch.float32 if dtype == torch.float16 and name.split(".")[-2:] == ["wo", "weight"] else dtype
