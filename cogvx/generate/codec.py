"""Clips to latents and back: a VAE with its scaling factor, its tiles and a device."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cogvx.generate.options import Runtime
from cogvx.models.vae import CausalVAE, Tiling, VAEConfig

if TYPE_CHECKING:
    import numpy as np


class Codec:
    """Encodes and decodes clips with one VAE."""

    def __init__(self, vae: Callable[[], CausalVAE], config: VAEConfig, runtime: Runtime) -> None:
        """Wrap a VAE.

        Args:
            vae: Returns the VAE when it is needed, on the runtime's device.
            config: Its configuration.
            runtime: Device and precision.
        """
        self._vae = vae
        self.config = config
        self.runtime = runtime

    def encode(self, video: Tensor, *, sample: torch.Generator | None = None, tiled: bool = False) -> Tensor:
        """Return the latents (c t h w), float32 on the CPU, times the scaling factor, of a clip (3 t h w) in [-1, 1].

        They are the posterior's mean, or with a generator a sample of it.
        """
        return self.posterior(video, sample=sample, tiled=tiled) * self.config.scaling_factor

    @torch.no_grad()
    def posterior(self, video: Tensor, *, sample: torch.Generator | None = None, tiled: bool = False) -> Tensor:
        """Return the posterior's mean, or a sample of it, without the scaling factor; else as encode."""
        vae = self._vae()
        pixels = video[None].to(self.runtime.device, self.runtime.dtype)
        posterior = vae.encode(pixels, tiling=self._tiling(tiled))
        return (posterior.mean if sample is None else posterior.sample(generator=sample))[0].float().cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor, *, tiled: bool = False) -> "np.ndarray":
        """Return the frames (t h w 3), uint8, of latents (c t h w) times the scaling factor."""
        from cogvx.data.video import to_frames

        vae = self._vae()
        video = vae.decode(latents[None].to(self.runtime.device, self.runtime.dtype), tiling=self._tiling(tiled))
        return to_frames(video[0])

    def _tiling(self, tiled: bool) -> Tiling | None:
        return Tiling.default(self.config) if tiled else None
