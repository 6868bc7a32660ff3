"""Which pixels have an object's colour rather than the background's, and where they gather."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cogvx.data.storyboard.styles import mix, paint
from cogvx.data.storyboard.vocabulary import colours_in
from cogvx.evaluation.storyboard.backdrop import UNIFORM, Floats, Palette, density
from cogvx.evaluation.storyboard.stage import Stage

_SIGMA = 14.0  # spread of an object's colour, in grey levels
_BACKDROP_ODDS = 8.0  # a pixel is of the background rather than of one colour, before it is seen
_FAINT = 0.01 * UNIFORM  # density of a colour where it is not
_VOTES = 2.0  # a pixel's neighbourhood, or a big pixel, counts as so many that do not depend on each other
_WINDOW = 0.3  # of the frame's height: about a small object
REACH = 0.48  # of the frame's height: nothing of an object is farther from its middle


@dataclass(frozen=True, eq=False)
class Spot:
    """Where a colour gathers.

    Attributes:
        colour: Its name.
        centres: (t 2), x and y in pixels of the grid.
        areas: (t), pixels of the grid.
        densities: (t), its area beside that of a disc as wide as it is spread: 1 for a disc, 0 for scattered specks.
    """

    colour: str
    centres: NDArray[np.float64]
    areas: NDArray[np.float64]
    densities: NDArray[np.float64]

    @property
    def mass(self) -> float:
        """Its area where it is largest, the mean of three frames: an object may fade or shrink."""
        return float(np.sort(self.areas)[-3:].mean())

    @property
    def compactness(self) -> float:
        """Its density where it is largest."""
        return float(self.densities[np.argsort(self.areas, kind="stable")[-3:]].mean())


def colour_masks(stage: Stage) -> dict[str, Floats]:
    """Return, for every colour that can be seen in the scene, how surely a pixel has it: (t h w) in 0…1."""
    names = colours_in(stage.scene, stage.style)
    masks = masks_of(stage.frames, stage.backdrop, names, stage.style)
    return dict(zip(names, masks, strict=True))


def masks_of(frames: Floats, backdrop: Floats, names: Sequence[str], style: str) -> list[Floats]:
    """Return how surely the pixels of frames have each of some colours, rather than another one or the background's.

    A pixel is judged together with its neighbours, for noise and compression blur the colours of single ones; but not
    in pixel art, whose big pixels have no neighbours of their kind.

    Args:
        frames: (t h w 3) in 0…255.
        backdrop: (t h w), density of the pixel's colour in the scene's palette.
        names: Of the colours.
        style: Of the clip.

    Returns:
        (t h w) in 0…1, for each colour.
    """
    logs = [np.log(_BACKDROP_ODDS * (backdrop + UNIFORM))]
    logs += [np.log(density(frames, own_palette(style, name), _SIGMA) + _FAINT) for name in names]
    votes = [np.exp(_VOTES * (one if style == "pixel" else _mean_around(one))) for one in logs]
    total = sum(votes)
    return [supported(one / total, style) for one in votes[1:]]


def _mean_around(values: Floats) -> Floats:
    """Return the weighted means of values (t h w) over a pixel and its eight neighbours."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return ((rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4).astype(np.float32, copy=False)


def supported(mask: Floats, style: str) -> Floats:
    """Return a mask (… h w) without lines one pixel wide: where two parts of a scene meet, they mix to any colour.

    Pixel art has no such mixtures, and parts of its objects are that narrow. In a sketch, so are the lines around an
    object, which say most about its colour.
    """
    if style in ("pixel", "sketch"):
        return mask
    across = mask.copy()
    across[..., 1:] += mask[..., :-1]
    across[..., :-1] += mask[..., 1:]
    around = across.copy()
    around[..., 1:, :] += across[..., :-1, :]
    around[..., :-1, :] += across[..., 1:, :]
    return mask * np.clip(around / 3 - 1, 0, 1)


@cache
def own_palette(style: str, colour: str) -> Palette:
    """Return what tells an object's colour: the fills of its body, of darker and lighter parts; thick lines."""
    body, shade, light = (paint(style, role, colour)[0] for role in ("body", "shade", "light"))
    shares = {body: 0.5, shade: 0.3, light: 0.2}
    if style == "sketch":  # the lines are as wide as a pixel, and mix with the fills
        line = paint(style, "body", colour)[1]
        shares = {body: 0.25, shade: 0.15, light: 0.05, line: 0.25}
        shares |= {mix(body, line, 1 / 3): 0.1, mix(body, line, 2 / 3): 0.1, mix(shade, line, 1 / 2): 0.1}
    return Palette(np.array(list(shares), dtype=np.float32), np.array(list(shares.values()), dtype=np.float32))


def find_spot(colour: str, mask: Floats) -> Spot:
    """Return where a mask (t h w) gathers in every frame."""
    num_frames, rows, columns = mask.shape
    ys, xs = np.mgrid[0:rows, 0:columns] + 0.5
    sums = _box_sums(mask, max(1, round(_WINDOW * rows / 2)))
    centres, areas, densities = np.zeros((num_frames, 2)), np.zeros(num_frames), np.zeros(num_frames)
    for frame, (one, summed) in enumerate(zip(mask, sums, strict=True)):
        row, column = np.unravel_index(int(summed.argmax()), summed.shape)
        x, y = float(column) + 0.5, float(row) + 0.5
        for reach in (0.7 * REACH, REACH, REACH):
            near = one * ((xs - x) ** 2 + (ys - y) ** 2 < (reach * rows) ** 2)
            area = float(near.sum())
            if area > 0:
                x, y = float((near * xs).sum()) / area, float((near * ys).sum()) / area
        spread = float((near * ((xs - x) ** 2 + (ys - y) ** 2)).sum()) / max(area, 1e-9)
        centres[frame], areas[frame] = (x, y), area
        densities[frame] = area / (2 * np.pi * max(spread, 0.1))
    return Spot(colour, centres, areas, densities)


def _box_sums(mask: Floats, half: int) -> Floats:
    """Return the sums of a mask (t h w) over boxes of 2 half + 1 pixels around every pixel."""
    padded = np.pad(mask, ((0, 0), (half + 1, half), (half + 1, half))).cumsum(axis=1).cumsum(axis=2)
    size = 2 * half + 1
    return padded[:, size:, size:] - padded[:, :-size, size:] - padded[:, size:, :-size] + padded[:, :-size, :-size]
