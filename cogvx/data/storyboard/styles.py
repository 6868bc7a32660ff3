"""The four ways of drawing: how a colour becomes a fill and a line, and what happens to the finished frames."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cogvx.data.storyboard.vocabulary import COLOUR_RGB, Rgb

BLACK: Rgb = (0, 0, 0)
WHITE: Rgb = (255, 255, 255)

DETAIL_RGB: dict[str, Rgb] = {
    "glass": (190, 232, 250),
    "tyre": (38, 38, 44),
    "metal": (196, 198, 206),
    "wood": (122, 78, 44),
    "eye": (255, 255, 255),
    "pupil": (20, 20, 26),
    "beak": (246, 168, 36),
    "leaf": (70, 140, 60),
    "skin": (242, 200, 164),
    "hair": (72, 46, 32),
}
"""Colours of an object's small details, by the role of the part."""


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """Return a colour that is `share` (0 to 1) of the second and the rest of the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Style:
    """How a style colours things; widths of lines are in frame heights."""

    paper: Rgb
    body_fill: float  # share of the object's own colour in its fill, the rest is paper
    scene_fill: float  # the same for the background
    line: float  # share of black in the line around an object
    line_width: float
    detail_width: float
    scene_line_width: float
    scene_line: Rgb | None


STYLE_TABLE = {
    "flat": Style(WHITE, 1.0, 1.0, 0.45, 0.011, 0.0, 0.0, None),
    "pixel": Style(WHITE, 1.0, 1.0, 0.60, 0.034, 0.0, 0.0, None),
    "sketch": Style((251, 247, 236), 0.42, 0.20, 0.10, 0.026, 0.012, 0.008, (150, 146, 140)),
    "watercolour": Style((250, 246, 238), 0.82, 0.62, 0.22, 0.013, 0.0, 0.0, None),
}


@cache
def paint(style_name: str, role: str, colour: str) -> tuple[Rgb, Rgb, float]:
    """Return the fill, the line's colour and the line's width (frame heights, 0 for none) of a part."""
    style, own = STYLE_TABLE[style_name], COLOUR_RGB[colour]
    if role in DETAIL_RGB:
        base = DETAIL_RGB[role]
        return mix(style.paper, base, style.body_fill), mix(base, BLACK, 0.5), style.detail_width
    line = mix(own, BLACK, style.line + (0.12 if colour == "yellow" and style.line < 0.2 else 0.0))
    if role == "light":
        return mix(style.paper, mix(own, WHITE, 0.55), style.body_fill), line, 0.0
    base = mix(own, BLACK, 0.24) if role == "shade" else own
    return mix(style.paper, base, style.body_fill), line, style.line_width


@cache
def scene_paint(style_name: str, colour: Rgb) -> Rgb:
    """Return the fill of a part of the background."""
    style = STYLE_TABLE[style_name]
    if style.scene_line:  # light tints keep apart only if their hues are strong
        grey = sum(colour) / 3
        red, green, blue = (min(255, max(0, round(grey + 2.4 * (value - grey)))) for value in colour)
        colour = (red, green, blue)
    return mix(style.paper, colour, style.scene_fill)


@cache
def paper_grain(height: int, width: int) -> NDArray[np.uint16]:
    """Return the grain of watercolour paper (h w 1), a factor in 256ths; always the same paper."""
    rng = np.random.default_rng(20240806)
    fine = rng.normal(0.0, 1.0, (height, width))
    cell = max(4, height // 8)
    reach = round(cell * 3 / 8)
    coarse = rng.normal(0.0, 1.0, (height // cell + 3, width // cell + 3))
    coarse = coarse.repeat(cell, axis=0).repeat(cell, axis=1)
    for axis in (0, 1):  # two box blurs turn the coarse squares into soft stains
        for _ in range(2):
            shifted = [np.roll(coarse, shift, axis=axis) for shift in range(-reach, reach + 1)]
            coarse = np.mean(shifted, axis=0)
    stains = coarse[cell : cell + height, cell : cell + width]
    factor = 250.0 + 3.0 * fine + 12.0 * stains
    return np.clip(np.rint(factor), 220, 256).astype(np.uint16)[:, :, None]
