"""The small pair of encoders that lies in a model's folder, with the VAE that it was trained with."""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from cogvx.checkpoints.clip_text import DUAL_ENCODER, load_dual_encoder
from cogvx.checkpoints.diffusers import open_model
from cogvx.checkpoints.hashes import combined
from cogvx.checkpoints.weights import weight_files
from cogvx.data.clips import read_fitting
from cogvx.data.video import to_video
from cogvx.errors import InputError, MissingError
from cogvx.files import clean
from cogvx.generate.codec import Codec
from cogvx.generate.options import Runtime
from cogvx.models.dual_encoder import DualEncoder
from cogvx.presets import resolve


@dataclass(frozen=True)
class LocalDualEncoder:
    """A dual encoder and its VAE, both in float32, ready for clips one by one.

    Attributes:
        name: What the model is called.
        sha256: One hash of both weights.
        network: The encoders.
        codec: The VAE.
    """

    name: str
    sha256: str
    network: DualEncoder
    codec: Codec

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Return a clip's frames, uint8 (t h w 3), at the rate, size and length of the training; safe in a thread.

        Raises:
            InputError: The clip cannot be read, or has nothing in the span.
        """
        config = self.network.config
        return read_fitting(
            path, sizes=config.sizes, max_frames=config.num_frames, fps=config.fps, start=start, end=end
        )

    @torch.inference_mode()
    def clip_features(self, frames: np.ndarray) -> torch.Tensor:
        """Return the vector (d), float32 on the CPU, of any length, of frames as `read` gives them."""
        latents = self.codec.encode(to_video(frames))[None].to(self.codec.runtime.device)
        return self.network.clip_features(latents)[0].float().cpu()

    @torch.inference_mode()
    def text_features(self, texts: list[str]) -> torch.Tensor:
        """Return vectors (n d), float32 on the CPU, of length 1, of texts."""
        return self.network.encode_captions(texts).float().cpu()

    def sampling(self) -> dict[str, object]:
        """Return how clips are read, for a protocol."""
        config = self.network.config
        sizes = [f"{height}x{width}" for height, width in config.sizes]
        return {"frames": config.num_frames, "fps": config.fps, "sizes": sizes, "crop": "Lanczos to cover, centre"}


def open_dual_encoder(model: str, *, device: torch.device) -> LocalDualEncoder:
    """Load a model's dual encoder, and open its VAE, which is read with the first clip; nothing is downloaded.

    Args:
        model: The name of an embedded model, or a folder with `dual_encoder/` and `vae/`.
        device: Where they compute.

    Raises:
        MissingError: The embedded model of this build has none.
        InputError: The folder has none, or the files are damaged or do not fit each other.
    """
    resolved = resolve(model)
    place = resolved.path / DUAL_ENCODER
    if not (place / "config.json").is_file():
        advice = "name a folder that has one; `cogvx train dual-encoder` makes it"
        if resolved.preset is not None:
            raise MissingError(f"the model {resolved.name} of this build of cogvx has no dual encoder; {advice}")
        raise InputError(f"{clean(str(resolved.path))}: no dual encoder in this model; {advice}")
    folder = open_model(resolved.path, shared=dict(resolved.shared))
    network = load_dual_encoder(resolved.path, device=device)
    if folder.vae_config.latent_channels != network.config.latent_channels:
        raise InputError(
            f"{clean(str(resolved.path))}: the dual encoder takes latents of {network.config.latent_channels} "
            f"channels, the VAE makes {folder.vae_config.latent_channels}"
        )
    vae = cache(partial(folder.load_vae, device=device))
    codec = Codec(vae, folder.vae_config, Runtime(device=device, dtype=torch.float32))
    sha256 = combined([*weight_files(place), *weight_files(folder.components["vae"])])
    return LocalDualEncoder(resolved.name, sha256, network, codec)
