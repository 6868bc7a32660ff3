"""What all signals of a run see of a clip: it is decoded once, and what is kept of it has a limit, however long it is.

Two things are kept. Runs: consecutive frames, reduced to a short side of 256 pixels, for all that moves. Stills: frames
spread evenly over the clip, with a short side of at most 480 pixels (the height that CogVideoX trains at), for all that
can be seen in one picture. Nothing is enlarged.

The length of a clip need not be known. Frames come in windows of fixed length; when there are too many windows, every
second one is dropped and from then on every second one is taken, and so on: what is left is always evenly spread.
"""

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cogvx.data.media import Span
from cogvx.data.video import FILM_LIMITS, decoded

SAMPLING_VERSION = 1  # of all the numbers below
MAX_RATE = 60.0  # frames per second; of faster clips every second, third, … frame is taken
RUN_SIDE = 256  # pixels of the shorter side
RUN_WINDOW = 16  # consecutive frames that are kept or dropped together
RUN_WINDOWS = 16  # so a clip of up to 256 frames is kept whole
STILL_SIDE = 480
STILLS = 16  # at most; at least half of that, if the clip has as many frames
LONGEST = 2048  # pixels of the longer side


@dataclass(frozen=True, eq=False)
class Sample:
    """What is kept of a clip.

    Attributes:
        runs: Consecutive frames, uint8 (t h w 3) each; one run unless the clip has more than 256 frames.
        fps: Frames per second of the runs.
        stills: uint8 (n h w 3), at least one.
        still_rate: Stills per second.
        path: The file, for what looks at it in another way.
        start: Seconds, if the clip is a part of the file.
        end: Seconds.
        shared: What one signal has worked out and another needs too.
    """

    runs: tuple[np.ndarray, ...]
    fps: float
    stills: np.ndarray
    still_rate: float
    path: Path | None = None
    start: float | None = None
    end: float | None = None
    shared: dict[str, Any] = field(default_factory=dict)


def read_sample(
    path: Path,
    *,
    start: float | None = None,
    end: float | None = None,
    runs: bool = True,
    max_frames: int | None = None,
) -> Sample:
    """Decode a clip, in a process of its own, and keep a sample of it.

    Args:
        path: The clip; an image is a clip of one frame.
        start: Seconds; the first frame not before it is the first one.
        end: Seconds; frames from there on do not count.
        runs: Whether runs are kept; without them the sample has stills only.
        max_frames: Read at most so many.

    Raises:
        InputError: It is missing, no clip, damaged, or without frames in the span.
    """
    moving = _Windows(RUN_WINDOW, RUN_WINDOWS)
    still = _Windows(1, STILLS)
    with decoded(path, Span(start, end, max_frames), FILM_LIMITS) as (info, frames):
        step = max(1, -int(-(info.fps - 1e-3) // MAX_RATE))
        for index, frame in enumerate(islice(frames, 0, None, step)):
            if runs and moving.take(index):
                moving.add(index, reduced(frame, RUN_SIDE))
            if still.take(index):
                still.add(index, reduced(frame, STILL_SIDE))
    fps = info.fps / step
    return Sample(moving.runs(), fps, np.stack(still.frames()), fps / still.stride, path, start, end)


def sample_of(frames: np.ndarray, fps: float) -> Sample:
    """Return the sample of a clip that is in memory, uint8 (t h w 3)."""
    moving, still = _Windows(RUN_WINDOW, RUN_WINDOWS), _Windows(1, STILLS)
    for index, frame in enumerate(frames):
        if moving.take(index):
            moving.add(index, reduced(frame, RUN_SIDE))
        if still.take(index):
            still.add(index, reduced(frame, STILL_SIDE))
    return Sample(moving.runs(), fps, np.stack(still.frames()), fps / still.stride)


def reduced(frame: np.ndarray, side: int) -> np.ndarray:
    """Return a frame, uint8 (h w 3), reduced so that its shorter side has at most so many pixels."""
    from PIL import Image

    height, width, _ = frame.shape
    scale = min(1.0, side / min(height, width), LONGEST / max(height, width))
    if scale == 1.0:
        return frame
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Hamming: antialiased, and without the overshoot that would make a dark bar's edge brighter.
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0))


def luma(frames: np.ndarray) -> np.ndarray:
    """Return the luma (ITU-R 601) of frames, uint8 (t h w 3), as uint8 (t h w)."""
    from PIL import Image

    result = np.empty(frames.shape[:3], dtype=np.uint8)
    for index, frame in enumerate(frames):
        result[index] = np.asarray(Image.fromarray(np.ascontiguousarray(frame)).convert("L"))
    return result


class _Windows:
    """Keeps windows of consecutive frames, evenly spread over a stream whose length is not known."""

    def __init__(self, window: int, most: int) -> None:
        self.stride = 1
        self._window, self._most = window, most
        self._kept: dict[int, list[np.ndarray]] = {}

    def take(self, index: int) -> bool:
        """Whether the frame of this number is to be added; the numbers must come in order."""
        number = index // self._window
        while number % self.stride == 0 and number not in self._kept and len(self._kept) == self._most:
            self.stride *= 2
            self._kept = {kept: frames for kept, frames in self._kept.items() if kept % self.stride == 0}
        return number % self.stride == 0

    def add(self, index: int, frame: np.ndarray) -> None:
        self._kept.setdefault(index // self._window, []).append(frame)

    def frames(self) -> list[np.ndarray]:
        return [frame for window in self._kept.values() for frame in window]

    def runs(self) -> tuple[np.ndarray, ...]:
        if not self._kept:
            return ()
        windows = [np.stack(frames) for frames in self._kept.values()]
        return (np.concatenate(windows),) if self.stride == 1 else tuple(windows)
