"""The models that encode clips and prompts ahead of training, and the cache of what they encode."""

import gc
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from cogvx.checkpoints.model_folder import ModelFolder
from cogvx.data.cache import EncodedCache, content_sha256
from cogvx.errors import InputError
from cogvx.files import clean
from cogvx.generate.codec import Codec
from cogvx.generate.estimate import needs_tiles
from cogvx.generate.options import GenerateOptions, Runtime, dtype_name
from cogvx.models.text_encoder import TextEncoder
from cogvx.models.vae import CausalVAE

Tiles = Literal["auto", "on", "off"]


class Encoders(Protocol):
    """What turns pixels and prompts into what is stored."""

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (c t h w), times the scaling factor, of a clip (3 t h w) in [-1, 1]."""

    def embed(self, prompt: str) -> Tensor:
        """Return the embeddings (l d) of a prompt."""

    def release_text(self) -> None:
        """Give back the memory of the text encoder."""


class ModelEncoders:
    """The VAE and the text encoder of a model, each read when it is first needed."""

    def __init__(self, folder: ModelFolder, runtime: Runtime, *, tiles: Tiles = "auto") -> None:
        """Prepare to read a model.

        Args:
            folder: The model.
            runtime: Device and precision.
            tiles: Whether the VAE works in tiles where frames are larger than one; "auto" where memory demands it.
        """
        self._folder, self._runtime, self._tiles = folder, runtime, tiles
        self._vae: CausalVAE | None = None
        self._text: TextEncoder | None = None
        self._codec = Codec(self._load_vae, folder.vae_config, runtime) if "vae" in folder.configs else None
        # What was computed in half precision need not be stored in full; float16 is not a form of the files.
        self._stored = torch.bfloat16 if runtime.dtype == torch.bfloat16 else torch.float32

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (c t h w), times the scaling factor, of a clip (3 t h w) in [-1, 1]."""
        if self._codec is None:
            raise InputError(f"{clean(str(self._folder.path))}: no vae in this model")
        _, t, height, width = video.shape
        mean, std = self._codec.distribution(video, tiled=self._tiled(t, height, width))
        return mean.to(self._stored), std.to(self._stored)

    def embed(self, prompt: str) -> Tensor:
        """Return the embeddings (l d) of a prompt; one at a time, so that others do not change the numbers."""
        if self._text is None:
            self._text = self._folder.load_text_encoder(dtype=self._runtime.dtype, device=self._runtime.device)
        return self._text.encode([prompt])[0].cpu().to(self._stored)

    def release_text(self) -> None:
        """Give back the memory of the text encoder."""
        self._text = None
        gc.collect()
        if self._runtime.device.type == "cuda":
            torch.cuda.empty_cache()

    def _load_vae(self) -> CausalVAE:
        if self._vae is None:
            self._vae = self._folder.load_vae(dtype=self._runtime.dtype, device=self._runtime.device)
        return self._vae

    def _tiled(self, num_frames: int, height: int, width: int) -> bool:
        if self._tiles != "auto":
            return self._tiles == "on"
        options = GenerateOptions(prompt="", height=height, width=width, num_frames=num_frames)
        return needs_tiles(options, vae=self._folder.vae_config)


def open_cache(folder: Path, model: ModelFolder, *, dtype: torch.dtype, tiles: Tiles = "auto") -> EncodedCache:
    """Return the cache in a folder, for what a model encodes in a precision.

    The names of what is kept hold the hashes of the weights, and whatever else changes the numbers: other weights, or
    another precision, never find it.
    """
    vae = text = ""
    if "vae" in model.components:
        vae = _digest(model.weights_sha256("vae"), asdict(model.vae_config), dtype_name(dtype), tiles)
    if "text_encoder" in model.components:
        ignored = ("architectures", "dtype", "torch_dtype", "transformers_version")
        config = {key: value for key, value in model.configs.get("text_encoder", {}).items() if key not in ignored}
        config = {key: value for key, value in config.items() if not key.startswith("_")}
        tokenizer = content_sha256(model.components["tokenizer"]) if "tokenizer" in model.components else ""
        text = _digest(
            model.weights_sha256("text_encoder"), config, tokenizer, model.max_text_length, dtype_name(dtype)
        )
    return EncodedCache(folder, vae, text)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
