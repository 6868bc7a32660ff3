"""The 3D causal VAE."""

from cogvx.models.vae.autoencoder import CausalVAE, chunk_bounds
from cogvx.models.vae.config import VAEConfig
from cogvx.models.vae.gaussian import DiagonalGaussian
from cogvx.models.vae.parallel import Norms, Part, check_frames, cut
from cogvx.models.vae.tiling import Tiling

__all__ = [
    "CausalVAE",
    "DiagonalGaussian",
    "Norms",
    "Part",
    "Tiling",
    "VAEConfig",
    "check_frames",
    "chunk_bounds",
    "cut",
]
