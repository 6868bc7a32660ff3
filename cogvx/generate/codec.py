"""Clips to latents and back: a VAE with its scaling factor, its tiles and a device."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cogvx.generate.options import Runtime
from cogvx.models.vae import CausalVAE, DiagonalGaussian, Tiling, VAEConfig

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
        posterior = self._posterior(video, tiled=tiled)
        return (posterior.mean if sample is None else posterior.sample(generator=sample))[0].float().cpu()

    @torch.no_grad()
    def distribution(self, video: Tensor, *, tiled: bool = False) -> tuple[Tensor, Tensor]:
        """Return the posterior of a clip: mean and standard deviation, (c t h w) each; else as encode."""
        posterior = self._posterior(video, tiled=tiled)
        mean, std = posterior.mean[0].float(), torch.exp(0.5 * posterior.logvar[0].float())
        return (mean * self.config.scaling_factor).cpu(), (std * self.config.scaling_factor).cpu()

    def _posterior(self, video: Tensor, *, tiled: bool) -> DiagonalGaussian:
        vae = self._vae()
        pixels = video[None].to(self.runtime.device, self.runtime.dtype)
        return vae.encode(pixels, tiling=self._tiling(tiled))

    @torch.no_grad()
    def decode(self, latents: Tensor, *, tiled: bool = False) -> "np.ndarray":
        """Return the frames (t h w 3), uint8, of latents (c t h w) times the scaling factor."""
        from cogvx.data.video import to_frames

        vae = self._vae()
        video = vae.decode(latents[None].to(self.runtime.device, self.runtime.dtype), tiling=self._tiling(tiled))
        return to_frames(video[0])

    def _tiling(self, tiled: bool) -> Tiling | None:
        return Tiling.default(self.config) if tiled else None
