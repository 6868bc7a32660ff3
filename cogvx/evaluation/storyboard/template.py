"""An object drawn alone: its pixels and how much of each it covers, to be held against a clip."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, log
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from cogvx.data.storyboard.motion import Pose, placed_parts
from cogvx.data.storyboard.render import SUPERSAMPLE, draw_parts
from cogvx.data.storyboard.shapes import Part
from cogvx.data.storyboard.spec import ObjectSpec
from cogvx.evaluation.storyboard.backdrop import Floats

_PIXEL_SUPERSAMPLE = 3
_PHASES = 2  # places within a pixel, along each axis, that are drawn anew
_RATIO = 1.03  # of a size to the next one that is drawn anew


class Template(NamedTuple):
    """An object in a frame.

    Attributes:
        left: Column of the frame where the patch begins; may be negative, as may the top.
        top: Row of the frame where it begins.
        colours: (h w 3) in 0…255, of what is covered.
        cover: (h w), the covered part of each pixel, 0 to 1.
    """

    left: int
    top: int
    colours: Floats
    cover: Floats


@dataclass(frozen=True)
class Figure:
    """How an object looks at one time, wherever it is.

    Attributes:
        kind: One of the world's.
        colour: One of the world's.
        style: One of the world's.
        action: What a person does; of other kinds it does not matter.
        seconds: When, for a person's limbs.
        lift: Height of a person's jump, 0 to 1.
        angle: Radians clockwise.
        mirrored: Facing left.
    """

    kind: str
    colour: str
    style: str
    action: str = "still"
    seconds: float = 0.0
    lift: float = 0.0
    angle: float = 0.0
    mirrored: bool = False


def draw_template(figure: Figure, x: float, y: float, size: float, *, rows: int, zoom: float = 1.0) -> Template:
    """Draw an object as the renderer does, on nothing.

    Args:
        figure: What it looks like.
        x: Of its centre on the screen, in pixels of the grid; rounded, so that drawings can be used again.
        y: The same downwards.
        size: In pixels of the grid, so that a zoom is part of it; above 0, rounded too.
        rows: Height of the frame in pixels of the grid.
        zoom: Of the camera, for the width of lines.
    """
    steps = _PIXEL_SUPERSAMPLE if figure.style == "pixel" else _PHASES
    column, row = floor(x), floor(y)
    part_x, part_y = round((x - column) * steps) / steps, round((y - row) * steps) / steps
    drawn = _draw(figure, part_x, part_y, _RATIO ** round(log(size, _RATIO)), rows, round(zoom, 1))
    return Template(drawn.left + column, drawn.top + row, drawn.colours, drawn.cover)


@lru_cache(maxsize=4096)
def _draw(figure: Figure, x: float, y: float, size: float, rows: int, zoom: float) -> Template:
    one = ObjectSpec(figure.kind, figure.colour, "medium", figure.action)
    pose = Pose(x / rows, y / rows, size / rows, figure.angle, 1.0, figure.mirrored, figure.lift)
    parts, corners = placed_parts(one, pose, figure.seconds)
    scale = _PIXEL_SUPERSAMPLE if figure.style == "pixel" else SUPERSAMPLE
    margin = 0.035 * rows * zoom + 1
    left, top = (floor(low * rows - margin) for low in corners.min(axis=0))
    right, bottom = (ceil(high * rows + margin) for high in corners.max(axis=0))
    image = Image.new("RGBA", ((right - left) * scale, (bottom - top) * scale))
    placed = [Part(part.role, (part.points * rows - (left, top)) * scale) for part in parts]
    draw_parts(image, placed, figure.style, figure.colour, scale * rows * zoom)
    if figure.style == "pixel":
        middle = scale // 2
        small = np.asarray(image)[middle::scale, middle::scale].astype(np.float32)
    else:
        # Four plain channels: Pillow would divide those of RGBA by the alpha, which is done below, after the blur.
        shrunk = Image.frombytes("CMYK", image.size, image.tobytes()).reduce(scale)
        if figure.style == "watercolour":
            shrunk = shrunk.filter(ImageFilter.GaussianBlur(0.010 * rows))
        small = np.asarray(shrunk, dtype=np.float32)
    cover = (small[..., 3] / 255).astype(np.float32, copy=False)
    colours = small[..., :3] / np.maximum(cover, 1 / 255)[..., None]
    return Template(left, top, colours.astype(np.float32, copy=False), cover)
