"""MS-SSIM: structural similarity at five sizes."""

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional

from cogvx.errors import ShapeError
from cogvx.metrics.reconstruction import WINDOW, check_pair, plane_parts

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST = WINDOW * 2 ** (len(WEIGHTS) - 1)  # 176 pixels: the window fits at the last size


def ms_ssim(reference: Tensor, video: Tensor) -> Tensor:
    """Return the multi-scale structural similarity, (b,), the mean over frames; 1 is equal.

    Window and constants are those of `ssim`. Of each frame, contrast and structure at five sizes (each half the one
    before, by the mean of 2x2 pixels) and luminance at the last are means over pixels and channels, negative ones 0,
    to the powers of the paper, multiplied. What torchmetrics computes for data_range=1, up to its rounding.

    Args:
        reference: (b c t h w) in [0, 1], h and w at least 176.
        video: (b c t h w) in [0, 1].

    Raises:
        ShapeError: The shapes differ, are not (b c t h w), or the frames are too small.

    Source: Wang, Simoncelli, Bovik: Multi-scale Structural Similarity for Image Quality Assessment (2003).
    """
    sizes = check_pair(reference, video)
    if min(sizes["h"], sizes["w"]) < SMALLEST:
        raise ShapeError(f"MS-SSIM needs frames of at least {SMALLEST}x{SMALLEST}, got shape {tuple(video.shape)}")
    frames = zip(*(rearrange(clip, "b c t h w -> (b t) c 1 h w") for clip in (reference, video)), strict=True)
    values = torch.stack([_frame(x, y) for x, y in frames])
    return reduce(values, "(b t) -> b", "mean", b=sizes["b"])


def _frame(x: Tensor, y: Tensor) -> Tensor:
    """Return the MS-SSIM of two pictures (c 1 h w)."""
    dtype = torch.float32 if x.device.type == "mps" else torch.float64
    x, y = x.to(dtype), y.to(dtype)
    result = torch.ones((), dtype=dtype, device=x.device)
    for i, weight in enumerate(WEIGHTS):
        if i:
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
        luminance, structure = plane_parts(x, y)
        last = i == len(WEIGHTS) - 1
        result = result * (luminance * structure if last else structure).mean().clamp_min(0) ** weight
    return result
