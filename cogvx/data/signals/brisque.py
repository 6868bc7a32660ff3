"""BRISQUE: how distorted a picture looks, from the statistics of its luma alone.

Source: Mittal, Moorthy, Bovik: No-Reference Image Quality Assessment in the Spatial Domain (IEEE Transactions on Image
Processing 21, 2012). The 36 features are written from the paper, with the conventions of its authors' release: luma of
0…255, border pixels repeated, shapes looked up in steps of 0.001. The regression that turns them into a number has been
trained by the authors; its parameters come from the package brisque (see cogvx.data.signals.brisque_weights).
"""

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cogvx.data.signals.brisque_weights import load_regression
from cogvx.data.signals.sample import luma
from cogvx.data.signals.signal import Signal, View, spread

_WINDOW, _SIGMA = 7, 7 / 6
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (-1, 1))  # rows and columns by which products of pixels are taken


@dataclass(frozen=True)
class Brisque(Signal):
    """BRISQUE of some stills, their mean: about 0 for a clean picture, 100 for a ruined one; lower is better.

    It is taken at the size of the stills. A still without any texture has no BRISQUE and is left out.

    Attributes:
        stills: At most so many, evenly spread.
    """

    name: ClassVar[str] = "quality"
    columns: ClassVar[tuple[str, ...]] = ("brisque",)
    view: ClassVar[View] = "stills"

    stills: int = 4

    def open(self) -> None:
        """Load the regression's parameters (see Signal.open)."""
        load_regression()

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return the columns of stills, uint8 (t h w 3)."""
        regression = load_regression()
        found = [brisque_features(picture) for picture in luma(frames[spread(len(frames), self.stills)])]
        scores = [regression(features) for features in found if features is not None]
        return {"brisque": float(np.mean(scores))} if scores else {}


def brisque_features(picture: np.ndarray) -> np.ndarray | None:
    """Return the 36 features of a luma, uint8 (h w): 18 of the picture, 18 of it at half the size.

    Returns:
        float64 (36,); None if it has no texture to speak of.
    """
    from PIL import Image

    half = Image.fromarray(picture.astype(np.float32))
    half = half.resize([-(-size // 2) for size in half.size], Image.Resampling.BICUBIC)
    features: list[float] = []
    for scale in (picture.astype(np.float64), np.asarray(half, dtype=np.float64)):
        normalised = _normalised(scale)
        own = fit_asymmetric(normalised)
        pairs = [fit_asymmetric(normalised * np.roll(normalised, shift, axis=(0, 1))) for shift in _NEIGHBOURS]
        if own is None or None in pairs:
            return None
        features += [own[0], (own[2] + own[3]) / 2]
        for pair in pairs:
            features += pair or ()
    return np.array(features)


def _normalised(picture: np.ndarray) -> np.ndarray:
    """Return a picture with its local mean subtracted and its local deviation, plus 1, divided out."""
    mean = _smoothed(picture)
    deviation = np.sqrt(np.abs(_smoothed(picture * picture) - mean * mean))
    return (picture - mean) / (deviation + 1)


def _smoothed(picture: np.ndarray) -> np.ndarray:
    """Return a picture (h w) under a Gaussian window of 7x7 pixels."""
    half = _WINDOW // 2
    weights = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    height, width = picture.shape
    padded = np.pad(picture, half, mode="edge")
    rows = sum(weight * padded[i : i + height] for i, weight in enumerate(weights))
    return sum(weight * rows[:, i : i + width] for i, weight in enumerate(weights))  # type: ignore[return-value,index]


def fit_asymmetric(values: np.ndarray) -> tuple[float, float, float, float] | None:
    """Fit an asymmetric generalised Gaussian: shape, mean, left and right variance; None if that is impossible.

    By moments, as in Lasmar et al.: Multiscale skewed heavy tailed model for texture analysis.
    """
    below, above = values[values < 0], values[values > 0]
    if not len(below) or not len(above):
        return None
    left, right = float(np.mean(below**2)), float(np.mean(above**2))
    if min(left, right) < 1e-12:
        return None
    gamma = math.sqrt(left / right)
    ratio = float(np.mean(np.abs(values))) ** 2 / float(np.mean(values**2))
    ratio *= (gamma**3 + 1) * (gamma + 1) / (gamma**2 + 1) ** 2
    shapes, ratios = _shapes()
    shape = float(shapes[np.abs(ratios - ratio).argmin()])
    scale = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    mean = (math.sqrt(right) - math.sqrt(left)) * math.gamma(2 / shape) / math.gamma(1 / shape) * scale
    return shape, mean, left, right


@functools.cache
def _shapes() -> tuple[np.ndarray, np.ndarray]:
    """Return shapes from 0.2 to 10, and the squared mean magnitude over the mean square that each has."""
    shapes = np.arange(200, 10001) / 1000
    ratios = [math.gamma(2 / a) ** 2 / (math.gamma(1 / a) * math.gamma(3 / a)) for a in shapes]
    return shapes, np.array(ratios)
