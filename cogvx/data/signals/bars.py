"""Black bars around the picture."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cogvx.data.signals.sample import luma
from cogvx.data.signals.signal import Signal, View


@dataclass(frozen=True)
class Bars(Signal):
    """Share of the area that lies in black bars which are there all the time.

    A row or column at the edge belongs to a bar if nearly all of it is dark in every still that shows a picture at all.
    A clip that is black throughout is one bar: 1.

    Attributes:
        level: Luma up to which a pixel is dark.
        share: Of a row or column that must be dark: a mark in the bar may fill the rest.
    """

    name: ClassVar[str] = "bars"
    columns: ClassVar[tuple[str, ...]] = ("bars",)
    view: ClassVar[View] = "stills"

    level: int = 10
    share: float = 0.98

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return the columns of stills, uint8 (t h w 3)."""
        inside = picture_box(frames, level=self.level, share=self.share)
        if inside is None:
            return {"bars": 1.0}
        top, bottom, left, right = inside
        return {"bars": 1 - (bottom - top) * (right - left) / (frames.shape[1] * frames.shape[2])}


def picture_box(frames: np.ndarray, *, level: int = 10, share: float = 0.98) -> tuple[int, int, int, int] | None:
    """Return what lies inside the bars: top, bottom, left, right in pixels, the second ones exclusive.

    Args:
        frames: uint8 (t h w 3).
        level: Luma up to which a pixel is dark.
        share: Of a row or column that must be dark.

    Returns:
        The box; None if all frames are black.
    """
    boxes = []
    for picture in luma(frames):
        dark = picture <= level
        rows, columns = np.flatnonzero(dark.mean(axis=1) < share), np.flatnonzero(dark.mean(axis=0) < share)
        if len(rows) and len(columns):
            boxes.append((rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    if not boxes:
        return None
    tops, bottoms, lefts, rights = zip(*boxes, strict=True)
    return int(min(tops)), int(max(bottoms)), int(min(lefts)), int(max(rights))
