"""Which size and length a clip is trained at: the one of a few that wastes least of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cogvx.data.resample import count_at_rate

FRAME_PERIOD = 8  # the VAE takes 8k + 1 frames
_SAME_ASPECT = 0.05  # share of the frame: a larger size is worth so much more that is cut off


@dataclass(frozen=True, order=True)
class Shape:
    """Size of a clip in pixels.

    Attributes:
        num_frames: Frames; 1 is an image.
        height: Pixels.
        width: Pixels.
    """

    num_frames: int
    height: int
    width: int

    def num_tokens(
        self, *, temporal_ratio: int = 4, spatial_ratio: int = 8, patch_size: int = 2, temporal_patch_size: int = 1
    ) -> int:
        """Return how many tokens the transformer makes of it, without those of the text."""
        latents = (self.num_frames - 1) // temporal_ratio + 1
        pixels = spatial_ratio * patch_size
        return -(-latents // temporal_patch_size) * (self.height // pixels) * (self.width // pixels)

    def __str__(self) -> str:
        return f"{self.num_frames}x{self.height}x{self.width}"


@dataclass(frozen=True)
class Media:
    """What decides the size and length that a file is trained at.

    Attributes:
        width: Pixels, as displayed.
        height: Pixels, as displayed.
        duration: Seconds of the part that is used, the time that its last frame is shown included; 0 for an image.
        fps: Average frames per second; 0 for an image.
    """

    width: int
    height: int
    duration: float = 0.0
    fps: float = 0.0

    @property
    def still(self) -> bool:
        """Whether it is an image."""
        return self.duration <= 0 or self.fps <= 0


def fit(
    media: Media,
    *,
    sizes: Sequence[tuple[int, int]],
    max_frames: int,
    fps: float,
    max_upscale: float = 1.0,
    frame_period: int = FRAME_PERIOD,
) -> Shape | None:
    """Return the size and length that a clip is trained at; None if it is smaller than every size.

    The size is the one whose aspect is nearest, so that the centre crop cuts off least; of those that cut off about as
    little (5 % of the frame more), the largest. The length is the longest legal one that the clip fills at the rate, so
    that no frame is made up.

    Args:
        media: What the clip is.
        sizes: (height, width) that may be used.
        max_frames: Longest length.
        fps: Frames per second to train at.
        max_upscale: How many times a clip may be enlarged to cover a size.
        frame_period: Legal lengths are k times this, plus 1.
    """
    if media.width < 1 or media.height < 1:
        return None
    scales = {size: max(size[0] / media.height, size[1] / media.width) for size in sizes}
    possible = [size for size, scale in scales.items() if scale <= max_upscale * (1 + 1e-9)]
    if not possible:
        return None
    lost = {size: lost_share(media, *size) for size in possible}
    least = min(lost.values())
    height, width = max((size for size in possible if lost[size] <= least + _SAME_ASPECT), key=lambda s: s[0] * s[1])
    count = 1 if media.still else min(max_frames, count_at_rate(media.duration, media.fps, fps))
    return Shape(legal_frames(count, frame_period), height, width)


def legal_frames(count: int, period: int = FRAME_PERIOD) -> int:
    """Return the largest legal number of frames up to a count of at least 1: k periods and one frame."""
    return (count - 1) // period * period + 1


def lost_share(media: Media, height: int, width: int) -> float:
    """Return the share of the frame, in [0, 1), that resizing to cover a size and cropping cuts off."""
    return 1.0 - math.exp(-abs(math.log(media.width / media.height) - math.log(width / height)))
