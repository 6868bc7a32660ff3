"""A few frames of a clip, evenly spread over its time: what classifiers and language models look at."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cogvx.data.media import DEFAULT_LIMITS, Limits, Span
from cogvx.data.video import decoded, resize_exact
from cogvx.errors import UsageError


@dataclass(frozen=True, eq=False)
class SpreadFrames:
    """Some frames of a clip.

    Attributes:
        frames: uint8 (t h w 3), RGB.
        seconds: (t,) when each is shown, from the beginning of the clip.
    """

    frames: np.ndarray
    seconds: tuple[float, ...]


def spread_frames(
    source: Path | str,
    count: int,
    *,
    size: tuple[int, int] | None = None,
    longest: int | None = None,
    start: float | None = None,
    end: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> SpreadFrames:
    """Return frames of a clip at equal distances in time, the first one included; all of them if there are fewer.

    Args:
        source: A clip, or an image, which is a clip of one frame.
        count: Most frames.
        size: Height and width that frames are resized to, whatever that does to their proportions.
        longest: Pixels of the longer side, which larger frames are resized to; not with size.
        start: Seconds; the clip begins there.
        end: Seconds; the clip ends there.
        limits: What decoding may cost.

    Raises:
        InputError: It cannot be read, or has no frames in the span.
        UsageError: The count or the span is impossible.
    """
    if count < 1 or (size is not None and longest is not None):
        raise UsageError(f"cannot take {count} frames, or both a size and a longest side")
    with decoded(source, Span(start, end, max_frames=1), limits) as (info, _):
        pass
    begin = start or 0.0
    stop = info.duration if end is None else min(end, info.duration)
    # Never more often than the clip has frames: one that comes twice would tell nothing.
    rate = min(info.fps, count / max(stop - begin, 1e-6))
    with decoded(source, Span(start, end, count, rate), limits) as (_, frames):
        kept = [_resized(frame, size, longest) for frame in frames]
    return SpreadFrames(np.stack(kept), tuple(round(i / rate, 3) for i in range(len(kept))))


def _resized(frame: np.ndarray, size: tuple[int, int] | None, longest: int | None) -> np.ndarray:
    height, width, _ = frame.shape
    if longest is not None and max(height, width) > longest:
        scale = longest / max(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return frame if size is None else resize_exact(frame[None], *size)[0]
