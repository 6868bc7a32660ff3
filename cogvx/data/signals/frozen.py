"""How much of a clip stands still to the last bit: repeated frames."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cogvx.data.signals.sample import luma
from cogvx.data.signals.signal import Signal, View

_BLOCK = 16  # pixels


@dataclass(frozen=True)
class Frozen(Signal):
    """Share of adjacent frames that are equal up to the noise of compression.

    Two frames are equal if in no block of 16x16 pixels (at a short side of at most 256) the luma differs by more than
    the tolerance on average. So a small thing that moves before a still background is seen.

    Attributes:
        tolerance: Grey levels of 0…255.
    """

    name: ClassVar[str] = "frozen"
    columns: ClassVar[tuple[str, ...]] = ("frozen",)
    view: ClassVar[View] = "runs"

    tolerance: float = 1.0

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return the columns of consecutive frames, uint8 (t h w 3)."""
        if len(frames) < 2:
            return {}
        pictures = luma(frames).astype(np.float32)
        equal = [
            _most_changed(np.abs(second - first)) <= self.tolerance
            for first, second in zip(pictures[:-1], pictures[1:], strict=True)
        ]
        return {"frozen": sum(equal) / len(equal)}


def _most_changed(change: np.ndarray) -> float:
    """Return the largest mean of a block; blocks at the right and lower edge may be smaller."""
    sums, counts = change, np.ones_like(change)
    for axis in (0, 1):
        starts = np.arange(0, change.shape[axis], _BLOCK)
        sums, counts = np.add.reduceat(sums, starts, axis=axis), np.add.reduceat(counts, starts, axis=axis)
    return float((sums / counts).max())
