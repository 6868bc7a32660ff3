"""How much better a drawn object explains the pixels of a clip than the background does."""

import numpy as np
from numpy.typing import NDArray

from cogvx.evaluation.storyboard.backdrop import BANDS, UNIFORM, Floats, Palette, density, scene_palettes
from cogvx.evaluation.storyboard.stage import Stage
from cogvx.evaluation.storyboard.template import Template

_SIGMA = 16.0  # spread of an object's colour, in grey levels
_FLOOR = 2 * UNIFORM  # of what neither the object nor the background explains
_PEAK = (2 * np.pi) ** -1.5 * _SIGMA**-3


class Evidence:
    """Scores drawn objects against a stage; the scores are log-likelihood ratios, in nats."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.background = np.log(stage.backdrop + _FLOOR)

    def score(self, frame: int, template: Template, opacity: float = 1.0) -> float:
        """Return how much likelier a frame is with the object than without it.

        Args:
            frame: Index of the frame.
            template: The object; what lies outside the frame does not count.
            opacity: Of the object, 0 to 1; the scene's palette shines through.
        """
        cut = self._cut(template)
        if cut is None:
            return 0.0
        rows, columns, colours, cover = cut
        pixels = self.stage.frames[frame, rows, columns]
        if opacity >= 1.0:
            square = ((pixels - colours) ** 2).sum(-1)
            likely = _PEAK * np.exp(square / (-2 * _SIGMA**2))
        else:
            likely = self._through(pixels - opacity * colours, rows.start, 1.0 - opacity)
        ratio = np.log(likely + _FLOOR) - self.background[frame, rows, columns]
        return float((cover * ratio).sum())

    def agreement(self, frame: int, template: Template, mask: Floats) -> float:
        """Return how far an object is where its colour is: pixels that are as drawn, of those drawn and those missed.

        Args:
            frame: Index of the frame.
            template: The object.
            mask: (h w) in 0…1, pixels that should be the object's.
        """
        cut = self._cut(template)
        if cut is None:
            return 0.0
        rows, columns, colours, cover = cut
        square = ((self.stage.frames[frame, rows, columns] - colours) ** 2).sum(-1)
        right = float((cover * (square < (3 * _SIGMA) ** 2)).sum())
        missed = float(mask.sum() - (mask[rows, columns] * (cover > 0)).sum())
        return right / max(float(cover.sum()) + missed, 1.0)

    def _through(self, rest: Floats, top: int, share: float) -> Floats:
        """Return how likely what an object leaves of some pixels is a share of the scene's colours."""
        height = self.stage.rows
        likely = np.empty(rest.shape[:2], dtype=np.float32)
        bands = (np.arange(top, top + len(rest)) * BANDS) // height
        for band in np.unique(bands):
            palette = scene_palettes(self.stage.scene, self.stage.style)[band]
            faint = Palette(palette.colours * np.float32(share), palette.shares / palette.shares.sum())
            likely[bands == band] = density(rest[bands == band], faint, _SIGMA)
        return likely

    def _cut(self, template: Template) -> "tuple[slice, slice, Floats, Floats] | None":
        _, height, width, _ = self.stage.frames.shape
        rows, columns = template.cover.shape
        top, left = max(0, template.top), max(0, template.left)
        bottom, right = min(height, template.top + rows), min(width, template.left + columns)
        if top >= bottom or left >= right:
            return None
        inside = (
            slice(top - template.top, bottom - template.top),
            slice(left - template.left, right - template.left),
        )
        return slice(top, bottom), slice(left, right), template.colours[inside], template.cover[inside]


def stamp(mask: NDArray[np.bool_], template: Template, *, least: float = 0.3) -> None:
    """Mark in a mask (h w) where an object covers at least some part of a pixel."""
    rows, columns = np.nonzero(template.cover >= least)
    y, x = rows + template.top, columns + template.left
    inside = (y >= 0) & (y < mask.shape[0]) & (x >= 0) & (x < mask.shape[1])
    mask[y[inside], x[inside]] = True
