"""Objects as coloured polygons, in units of the object's size, centred on (0, 0), y downwards, facing right."""

from functools import cache
from math import cos, pi, sin
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Corners of a polygon, (n 2)."""


class Part(NamedTuple):
    """One polygon; `role` says what it is coloured by: "body", "shade" and "light" take the object's colour."""

    role: str
    points: Points


def polygon(*corners: tuple[float, float]) -> Points:
    """Return corners as an array (n 2)."""
    return np.array(corners, dtype=np.float64)


def ellipse(x: float, y: float, radius_x: float, radius_y: float | None = None, *, num: int = 26) -> Points:
    """Return an ellipse as a polygon of `num` corners (num 2)."""
    angle = np.arange(num) * (2 * pi / num)
    return np.stack([x + radius_x * np.cos(angle), y + (radius_y or radius_x) * np.sin(angle)], axis=1)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return a rectangle (4 2)."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def _circle() -> list[Part]:
    return [Part("body", ellipse(0, 0, 0.5, num=40)), Part("light", ellipse(-0.17, -0.19, 0.11, 0.09, num=12))]


def _square() -> list[Part]:
    return [Part("body", box(-0.43, -0.43, 0.43, 0.43))]


def _triangle() -> list[Part]:
    return [Part("body", polygon((0, -0.52), (0.54, 0.42), (-0.54, 0.42)))]


def _star() -> list[Part]:
    angles = [-pi / 2 + k * pi / 5 for k in range(10)]
    radii = [0.56 if k % 2 == 0 else 0.235 for k in range(10)]
    return [Part("body", polygon(*((r * cos(a), r * sin(a) + 0.04) for r, a in zip(radii, angles, strict=True))))]


def _heart() -> list[Part]:
    turn = np.arange(36) * (2 * pi / 36)
    x = 16 * np.sin(turn) ** 3
    y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
    return [Part("body", np.stack([x, y - 2.3], axis=1) / 31.0)]


def _diamond() -> list[Part]:
    return [
        Part("body", polygon((0, -0.56), (0.38, 0), (0, 0.56), (-0.38, 0))),
        Part("light", polygon((0, -0.42), (0.0, 0), (-0.28, 0))),
    ]


def _car() -> list[Part]:
    return [
        Part("body", polygon((-0.30, -0.04), (-0.19, -0.31), (0.17, -0.31), (0.34, -0.04))),
        Part("body", polygon((-0.58, 0.0), (-0.54, -0.06), (0.50, -0.06), (0.60, 0.04), (0.60, 0.22), (-0.58, 0.22))),
        Part("glass", polygon((-0.21, -0.05), (-0.135, -0.245), (-0.02, -0.245), (-0.02, -0.05))),
        Part("glass", polygon((0.05, -0.05), (0.05, -0.245), (0.135, -0.245), (0.24, -0.05))),
        Part("tyre", ellipse(-0.31, 0.22, 0.14, num=18)),
        Part("tyre", ellipse(0.33, 0.22, 0.14, num=18)),
        Part("metal", ellipse(-0.31, 0.22, 0.06, num=10)),
        Part("metal", ellipse(0.33, 0.22, 0.06, num=10)),
    ]


def _boat() -> list[Part]:
    return [
        Part("wood", box(-0.03, -0.50, 0.03, 0.18)),
        Part("body", polygon((0.08, -0.46), (0.44, 0.10), (0.08, 0.10))),
        Part("light", polygon((-0.08, -0.36), (-0.08, 0.10), (-0.36, 0.10))),
        Part("body", polygon((-0.58, 0.17), (0.58, 0.17), (0.38, 0.47), (-0.38, 0.47))),
    ]


def _fish() -> list[Part]:
    return [
        Part("shade", polygon((-0.26, 0.0), (-0.60, -0.27), (-0.50, 0.0), (-0.60, 0.27))),
        Part("shade", polygon((-0.14, -0.18), (0.04, -0.40), (0.20, -0.18))),
        Part("body", ellipse(0.10, 0, 0.45, 0.27)),
        Part("shade", polygon((0.02, 0.04), (-0.14, 0.18), (0.10, 0.16))),
        Part("eye", ellipse(0.34, -0.07, 0.075, num=14)),
        Part("pupil", ellipse(0.36, -0.07, 0.04, num=10)),
    ]


def _bird() -> list[Part]:
    return [
        Part("beak", polygon((0.42, -0.24), (0.66, -0.12), (0.42, -0.04))),
        Part("shade", polygon((-0.22, 0.02), (-0.62, -0.12), (-0.56, 0.16), (-0.20, 0.22))),
        Part("body", ellipse(0.0, 0.10, 0.36, 0.24)),
        Part("body", ellipse(0.30, -0.14, 0.185, num=20)),
        Part("shade", polygon((0.14, 0.12), (-0.02, -0.46), (-0.30, -0.40), (-0.20, 0.10))),
        Part("eye", ellipse(0.34, -0.18, 0.065, num=12)),
        Part("pupil", ellipse(0.355, -0.18, 0.04, num=10)),
    ]


def _tree() -> list[Part]:
    return [
        Part("wood", polygon((-0.07, 0.1), (0.07, 0.1), (0.10, 0.52), (-0.10, 0.52))),
        Part("body", ellipse(-0.21, 0.02, 0.21, num=20)),
        Part("body", ellipse(0.21, 0.02, 0.21, num=20)),
        Part("body", ellipse(-0.14, -0.24, 0.21, num=20)),
        Part("body", ellipse(0.14, -0.24, 0.21, num=20)),
        Part("body", ellipse(0, -0.34, 0.18, num=20)),
        Part("body", ellipse(0, -0.06, 0.24, num=20)),
    ]


def _house() -> list[Part]:
    return [
        Part("shade", box(0.20, -0.46, 0.31, -0.18)),
        Part("body", box(-0.38, -0.08, 0.38, 0.48)),
        Part("shade", polygon((-0.54, -0.06), (0, -0.52), (0.54, -0.06))),
        Part("wood", box(-0.06, 0.14, 0.14, 0.48)),
        Part("glass", box(-0.29, 0.06, -0.13, 0.24)),
        Part("glass", box(0.20, 0.06, 0.32, 0.24)),
    ]


def _flower() -> list[Part]:
    petals = [(0.21 * cos(k * pi / 3), 0.21 * sin(k * pi / 3) - 0.2) for k in range(6)]
    return [
        Part("leaf", box(-0.035, 0.0, 0.035, 0.52)),
        Part("leaf", polygon((0, 0.42), (0.10, 0.22), (0.30, 0.16), (0.22, 0.34))),
        Part("leaf", polygon((0, 0.46), (-0.10, 0.28), (-0.30, 0.22), (-0.22, 0.40))),
        *(Part("body", ellipse(x, y, 0.145, num=16)) for x, y in petals),
        Part("wood", ellipse(0, -0.2, 0.115, num=16)),
    ]


_DRAWINGS = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "diamond": _diamond,
    "car": _car,
    "boat": _boat,
    "fish": _fish,
    "bird": _bird,
    "tree": _tree,
    "house": _house,
    "flower": _flower,
}


@cache
def parts_of(kind: str) -> tuple[Part, ...]:
    """Return the polygons of a rigid object, back to front; the arrays are shared and read-only."""
    parts = tuple(_DRAWINGS[kind]())
    for part in parts:
        part.points.setflags(write=False)
    return parts
