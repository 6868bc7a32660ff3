"""The eight backgrounds, drawn with simple shapes; a seed moves the small details about.

Coordinates: frame heights, y from 0 (top) to 1; x from `left` to `right`, wider than the frame when the camera pans.
"""

from collections.abc import Callable
from math import pi, sin
from random import Random

from PIL import Image, ImageDraw

from cogvx.data.storyboard.styles import STYLE_TABLE, mix, scene_paint
from cogvx.data.storyboard.vocabulary import Rgb

Corners = list[tuple[float, float]]


class Backdrop:
    """A sheet to draw a background on, in frame heights."""

    def __init__(self, style_name: str, *, left: float, right: float, pixels: int) -> None:
        """Make a sheet from `left` to `right`, with `pixels` to a frame height."""
        self.style_name, self.style = style_name, STYLE_TABLE[style_name]
        self.left, self.right, self.pixels = left, right, pixels
        size = (round((right - left) * pixels), pixels)
        self.image = Image.new("RGB", size, self.style.paper)
        self.draw = ImageDraw.Draw(self.image)
        self.line_width = round(self.style.scene_line_width * pixels)

    def _screen(self, corners: Corners) -> list[tuple[int, int]]:
        return [(round((x - self.left) * self.pixels), round(y * self.pixels)) for x, y in corners]

    def polygon(self, colour: Rgb, corners: Corners) -> None:
        """Fill a polygon; styles with lines draw its edge too."""
        points = self._screen(corners)
        self.draw.polygon(points, fill=scene_paint(self.style_name, colour))
        if self.line_width and self.style.scene_line:
            line = mix(self.style.scene_line, colour, 0.35)
            self.draw.line([*points, points[0]], fill=line, width=self.line_width)

    def box(self, colour: Rgb, left: float, top: float, right: float, bottom: float) -> None:
        """Fill a rectangle."""
        self.polygon(colour, [(left, top), (right, top), (right, bottom), (left, bottom)])

    def ellipse(self, colour: Rgb, x: float, y: float, radius_x: float, radius_y: float | None = None) -> None:
        """Fill an ellipse."""
        radius_y = radius_y or radius_x
        (x0, y0), (x1, y1) = self._screen([(x - radius_x, y - radius_y), (x + radius_x, y + radius_y)])
        line = mix(self.style.scene_line, colour, 0.35) if self.style.scene_line else None
        fill = scene_paint(self.style_name, colour)
        self.draw.ellipse((x0, y0, x1, y1), fill=fill, outline=line, width=self.line_width)

    def bands(self, colours: list[Rgb], top: float, bottom: float, *, steps: int = 10) -> None:
        """Fill the whole width with a gradient through some colours, as steps without lines."""
        for step in range(steps):
            place = step / (steps - 1) * (len(colours) - 1)
            index = min(int(place), len(colours) - 2)
            fill = scene_paint(self.style_name, mix(colours[index], colours[index + 1], place - index))
            y0, y1 = (top + (bottom - top) * edge / steps for edge in (step, step + 1))
            (_, row0), (_, row1) = self._screen([(0.0, y0), (0.0, y1)])
            self.draw.rectangle((0, row0, self.image.width, row1), fill=fill)

    def hills(self, colour: Rgb, base: float, height: float, wave: float, phase: float) -> None:
        """Fill everything below a wavy line."""
        steps = 40
        span = self.right - self.left
        xs = [self.left - 0.01 + (span + 0.02) * step / steps for step in range(steps + 1)]
        top = [(x, base - height * (0.5 + 0.5 * sin(2 * pi * x / wave + phase))) for x in xs]
        self.polygon(colour, [*top, (self.right + 0.02, 1.02), (self.left - 0.02, 1.02)])

    def spread(self, rng: Random, gap: float) -> list[float]:
        """Return x positions about `gap` apart over the whole sheet."""
        x = self.left + gap * rng.uniform(0.1, 0.6)
        places = []
        while x < self.right + gap * 0.3:
            places.append(x)
            x += gap * rng.uniform(0.85, 1.15)
        return places


def _clouds(sheet: Backdrop, rng: Random, colour: Rgb) -> None:
    for x in sheet.spread(rng, 0.72):
        y, size = rng.uniform(0.09, 0.2), rng.uniform(0.85, 1.1)
        if sheet.line_width:  # with lines, three circles would look like three circles
            sheet.ellipse(colour, x, y, 0.13 * size, 0.04 * size)
            continue
        for dx, dy, radius in ((-0.09, 0.01, 0.04), (0.0, -0.012, 0.055), (0.085, 0.012, 0.038)):
            sheet.ellipse(colour, x + dx * size, y + dy * size, radius * 1.35 * size, radius * size)


def _field(sheet: Backdrop, rng: Random) -> None:
    sheet.box((150, 208, 244), sheet.left, 0, sheet.right, 1)
    _clouds(sheet, rng, (238, 246, 252))
    sheet.hills((122, 190, 104), 0.56, 0.10, 1.3, rng.uniform(0, 6))
    sheet.box((98, 180, 78), sheet.left, 0.56, sheet.right, 1)
    for row in (0.66, 0.80, 0.93):
        for x in sheet.spread(rng, 0.24):
            y = row + rng.uniform(-0.025, 0.025)
            sheet.polygon(
                (66, 142, 56), [(x - 0.02, y), (x - 0.008, y - 0.045), (x, y), (x + 0.012, y - 0.045), (x + 0.022, y)]
            )


def _sea(sheet: Backdrop, rng: Random) -> None:
    sheet.box((196, 228, 244), sheet.left, 0, sheet.right, 1)
    _clouds(sheet, rng, (244, 249, 252))
    sheet.box((36, 118, 188), sheet.left, 0.42, sheet.right, 1)
    for row, colour in enumerate(((62, 146, 208), (78, 160, 216), (92, 172, 222), (108, 184, 228))):
        y = 0.50 + 0.135 * row
        width = 0.05 + 0.02 * row
        for x in sheet.spread(rng, 0.30 + 0.03 * row):
            crest = [(x - width, y), (x - width * 0.4, y - 0.016), (x + width * 0.4, y - 0.016), (x + width, y)]
            sheet.polygon(colour, [*crest, (x, y + 0.014)])


def _night(sheet: Backdrop, rng: Random) -> None:
    sheet.bands([(10, 14, 46), (24, 30, 82)], 0, 1, steps=8)
    middle = (sheet.left + sheet.right) / 2
    for x in sheet.spread(rng, 0.11):
        y, size = rng.uniform(0.03, 0.78), rng.choice((0.007, 0.010, 0.014))
        sheet.ellipse((228, 230, 250), x, y, size)
    moon = middle + rng.choice((-1, 1)) * rng.uniform(0.45, 0.52)
    sheet.ellipse((246, 240, 198), moon, 0.17, 0.085)
    sheet.ellipse((14, 18, 54), moon + 0.04, 0.15, 0.07)
    sheet.hills((16, 26, 34), 0.93, 0.07, 0.9, rng.uniform(0, 6))


def _desert(sheet: Backdrop, rng: Random) -> None:
    sheet.box((158, 212, 240), sheet.left, 0, sheet.right, 1)
    middle = (sheet.left + sheet.right) / 2
    sheet.ellipse((255, 246, 204), middle + rng.choice((-1, 1)) * 0.5, 0.15, 0.075)
    sheet.hills((222, 182, 112), 0.55, 0.12, 1.1, rng.uniform(0, 6))
    sheet.hills((238, 206, 142), 0.74, 0.10, 1.6, rng.uniform(0, 6))
    for x in sheet.spread(rng, 0.62):
        y = rng.uniform(0.56, 0.60)
        cactus = (96, 146, 92)
        sheet.box(cactus, x - 0.018, y - 0.15, x + 0.018, y + 0.03)
        sheet.polygon(
            cactus,
            [
                (x - 0.07, y - 0.10),
                (x - 0.042, y - 0.10),
                (x - 0.042, y - 0.055),
                (x, y - 0.055),
                (x, y - 0.02),
                (x - 0.07, y - 0.02),
            ],
        )
        sheet.polygon(
            cactus,
            [
                (x + 0.07, y - 0.12),
                (x + 0.042, y - 0.12),
                (x + 0.042, y - 0.075),
                (x, y - 0.075),
                (x, y - 0.04),
                (x + 0.07, y - 0.04),
            ],
        )
    for x in sheet.spread(rng, 0.33):
        y = rng.uniform(0.78, 0.94)
        sheet.polygon((220, 182, 116), [(x - 0.08, y), (x, y - 0.012), (x + 0.08, y), (x, y + 0.012)])


def _snow(sheet: Backdrop, rng: Random) -> None:
    sheet.box((158, 192, 222), sheet.left, 0, sheet.right, 1)
    sheet.hills((206, 220, 236), 0.56, 0.22, 0.8, rng.uniform(0, 6))
    sheet.hills((232, 239, 247), 0.66, 0.14, 1.2, rng.uniform(0, 6))
    for x in sheet.spread(rng, 0.42):
        y = rng.uniform(0.62, 0.70)
        for top, half in ((-0.19, 0.05), (-0.13, 0.07)):
            sheet.polygon((62, 112, 96), [(x, y + top), (x + half, y + top + 0.12), (x - half, y + top + 0.12)])
        sheet.box((110, 78, 56), x - 0.012, y - 0.01, x + 0.012, y + 0.03)
    sheet.hills((249, 251, 254), 0.86, 0.07, 1.5, rng.uniform(0, 6))


def _city(sheet: Backdrop, rng: Random) -> None:
    sheet.box((172, 190, 208), sheet.left, 0, sheet.right, 1)
    x = sheet.left - rng.uniform(0, 0.15)
    while x < sheet.right:
        width, top = rng.uniform(0.24, 0.32), rng.uniform(0.12, 0.36)
        shade = rng.choice(((118, 124, 140), (142, 146, 158), (100, 106, 122)))
        sheet.box(shade, x, top, x + width, 0.72)
        columns = 3
        for column in range(columns):
            for row in range(3):
                left, y = x + width * (0.14 + 0.29 * column), top + 0.05 + 0.115 * row
                if y < 0.6:
                    sheet.box((226, 214, 160), left, y, left + width * 0.15, y + 0.055)
        x += width + rng.choice((0.0, 0.02))
    sheet.box((176, 172, 168), sheet.left, 0.70, sheet.right, 1)
    sheet.box((74, 76, 84), sheet.left, 0.76, sheet.right, 1)
    for x in sheet.spread(rng, 0.30):
        sheet.box((214, 212, 206), x - 0.07, 0.870, x + 0.07, 0.892)


def _room(sheet: Backdrop, rng: Random) -> None:
    sheet.box((214, 190, 158), sheet.left, 0, sheet.right, 1)
    for x in sheet.spread(Random(1), 0.16):
        sheet.box((206, 180, 147), x - 0.028, 0, x + 0.028, 0.72)
    side = rng.choice((-1, 1))
    middle = (sheet.left + sheet.right) / 2
    window = middle + side * rng.uniform(0.40, 0.46)
    sheet.box((240, 236, 228), window - 0.20, 0.09, window + 0.20, 0.47)
    sheet.box((164, 210, 238), window - 0.17, 0.12, window - 0.015, 0.44)
    sheet.box((164, 210, 238), window + 0.015, 0.12, window + 0.17, 0.44)
    picture = middle - side * rng.uniform(0.40, 0.46)
    sheet.box((112, 72, 46), picture - 0.14, 0.14, picture + 0.14, 0.38)
    sheet.box((196, 212, 190), picture - 0.11, 0.17, picture + 0.11, 0.35)
    sheet.polygon((128, 150, 140), [(picture - 0.11, 0.35), (picture - 0.02, 0.23), (picture + 0.08, 0.35)])
    sheet.box((140, 92, 58), sheet.left, 0.72, sheet.right, 1)
    sheet.box((238, 230, 216), sheet.left, 0.695, sheet.right, 0.725)
    for y in (0.81, 0.905):
        sheet.box((118, 76, 46), sheet.left, y, sheet.right, y + 0.010)
    for x in sheet.spread(rng, 0.45):
        y = rng.choice((0.725, 0.82))
        sheet.box((118, 76, 46), x, y, x + 0.010, y + 0.085)


def _sunset(sheet: Backdrop, rng: Random) -> None:
    sheet.bands([(214, 92, 156), (246, 140, 164), (255, 186, 156), (255, 196, 150)], 0, 1, steps=16)
    middle = (sheet.left + sheet.right) / 2
    sun = middle + rng.choice((-1, 1)) * rng.uniform(0.2, 0.4)
    sheet.ellipse((255, 240, 190), sun, 0.68, 0.17)
    for x in sheet.spread(rng, 0.66):
        y = rng.uniform(0.10, 0.34)
        sheet.ellipse((252, 190, 196), x, y, 0.17, 0.022)
        sheet.ellipse((252, 190, 196), x + 0.08, y + 0.03, 0.13, 0.018)
    sheet.hills((140, 72, 112), 0.76, 0.09, 0.9, rng.uniform(0, 6))
    sheet.hills((96, 50, 88), 0.88, 0.07, 1.4, rng.uniform(0, 6))


_SCENES: dict[str, Callable[[Backdrop, Random], None]] = {
    "field": _field,
    "sea": _sea,
    "night": _night,
    "desert": _desert,
    "snow": _snow,
    "city": _city,
    "room": _room,
    "sunset": _sunset,
}


def draw_scene(scene: str, style_name: str, *, seed: int, left: float, right: float, pixels: int) -> Image.Image:
    """Draw a background from x = `left` to `right` (frame heights) with `pixels` to a frame height."""
    sheet = Backdrop(style_name, left=left, right=right, pixels=pixels)
    _SCENES[scene](sheet, Random(seed))
    return sheet.image
