"""Pictures of clips side by side with words beneath, and of packs as bars: what a person looks over before training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cogvx.data.buckets import Shape
from cogvx.data.video import resize_exact
from cogvx.files import clean

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

_GAP, _LINE, _FONT = 4, 15, 12  # pixels between frames, from line to line, of the letters
_MARGIN = 12  # pixels around a tile
_PAGE_WIDTH = 1600  # pixels that tiles share, as many side by side as fit
_MIN_WIDTH = 220  # pixels of a tile, for its words
_MAX_LINES, _MORE = 6, " ..."  # of a caption, and what stands at its end if there are more
_BLACK, _GREY, _RED, _WHITE = (20, 20, 20), (110, 110, 110), (190, 30, 30), (255, 255, 255)
_EMPTY = (225, 225, 225)
_BAR, _BAR_GAP, _BAR_WORDS = 14, 4, 70
# Told apart by most eyes, also in the order in which they come.
_COLOURS = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0),
    (240, 228, 66), (120, 94, 160), (102, 166, 30), (166, 118, 29), (231, 41, 138), (80, 80, 80),
)  # fmt: skip

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, eq=False)
class Tile:
    """One clip on a sheet.

    Attributes:
        frames: Those that are shown, uint8 (t h w 3).
        title: What it is, in one line.
        caption: Beneath, in at most six lines.
        faults: In red, a line each.
    """

    frames: np.ndarray
    title: str
    caption: str = ""
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackPlan:
    """Packs to be drawn.

    Attributes:
        title: What they are, in one line.
        budget: Tokens that a pack may have.
        packs: The shape and the tokens of each clip in each pack.
    """

    title: str
    budget: int
    packs: Sequence[Sequence[tuple[Shape, int]]]


def draw_tiles(tiles: Sequence[Tile], *, max_height: int) -> "tuple[Image.Image, list[list[Box]]]":
    """Return a sheet of clips, and where each frame of each clip stands on it.

    Args:
        tiles: The clips.
        max_height: Pixels; higher frames are made smaller, others keep their size.
    """
    from PIL import Image, ImageDraw

    font = _font()
    shown = [_fitted(tile.frames, max_height) for tile in tiles]
    strips = [len(frames) * (frames.shape[2] + _GAP) - _GAP for frames in shown]
    width = max([*strips, _MIN_WIDTH]) + 2 * _MARGIN
    columns = max(1, _PAGE_WIDTH // width)
    words = [_words(tile, font, width - 2 * _MARGIN) for tile in tiles]
    heights = [
        frames.shape[1] + _GAP + _LINE * len(lines) + 2 * _MARGIN for frames, lines in zip(shown, words, strict=True)
    ]
    rows = [heights[i : i + columns] for i in range(0, len(tiles), columns)]
    sheet = Image.new("RGB", (width * min(columns, len(tiles) or 1), max(sum(map(max, rows)), 1)), _WHITE)
    draw = ImageDraw.Draw(sheet)
    boxes: list[list[Box]] = []
    for index, (frames, lines) in enumerate(zip(shown, words, strict=True)):
        row, column = divmod(index, columns)
        left, top = column * width + _MARGIN, sum(map(max, rows[:row])) + _MARGIN
        boxes.append(_paste(sheet, frames, left, top))
        for number, (text, colour) in enumerate(lines):
            draw.text((left, top + frames.shape[1] + _GAP + number * _LINE), text, fill=colour, font=font)
    return sheet, boxes


def draw_packs(plan: PackPlan) -> "Image.Image":
    """Return packs as bars: each clip in the colour of its shape, as wide as its share of the tokens; grey is empty."""
    from PIL import Image, ImageDraw

    font = _font()
    shapes = sorted({shape for pack in plan.packs for shape, _ in pack})
    colours = {shape: _COLOURS[i % len(_COLOURS)] for i, shape in enumerate(shapes)}
    legend, legend_rows = _legend(shapes, font)
    top = _MARGIN + 2 * _LINE + legend_rows * _LINE
    sheet = Image.new("RGB", (_PAGE_WIDTH, top + len(plan.packs) * (_BAR + _BAR_GAP) + _MARGIN), _WHITE)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), clean(plan.title), fill=_BLACK, font=font)
    for shape, left, row in legend:
        y = _MARGIN + int(1.5 * _LINE) + row * _LINE
        draw.rectangle((left, y + 2, left + 10, y + 12), fill=colours[shape])
        draw.text((left + 15, y), str(shape), fill=_BLACK, font=font)
    for number, pack in enumerate(plan.packs):
        _draw_pack(draw, pack, plan.budget, top + number * (_BAR + _BAR_GAP), colours, font)
    return sheet


def stack(parts: Sequence["Image.Image"]) -> "Image.Image":
    """Return sheets below each other as one."""
    from PIL import Image

    sheet = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), _WHITE)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def evenly(count: int, wanted: int) -> list[int]:
    """Return up to `wanted` of the numbers 0 … count - 1, evenly spread, the first and the last among them."""
    if wanted >= count:
        return list(range(count))
    return [round(i * (count - 1) / max(wanted - 1, 1)) for i in range(wanted)]


def _font() -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(size=_FONT)


def _fitted(frames: np.ndarray, max_height: int) -> np.ndarray:
    _, height, width, _ = frames.shape
    if height <= max_height:
        return frames
    return resize_exact(frames, max_height, max(1, round(width * max_height / height)))


def _paste(sheet: "Image.Image", frames: np.ndarray, left: int, top: int) -> list[Box]:
    from PIL import Image

    boxes = []
    for frame in frames:
        box = (left, top, left + frame.shape[1], top + frame.shape[0])
        sheet.paste(Image.fromarray(np.ascontiguousarray(frame)), box[:2])
        boxes.append(box)
        left = box[2] + _GAP
    return boxes


def _words(
    tile: Tile, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int
) -> list[tuple[str, tuple[int, int, int]]]:
    """Return the lines beneath a clip with their colours."""
    lines = [(text, _GREY) for text in _wrapped(tile.title, font, width)[:2]]
    for fault in tile.faults:
        lines += [(text, _RED) for text in _wrapped(fault, font, width)[:2]]
    caption = _wrapped(tile.caption, font, width)
    if len(caption) > _MAX_LINES:
        last = caption[_MAX_LINES - 1]
        last = last[: _fitting(last, font, width - int(font.getlength(_MORE)) - 1)] + _MORE
        caption = [*caption[: _MAX_LINES - 1], last]
    return lines + [(text, _BLACK) for text in caption]


def _wrapped(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int) -> list[str]:
    """Cut a text into lines that fit, between words where there are any."""
    lines: list[str] = []
    rest = clean(text)[:2000].strip()
    while rest:
        count = _fitting(rest, font, width)
        if count < len(rest) and (space := rest.rfind(" ", 0, count + 1)) > 0:
            count = space
        lines.append(rest[:count])
        rest = rest[count:].lstrip()
    return lines


def _fitting(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int) -> int:
    """Return how many letters of a text fit into a line, at least one."""
    low, high = 1, min(len(text), width)  # no letter that is seen is narrower than a pixel
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low


def _legend(
    shapes: Sequence[Shape], font: "ImageFont.FreeTypeFont | ImageFont.ImageFont"
) -> tuple[list[tuple[Shape, int, int]], int]:
    """Return where each shape's name stands (left, row), and how many rows there are."""
    places, left, row = [], _MARGIN, 0
    for shape in shapes:
        width = int(font.getlength(str(shape))) + 35
        if left + width > _PAGE_WIDTH - _MARGIN:
            left, row = _MARGIN, row + 1
        places.append((shape, left, row))
        left += width
    return places, row + 1


def _draw_pack(
    draw: "ImageDraw.ImageDraw",
    pack: Sequence[tuple[Shape, int]],
    budget: int,
    top: int,
    colours: dict[Shape, tuple[int, int, int]],
    font: "ImageFont.FreeTypeFont | ImageFont.ImageFont",
) -> None:
    width = _PAGE_WIDTH - 2 * _MARGIN - _BAR_WORDS
    draw.rectangle((_MARGIN, top, _MARGIN + width - 1, top + _BAR - 1), fill=_EMPTY)
    done = 0
    for shape, tokens in pack:
        left, right = (_MARGIN + round(width * at / budget) for at in (done, done + tokens))
        draw.rectangle((left, top, max(left, right - 2), top + _BAR - 1), fill=colours[shape])
        done += tokens
    draw.text((_MARGIN + width + 8, top), f"{100 * done / budget:.1f} %", fill=_BLACK, font=font)
