"""How bright a clip is, and how much of it is lost in black and white."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cogvx.data.signals.sample import luma
from cogvx.data.signals.signal import Signal, View


@dataclass(frozen=True)
class Exposure(Signal):
    """Brightness and contrast of the stills, all of luma in 0…1, the mean over stills; bars count as picture.

    `exposure` is the mean, `contrast` the standard deviation, `clipped_dark` and `clipped_bright` are the shares of
    pixels at or beyond the two levels.

    Attributes:
        dark: Luma of 0…255.
        bright: Luma of 0…255.
    """

    name: ClassVar[str] = "exposure"
    columns: ClassVar[tuple[str, ...]] = ("exposure", "contrast", "clipped_dark", "clipped_bright")
    view: ClassVar[View] = "stills"

    dark: int = 3
    bright: int = 252

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return the columns of stills, uint8 (t h w 3)."""
        found = [
            (picture.mean() / 255, picture.std() / 255, (picture <= self.dark).mean(), (picture >= self.bright).mean())
            for picture in luma(frames)
        ]
        return dict(zip(self.columns, np.mean(found, axis=0).tolist(), strict=True))
