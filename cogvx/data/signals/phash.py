"""Perceptual hashes of a few frames of a clip, by which the same clip is known again after small changes."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cogvx.data.signals.sample import Sample, luma
from cogvx.data.signals.signal import Measured, Signal, View, spread

FRAMES = 4
BITS = 64
_SIDE = 32  # pixels that a frame is reduced to
_LEAST_CONTRAST = 2.0  # grey levels of deviation; the hash of a flatter frame would be one of noise


@dataclass(frozen=True)
class PHash(Signal):
    """64-bit hashes of four stills, from the middles of the clip's quarters; of an image, one.

    The luma is reduced to 32x32 pixels; of its discrete cosine transform, the 64 lowest frequencies but the mean are
    taken, by u + v and then u; a bit tells whether one is above their median. The entry gets a list of hexadecimal
    numbers under "phash", the first frequency in the highest bit. A frame without contrast (a fade) has "" instead.
    """

    name: ClassVar[str] = "phash"
    columns: ClassVar[tuple[str, ...]] = ("phash",)
    view: ClassVar[View] = "stills"
    fields: ClassVar[tuple[str, ...]] = ("phash",)

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return nothing: hashes are no numbers to compare (see measure)."""
        return {}

    def measure(self, sample: Sample) -> Measured:
        """Return the hashes of a clip."""
        chosen = spread(len(sample.stills), FRAMES)
        if 1 < len(chosen) < FRAMES:
            chosen = [int((i + 0.5) * len(sample.stills) / FRAMES) for i in range(FRAMES)]
        return Measured({}, {"phash": [frame_hash(picture) for picture in luma(sample.stills[chosen])]})


def frame_hash(picture: np.ndarray) -> str:
    """Return the hash of a luma, uint8 (h w): 16 hexadecimal digits, "" if it has no contrast."""
    from PIL import Image

    small = np.asarray(Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float64)
    if small.std() < _LEAST_CONTRAST:
        return ""
    cosines, rows, columns = _transform()
    values = (cosines @ small @ cosines.T)[rows, columns]
    bits = values > np.median(values)
    return np.packbits(bits).tobytes().hex()


@functools.cache
def _transform() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the matrix of the cosine transform, and the rows and columns of the frequencies that are taken."""
    k, x = np.mgrid[0:_SIDE, 0:_SIDE]
    order = sorted(((u, v) for u in range(_SIDE) for v in range(_SIDE)), key=lambda place: (sum(place), place[0]))
    rows, columns = zip(*order[1 : BITS + 1], strict=True)
    return np.cos(np.pi * k * (2 * x + 1) / (2 * _SIDE)), np.array(rows), np.array(columns)
