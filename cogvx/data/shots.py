"""Shots of a film: from the boundaries that a detector found to spans of a length that is wanted."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cogvx.data.resample import TIME_TOLERANCE
from cogvx.errors import UsageError

_DIGITS = 6  # of a second


@dataclass(frozen=True)
class Boundary:
    """Where one shot ends and the next begins.

    Attributes:
        end: Number of the frame behind the last one of the shot before.
        start: Number of the first frame of the next shot; after `end` where one shot turns into the other gradually.
    """

    end: int
    start: int


class ShotDetector(Protocol):
    """Finds the boundaries in frames that it sees one by one."""

    def feed(self, frame: np.ndarray) -> None:
        """Take the next frame, uint8 (h w 3), RGB."""
        ...

    def boundaries(self) -> list[Boundary]:
        """Return the boundaries in order, when all frames were fed."""
        ...


@dataclass(frozen=True)
class Shot:
    """Frames without a cut.

    Attributes:
        first: Number of its first frame.
        stop: Number of the frame behind its last one.
        start: Seconds at which it begins, as an entry's `start`.
        end: Seconds at which it ends, as an entry's `end`.
    """

    first: int
    stop: int
    start: float
    end: float

    @property
    def num_frames(self) -> int:
        """How many frames it has."""
        return self.stop - self.first

    @property
    def seconds(self) -> float:
        """How long it lasts, the time that its last frame is shown included."""
        return round(self.end - self.start, _DIGITS)


@dataclass(frozen=True)
class ShotRules:
    """Which shots are wanted.

    Attributes:
        min_seconds: Shorter ones are of no use.
        max_seconds: Longer ones are cut into equal parts, as few as possible; None: of any length.
        trim: Seconds that are left out on each side of a boundary.
    """

    min_seconds: float = 2.0
    max_seconds: float | None = 60.0
    trim: float = 0.0

    def check(self) -> None:
        """Raise a UsageError if no shot can pass."""
        if self.min_seconds < 0 or self.trim < 0:
            raise UsageError("the shortest length of a shot and what is trimmed cannot be negative")
        if self.max_seconds is not None and self.max_seconds < max(2 * self.min_seconds, 0.01):
            least = max(2 * self.min_seconds, 0.01)
            raise UsageError(
                f"shots of at most {self.max_seconds:g} s: at least {least:g} s are needed, twice the shortest length, "
                "as longer ones are cut into equal parts"
            )


def cut_shots(times: Sequence[float], stop: float, boundaries: Sequence[Boundary], rules: ShotRules) -> list[Shot]:
    """Return the shots of a film, in order, also those that are too short.

    What is left out belongs to no shot: frames of a gradual transition, and what is trimmed at its sides. Nothing is
    trimmed at the film's own ends, nor between the parts of a long shot.

    Args:
        times: Seconds at which each frame is shown.
        stop: Seconds at which the last frame ends.
        boundaries: In order.
        rules: The wanted lengths.
    """
    ends = [*times, stop]
    found = [Boundary(0, 0), *boundaries, Boundary(len(times), len(times))]
    shots: list[Shot] = []
    for before, after in zip(found, found[1:], strict=False):
        first, last = before.start, after.end
        if before is not found[0] and rules.trim and first < last:
            first = _frame_at(times, ends[first] + rules.trim)
        if after is not found[-1] and rules.trim:
            last = _frame_at(times, ends[last] - rules.trim)
        if first < last:
            shots += _parts(ends, first, last, rules.max_seconds)
    return shots


def end_of(times: Sequence[float], fps: float) -> float:
    """Return the seconds at which the last frame of a film ends: it is shown as long as most others."""
    step = float(np.median(np.diff(times[-100:]))) if len(times) > 1 else 1 / fps
    return times[-1] + (step if step > 0 else 1 / fps)


def _parts(ends: Sequence[float], first: int, last: int, max_seconds: float | None) -> list[Shot]:
    """Cut a shot into the fewest parts of equal length that are not too long; a frame is the least."""
    seconds = ends[last] - ends[first]
    count = 1 if max_seconds is None else max(1, int(-(-(seconds - TIME_TOLERANCE) // max_seconds)))
    while True:
        marks = [_frame_at(ends, ends[first] + seconds * i / count) for i in range(count)] + [last]
        longest = max(ends[after] - ends[before] for before, after in zip(marks, marks[1:], strict=False))
        if max_seconds is None or longest <= max_seconds + TIME_TOLERANCE or count >= last - first:
            break
        count += 1
    return [
        Shot(a, b, round(ends[a], _DIGITS), round(ends[b], _DIGITS))
        for a, b in zip(marks, marks[1:], strict=False)
        if a < b
    ]


def _frame_at(times: Sequence[float], time: float) -> int:
    """Return the number of the first frame that is shown at a time or later."""
    return bisect.bisect_left(times, time - TIME_TOLERANCE)
