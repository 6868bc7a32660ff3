"""What captioners see of a clip: frames at times of it, small, and what comes right after each."""

import functools
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cogvx.data.media import Span
from cogvx.data.signals.sample import reduced
from cogvx.data.video import FILM_LIMITS, decoded, probe
from cogvx.errors import InputError
from cogvx.files import clean, sha256_file

if TYPE_CHECKING:
    import numpy as np

SIDE = 480  # pixels of the shorter side, at most: the height that CogVideoX was first trained at
GAP = 0.25  # seconds, about, between a frame and the one that shows where things move
MAX_RATE = 60.0
_LONGEST_STEP = 50.0  # seconds, half of what Span takes


@dataclass(frozen=True)
class ClipFile:
    """A clip, or a part of one.

    Attributes:
        path: A file, or a folder of images.
        start: Seconds, if it is a part.
        end: Seconds.
    """

    path: Path
    start: float | None = None
    end: float | None = None

    def key(self) -> str:
        """Return what tells the clip from all others, wherever it lies: the sha256 of its bytes, and which part it is.

        Raises:
            InputError: The file cannot be read.
        """
        part = "" if self.start is None and self.end is None else f"#{self.start}-{self.end}"
        return f"{_content(self.path)}{part}"

    def measure(self) -> tuple[float, int]:
        """Return how many seconds it lasts, 0 for an image, and how many frames that are, about.

        Raises:
            InputError: The file cannot be read.
        """
        info = probe(self.path)
        if info.frames == 1:
            return 0.0, 1
        stop = info.duration if self.end is None else min(self.end, info.duration)
        seconds = max(0.0, stop - (self.start or 0.0))
        return seconds, max(1, round(seconds * info.fps))


@dataclass(frozen=True, eq=False)
class Moment:
    """A frame of a clip.

    Attributes:
        seconds: Since the clip's, or the part's, beginning.
        frame: uint8 (h w 3), the shorter side at most 480.
        following: A frame that comes `gap` seconds later; None at the end.
        gap: Seconds.
    """

    seconds: float
    frame: "np.ndarray"
    following: "np.ndarray | None" = None
    gap: float = 0.0


def read_moments(clip: ClipFile, *, every: float, most: int, following: bool = False) -> list[Moment]:
    """Return a frame of a clip every so many seconds, from its first frame on.

    Args:
        clip: The clip.
        every: Seconds.
        most: Frames at most; of a clip that has more, so many are taken, evenly spread.
        following: Whether each gets the frame that comes about a quarter of a second later.

    Raises:
        InputError: It cannot be read.
    """
    seconds, _ = clip.measure()
    every = max(every, seconds / most + 1e-9)
    parts = max(2, round(every / GAP)) if following else _parts(every)
    if parts / every > MAX_RATE:  # of moments that lie closer than that nobody needs what follows
        parts, following = 1, False
    rate = parts / every
    found: list[Moment] = []
    for index, frame in enumerate(_frames(clip, rate, None)):
        if found and index / rate >= seconds:  # the last frame again, for a time that the clip does not have
            break
        if index % parts == 0:
            found.append(Moment(index / rate, reduced(frame, SIDE)))
        elif following and index % parts == 1:
            found[-1] = Moment(found[-1].seconds, found[-1].frame, reduced(frame, SIDE), 1 / rate)
    return found


def read_spread(clip: ClipFile, count: int) -> list[Moment]:
    """Return so many frames of a clip, in the middles of equal parts of it; fewer of a clip that has fewer.

    Raises:
        InputError: It cannot be read.
    """
    seconds, frames = clip.measure()
    count = min(count, frames)
    if count == 1:
        return [Moment(0.0, reduced(frame, SIDE)) for frame in _frames(clip, 1.0, 1)]
    step = seconds / count
    # The first frame that is not before the middle of the first part; never behind the clip's last one.
    offset = step / 2 if count < frames else 0.0
    part = ClipFile(clip.path, (clip.start or 0.0) + offset, clip.end)
    parts = _parts(step)
    shown = islice(_frames(part, parts / step, (count - 1) * parts + 1), 0, None, parts)
    return [Moment(offset + i * step, reduced(frame, SIDE)) for i, frame in enumerate(shown)]


def times_in_words(moments: list[Moment]) -> str:
    """Return the times of moments, as in "0.0, 2.0 and 4.0"."""
    times = [f"{moment.seconds:.1f}" for moment in moments]
    return times[0] if len(times) == 1 else f"{', '.join(times[:-1])} and {times[-1]}"


def _parts(step: float) -> int:
    """Return into how many parts a step of so many seconds is cut, so that the decoder takes it."""
    return max(1, math.ceil(step / _LONGEST_STEP))


def _frames(clip: ClipFile, rate: float, most: int | None) -> Iterator["np.ndarray"]:
    span = Span(clip.start, clip.end, most, min(rate, 1000.0))
    with decoded(clip.path, span, FILM_LIMITS) as (_, frames):
        yield from frames


def _content(path: Path) -> str:
    """Return the sha256 of a file, or of the names and files of a folder."""
    if path.is_dir():
        lines = [f"{sha256_file(one)}  {one.name}\n" for one in sorted(path.iterdir()) if one.is_file()]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        name = clean(str(path))
        raise InputError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
    return _hashed(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)  # the parts of one film come one after the other
def _hashed(path: Path, size: int, changed: int) -> str:
    return sha256_file(path)
