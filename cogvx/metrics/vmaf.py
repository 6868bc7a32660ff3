"""VMAF, a score of how good a decoded video looks beside its original, through the optional vmaf-torch package."""

from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor

from cogvx.errors import MissingError, ShapeError
from cogvx.metrics.reconstruction import check_pair

SMALLEST = 128  # pixels of the shorter side; below, the coarsest of its four scales has too few left
_WEIGHTS = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709


def load_vmaf(device: torch.device | str = "cpu") -> Any:
    """Return the networks and the regression of VMAF (model vmaf_v0.6.1, with motion), which its package carries.

    Raises:
        MissingError: The package is not installed.
    """
    try:
        import vmaf_torch
    except ImportError as error:
        raise MissingError("VMAF needs the package vmaf-torch: pip install 'cogvx[vmaf]'") from error
    return vmaf_torch.VMAF(clip_score=True).eval().requires_grad_(False).to(device)


def vmaf(reference: Tensor, video: Tensor, *, network: Any = None) -> Tensor:
    """Return VMAF, (b,), from 0 to 100, the mean over frames; equal clips have less than 100 where little moves.

    It looks at luma as 8-bit video stores it: BT.709, 16 to 235, rounded. Made from what people see on a large screen
    of 1080 lines from three times its height; of small clips it compares decoders, it is no absolute measure.

    Args:
        reference: (b 3 t h w) in [0, 1].
        video: (b 3 t h w) in [0, 1].
        network: From load_vmaf, when it is used more than once.

    Raises:
        ShapeError: The shapes differ, are not (b 3 t h w), or the frames are smaller than SMALLEST.
        MissingError: The package is not installed.

    Source: Li et al., "Toward A Practical Perceptual Video Quality Metric" (2016); the numbers are those of vmaf-torch.
    """
    sizes = check_pair(reference, video)
    if min(sizes["h"], sizes["w"]) < SMALLEST:
        raise ShapeError(f"VMAF needs frames of {SMALLEST}x{SMALLEST}, got {sizes['w']}x{sizes['h']}")
    network = load_vmaf(reference.device) if network is None else network
    clips = zip(_luma(reference), _luma(video), strict=True)
    with torch.no_grad():
        return torch.stack([network(left, right).mean() for left, right in clips])


def _luma(clip: Tensor) -> Tensor:
    """Return the luma (b t 1 h w) of a clip (b 3 t h w) in [0, 1], in levels of 8 bits."""
    weights = torch.tensor(_WEIGHTS, dtype=torch.float32, device=clip.device)
    levels = (clip.float().clamp(0, 1) * 255).round() / 255
    luma = reduce(levels * rearrange(weights, "c -> c 1 1 1"), "b c t h w -> b t h w", "sum")
    return rearrange((16 + 219 * luma).round(), "b t h w -> b t 1 h w")
