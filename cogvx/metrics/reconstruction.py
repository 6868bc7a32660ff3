"""How close a reconstructed clip is to its original: PSNR and SSIM.

The numbers of others compare with these only under the same conventions, so each function names its own.
"""

from typing import Literal

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional

from cogvx.errors import ShapeError
from cogvx.shapes import expect

WINDOW = 11
SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2
_MAX_PSNR = 100.0
_SMALLEST_ERROR = 1e-10
_CHUNK = 1 << 24  # values that are filtered at once: bounds the memory


def from_frames(frames: np.ndarray) -> Tensor:
    """Return frames, uint8 (t h w 3), as a batch of one for the metrics: float32 (1 3 t h w) in [0, 1].

    Raises:
        ShapeError: They are not uint8 (t h w 3).
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ShapeError(f"frames: expected uint8 (t h w 3), got {frames.dtype} {tuple(frames.shape)}")
    return rearrange(torch.from_numpy(np.array(frames)), "t h w c -> 1 c t h w").float() / 255


def psnr(reference: Tensor, video: Tensor, *, average: Literal["frame", "global"] = "frame") -> Tensor:
    """Return the peak signal-to-noise ratio in dB, (b,).

    A squared error below 1e-10 counts as 100 dB.

    Args:
        reference: (b c t h w) in [0, 1].
        video: (b c t h w) in [0, 1]; neither clipped nor rounded here.
        average: "frame": the mean over frames of each frame's PSNR (Open-Sora's eval/vae, torchmetrics per image);
            "global": the PSNR of the mean squared error of the whole clip, never larger.

    Raises:
        ShapeError: The shapes differ or are not (b c t h w).
    """
    check_pair(reference, video)
    error = reduce((reference.float() - video.float()).square(), "b c t h w -> b t", "mean")
    if average == "global":
        error = reduce(error, "b t -> b 1", "mean")
    decibels = torch.where(error < _SMALLEST_ERROR, _MAX_PSNR, -10 * error.clamp_min(_SMALLEST_ERROR).log10())
    return reduce(decibels, "b t -> b", "mean")


def ssim(reference: Tensor, video: Tensor) -> Tensor:
    """Return the structural similarity, (b,), the mean over channels, frames and pixels.

    Gaussian window of 11x11, sigma 1.5, without padding (only where the window fits), K1 = 0.01, K2 = 0.03, biased
    variance, per channel, in float64: what scikit-image computes with gaussian_weights=True,
    use_sample_covariance=False, data_range=1.

    Args:
        reference: (b c t h w) in [0, 1], h and w at least 11.
        video: (b c t h w) in [0, 1].

    Raises:
        ShapeError: The shapes differ, are not (b c t h w), or the window does not fit.

    Source: Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment: From Error Visibility to Structural Similarity.
    """
    sizes = check_pair(reference, video)
    if min(sizes["h"], sizes["w"]) < WINDOW:
        raise ShapeError(f"SSIM needs frames of at least {WINDOW}x{WINDOW}, got shape {tuple(video.shape)}")
    planes = zip(_planes(reference), _planes(video), strict=True)
    step = max(1, _CHUNK // (sizes["h"] * sizes["w"]))
    means = [_plane_ssim(x, y) for xs, ys in planes for x, y in zip(xs.split(step), ys.split(step), strict=True)]
    return reduce(torch.cat(means), "(b n) -> b", "mean", b=sizes["b"])


def check_pair(reference: Tensor, video: Tensor) -> dict[str, int]:
    """Return the sizes of two videos that are to be compared.

    Raises:
        ShapeError: The shapes differ, are not (b c t h w), or hold whole numbers.
    """
    sizes = expect(reference, "b c t h w", "reference")
    expect(video, "b c t h w", "video", **sizes)
    if not (reference.is_floating_point() and video.is_floating_point()):
        raise ShapeError(f"videos in [0, 1] are needed, got {reference.dtype} and {video.dtype}")
    return sizes


def _planes(video: Tensor) -> list[Tensor]:
    """Return each clip of a batch as pictures of one channel (n 1 h w)."""
    return list(rearrange(video, "b c t h w -> b (c t) 1 h w"))


def _plane_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Return the SSIM (n,) of pictures (n 1 h w)."""
    luminance, structure = plane_parts(x, y)
    return reduce(luminance * structure, "n 1 h w -> n", "mean")


def plane_parts(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two factors of SSIM, luminance and contrast with structure, of pictures (n 1 h w) in [0, 1].

    Each is (n 1 h-10 w-10): one value for each place where the window fits.
    """
    # In float32, E[x^2] - E[x]^2 loses the digits that small variances need.
    dtype = torch.float32 if x.device.type == "mps" else torch.float64
    x, y = x.to(dtype), y.to(dtype)
    offsets = torch.arange(WINDOW, dtype=dtype, device=x.device) - (WINDOW - 1) / 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()

    def blur(plane: Tensor) -> Tensor:
        plane = functional.conv2d(plane, rearrange(weights, "k -> 1 1 k 1"))
        return functional.conv2d(plane, rearrange(weights, "k -> 1 1 1 k"))

    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return luminance, structure
