"""How much moves, from the motion vectors that a video was compressed with: no pixel is looked at."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cogvx.data.decode_motion import CELL
from cogvx.data.media import Span, VideoInfo
from cogvx.data.signals.sample import Sample
from cogvx.data.signals.signal import Measured, Signal, View
from cogvx.data.video import FILM_LIMITS, decoded


@dataclass(frozen=True)
class MotionVectors(Signal):
    """Mean length of the codec's motion vectors, divided by height + width of the picture.

    Taken are frames at the rate, from the first share of the clip, but ten if it has as many; those without vectors
    (key frames) do not count. `flow_mv` is the mean over pixels and frames, `flow_mv_patch` the smallest mean over
    frames of a square of patch pixels. These are the numbers of cosmos-curate, which drops clips below 0.00098 and
    0.000001; it takes a patch's value at points, this the mean of all its pixels. Vectors reach back one frame or
    several, as the encoder chose, so the numbers of differently compressed clips are not quite comparable. H.264 and
    older codecs give them; of other clips there are no such columns.

    Attributes:
        rate: Frames per second that are looked at.
        share: Of the clip.
        patch: Pixels.
    """

    name: ClassVar[str] = "flow"
    columns: ClassVar[tuple[str, ...]] = ("flow_mv", "flow_mv_patch")
    view: ClassVar[View] = "file"

    rate: float = 2.0
    share: float = 0.5
    patch: int = 256

    def measure(self, sample: Sample) -> Measured:
        """Return the columns of a clip, read from its file once more."""
        if sample.path is None:
            return Measured({})
        span = Span(sample.start, sample.end, rate=self.rate)
        with decoded(sample.path, span, FILM_LIMITS, motion=True) as (info, grids):
            taken = self._taken(info, sample, grids)
            total, count = None, 0
            for grid in taken:
                total = grid.astype(np.float64) if total is None else total + grid
                count += 1
        if total is None:
            return Measured({})
        mean = total / count / (info.height + info.width)
        cells = max(1, self.patch // CELL)
        return Measured({"flow_mv": float(mean.mean()), "flow_mv_patch": _least_patch(mean, cells)})

    def _taken(self, info: VideoInfo, sample: Sample, grids: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        seconds = info.duration if sample.end is None else sample.end
        most = max(10, round(self.rate * self.share * (seconds - (sample.start or 0.0))))
        return itertools.islice((grid for grid in grids if not np.isnan(grid[0, 0])), most)


def _least_patch(mean: np.ndarray, cells: int) -> float:
    """Return the smallest mean of squares of so many cells; what does not fill one is left out, unless nothing does."""
    rows, columns = (max(1, size // cells) for size in mean.shape)
    tall, wide = (min(cells, size) for size in mean.shape)
    squares = mean[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide)
    return float(squares.mean(axis=(1, 3)).min())
