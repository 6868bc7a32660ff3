"""Frames of any rate, also of a varying one, to a regular rate: for each moment the frame nearest in time.

Runs in the process that decodes untrusted files: nothing heavy may be imported here.
"""

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

TIME_TOLERANCE = 1e-3  # Matroska rounds its timestamps to milliseconds

Frame = TypeVar("Frame")


def count_at_rate(duration: float, fps: float, rate: float) -> int:
    """Return how many frames a clip gives at a rate; at least 1.

    A moment counts while a frame is shown, or if it comes at most half a period after the last frame: six seconds at 30
    fps give the 49 frames of 8 fps that the official models take for them.

    Args:
        duration: Seconds, the time that the last frame is shown included.
        fps: Average frames per second of the clip.
        rate: Frames per second that are wanted.
    """
    shown = math.ceil((duration - TIME_TOLERANCE) * rate)
    near = math.floor((duration - 1 / fps) * rate + 0.5 + 1e-6) + 1 if fps > 0 else 1
    return max(shown, near, 1)


def nearest(
    frames: Iterable[tuple[float, float, Frame]], *, rate: float, origin: float | None = None
) -> Iterator[Frame]:
    """Yield for each moment of a regular rate the frame that is nearest in time, the earlier one of two.

    Frames between the moments are passed over; where the source is slower than the rate, a frame comes again, as the
    same object.

    Args:
        frames: Time in seconds, how long it is shown (0 if unknown), and the frame; in the order of time.
        rate: Frames per second.
        origin: Time of the first moment (default: of the first frame).
    """
    moment = 0
    last: tuple[float, Frame] | None = None
    step = 0.0
    for time, shown, frame in frames:
        if last is None:
            origin = time if origin is None else origin
        else:
            middle = (last[0] + time) / 2
            while origin + moment / rate <= middle:  # type: ignore[operator]
                yield last[1]
                moment += 1
            step = time - last[0]
        step = shown or step
        last = (time, frame)
    if last is None or origin is None:
        return
    # Slightly more generous than count_at_rate, which knows the times before they were rounded.
    end = max(last[0] + step - TIME_TOLERANCE, last[0] + 0.5 / rate + 2 * TIME_TOLERANCE)
    while origin + moment / rate < end or moment == 0:
        yield last[1]
        moment += 1
