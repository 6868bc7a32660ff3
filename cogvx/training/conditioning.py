"""What the transformer is given besides the noised latents: a first frame, and the frame that fills a token."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cogvx.models.vae import VAEConfig
from cogvx.shapes import expect

ImageLatent = Literal["diffusers", "sat"]


def fill_front(latents: Tensor, temporal_patch: int) -> Tensor:
    """Return latents (c t h w) with the first frame repeated in front until t is a multiple of the temporal patch.

    Source: CogVideoX paper (arXiv 2408.06072): with patches over time, images and first frames are repeated.
    """
    missing = -latents.shape[1] % temporal_patch
    return torch.cat([latents[:, :1].expand(-1, missing, -1, -1), latents], dim=1) if missing else latents


def image_condition(image_latents: Tensor, num_frames: int) -> Tensor:
    """Return the condition (c t h w) of a first frame's latents (c 1 h w): itself, then zeros.

    In a 1.5 model the first of an even number of frames is the one that was put in front; the image sits there.
    """
    expect(image_latents, "c t h w", "image_latents", t=1)
    return F.pad(image_latents, (0, 0, 0, 0, 0, num_frames - 1))


def image_factor(config: VAEConfig, convention: ImageLatent) -> float:
    """Return what the VAE's latents of a first frame are multiplied by.

    The two differ for the 1.5 models alone, whose configuration has `invert_scale_latents`: "diffusers" divides by the
    scaling factor, as its sampling does, and "sat" multiplies by it, as the official training code does.
    """
    inverse = config.invert_scale_latents and convention == "diffusers"
    return 1 / config.scaling_factor if inverse else config.scaling_factor


def noise_image(frame: Tensor, *, mean: float, std: float, generator: torch.Generator) -> Tensor:
    """Return a first frame with noise of a random strength, exp(N(mean, std)), in the frame's own shape and units.

    Args:
        frame: Pixels (3 t h w) in [-1, 1].
        mean: Of the strength's logarithm.
        std: Of the strength's logarithm; with 0 the strength is exp(mean).
        generator: On the CPU; gives the strength, then the noise.

    Source: CogVideoX paper (arXiv 2408.06072), "Image to video": large noise makes up for the gap between training,
        whose images are frames, and use.
    """
    strength = math.exp(mean + std * float(torch.randn((), generator=generator)))
    return frame + strength * torch.randn(frame.shape, generator=generator).to(frame)
