"""The distribution of a clip's latents."""

import torch
from torch import Tensor


class DiagonalGaussian:
    """Independent normal distribution of each latent value, before the scaling factor.

    Attributes:
        mean: (b c t h w).
        logvar: (b c t h w), clamped to [-30, 20].
    """

    def __init__(self, moments: Tensor) -> None:
        """Split the encoder's output.

        Args:
            moments: (b 2c t h w), means then log-variances.
        """
        self.mean, logvar = moments.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    def sample(self, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents (b c t h w); the noise comes from the generator's device."""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + torch.exp(0.5 * self.logvar) * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence from the standard normal, in nats per clip: (b,)."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).flatten(1).sum(dim=1)
