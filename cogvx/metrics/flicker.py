"""How much a clip changes from frame to frame, alone and beside its original.

The CogVideoX paper (Tables 1 and 2) reports "the L1 difference between each pair of adjacent frames" without a unit;
none of these functions claims to be that number.
"""

import torch
from einops import reduce
from torch import Tensor

from cogvx.errors import ShapeError
from cogvx.metrics.reconstruction import check_pair


def flicker_mae255(video: Tensor) -> Tensor:
    """Return the mean absolute change between adjacent frames in grey levels of 0…255, (b,).

    Real clips have 2 to 16, independent uniform noise has 85.

    Args:
        video: (b c t h w) in [0, 1], t at least 2.

    Raises:
        ShapeError: It is not (b c t h w), or there are no two frames.
    """
    return 255 * reduce(_changes(video), "b c t h w -> b", "mean")


def flicker_x1000(video: Tensor) -> Tensor:
    """Return 1000 times the mean absolute change between adjacent frames on the scale [-1, 1], (b,).

    A convention under which clips come near the paper's 85 to 93; for the eye only.

    Args:
        video: (b c t h w) in [0, 1] (not [-1, 1]), t at least 2.

    Raises:
        ShapeError: It is not (b c t h w), or there are no two frames.
    """
    return flicker_mae255(video) * (2000 / 255)


def flicker_wrapped(video: Tensor) -> Tensor:
    """Return the mean change between adjacent frames of 8 bits, where a change below 0 wraps around to 256, (b,).

    What is computed by accident from frames stored as uint8, another reading of the paper's unit; for the eye only.

    Args:
        video: (b c t h w) in [0, 1], t at least 2; rounded to 256 levels.

    Raises:
        ShapeError: It is not (b c t h w), or there are no two frames.
    """
    _changes(video)  # for its checks
    levels = (video.float() * 255).round().clamp(0, 255)
    return reduce(levels.diff(dim=2).remainder(256), "b c t h w -> b", "mean")


def flicker_excess(reference: Tensor, video: Tensor) -> Tensor:
    """Return by how many grey levels the changes of a clip differ from those of its original, (b,).

    The mean of | |change of video| - |change of reference| | over pixels and pairs of frames, times 255: 0 if the
    original's motion is kept and no flicker added.

    Args:
        reference: (b c t h w) in [0, 1], t at least 2.
        video: (b c t h w) in [0, 1].

    Raises:
        ShapeError: The shapes differ, are not (b c t h w), or there are no two frames.
    """
    check_pair(reference, video)
    return 255 * reduce((_changes(video) - _changes(reference)).abs(), "b c t h w -> b", "mean")


def flicker_ratio(reference: Tensor, video: Tensor) -> Tensor:
    """Return how many times as much a clip changes as its original, (b,): 1 is right, more is flicker, less is blur.

    Where the original stands still, 1 if the clip does too, infinity otherwise.

    Args:
        reference: (b c t h w) in [0, 1], t at least 2.
        video: (b c t h w) in [0, 1].

    Raises:
        ShapeError: The shapes differ, are not (b c t h w), or there are no two frames.
    """
    check_pair(reference, video)
    wanted, got = flicker_mae255(reference), flicker_mae255(video)
    return torch.where((wanted == 0) & (got == 0), torch.ones_like(got), got / wanted)


def _changes(video: Tensor) -> Tensor:
    """Return the absolute changes (b c t-1 h w) between adjacent frames."""
    check_pair(video, video)
    if video.shape[2] < 2:
        raise ShapeError(f"flicker needs two frames, got shape {tuple(video.shape)}")
    return video.float().diff(dim=2).abs()
