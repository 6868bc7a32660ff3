"""Truth to pixels: the background once a clip, the objects in small supersampled patches on it."""

from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from cogvx.data.storyboard.motion import PAN, Path, View, placed_parts, progress_at, times_of, view_at
from cogvx.data.storyboard.scenes import draw_scene
from cogvx.data.storyboard.shapes import Part
from cogvx.data.storyboard.spec import SceneSpec, why_illegal
from cogvx.data.storyboard.styles import paint, paper_grain
from cogvx.errors import UsageError

SUPERSAMPLE = 4
PIXEL_ART_ROWS = 32  # pixel art has about this many rows of big pixels


class _Stage:
    """The background of one clip, and the frames cut from it; the grid is that of the finished (or big) pixels."""

    def __init__(self, spec: SceneSpec, *, height: int, width: int, aspect: float, scale: int) -> None:
        self.spec, self.height, self.width, self.scale = spec, height, width, scale
        self.panning = spec.camera.startswith("pan")
        self.zooming = spec.camera.startswith("zoom")
        self.left = -PAN * aspect / 2 - 2 / height if self.panning else 0.0
        pixels = height * scale
        right = aspect - self.left
        self.sheet = draw_scene(spec.scene, spec.style, seed=spec.seed, left=self.left, right=right, pixels=pixels)
        self.crisp = spec.style == "pixel"
        self.still = None if self.panning or self.zooming else self._shrink(self.sheet)

    def _shrink(self, image: Image.Image) -> Image.Image:
        if self.crisp:
            return image.resize((image.width // self.scale, image.height // self.scale), Image.Resampling.NEAREST)
        return image.reduce(self.scale)

    def _cut(self, window: tuple[float, float, float, float]) -> Image.Image:
        left, top, right, bottom = map(int, window)
        return self.sheet.crop((left, top, right, bottom))

    def _window(self, view: View, box: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
        """Return where on the sheet a box of the screen (left top right bottom, finished pixels) lies."""
        pixels = self.height * self.scale
        step = self.scale / view.zoom
        x0 = (view.x - self.left) * pixels - self.width / 2 * step
        y0 = view.y * pixels - self.height / 2 * step
        if not self.zooming:
            grid = self.scale if self.crisp else 1  # big pixels must not crawl when the camera pans
            x0, y0 = round(x0 / grid) * grid, round(y0 / grid) * grid
        return x0 + box[0] * step, y0 + box[1] * step, x0 + box[2] * step, y0 + box[3] * step

    def frame(self, view: View) -> Image.Image:
        """Return the background as the camera sees it, at the finished size."""
        if self.still is not None:
            return self.still.copy()
        window = self._window(view, (0, 0, self.width, self.height))
        if self.zooming:
            resample = Image.Resampling.NEAREST if self.crisp else Image.Resampling.BILINEAR
            return self.sheet.resize((self.width, self.height), resample, box=window)
        return self._shrink(self._cut(window))

    def patch(self, view: View, box: tuple[int, int, int, int]) -> Image.Image:
        """Return a box of the screen (finished pixels), supersampled."""
        window = self._window(view, box)
        if not self.zooming:
            return self._cut(window)
        size = ((box[2] - box[0]) * self.scale, (box[3] - box[1]) * self.scale)
        return self.sheet.resize(size, Image.Resampling.BILINEAR, box=window)

    def finish(self, patch: Image.Image, frame: Image.Image, corner: tuple[int, int]) -> None:
        """Shrink a patch that was drawn on, and lay it on the frame."""
        frame.paste(self._shrink(patch), corner)


def draw_parts(image: Image.Image, parts: list[Part], style: str, colour: str, unit: float) -> None:
    """Draw polygons whose corners are in the image's pixels; neighbours of one role share one line around them."""
    draw = ImageDraw.Draw(image)
    start = 0
    while start < len(parts):
        role = parts[start].role
        stop = start
        while stop < len(parts) and parts[stop].role == role:
            stop += 1
        fill, line, width = paint(style, role, colour)
        outlines = [np.rint(part.points).astype(int).ravel().tolist() for part in parts[start:stop]]
        thick = round(2 * width * unit)  # the fill covers the inner half
        if thick > 0:
            for flat in outlines:
                draw.line(flat + flat[:4], fill=line, width=thick)
                if thick > 5 or len(flat) <= 20 and thick > 3:  # round the joints, or they gape
                    half = thick / 2 - 0.5
                    for x, y in zip(flat[::2], flat[1::2], strict=True):
                        draw.ellipse((x - half, y - half, x + half, y + half), fill=line)
        for flat in outlines:
            draw.polygon(flat, fill=fill)
        start = stop


def _frame(stage: _Stage, paths: list[Path], view: View, seconds: float, aspect: float) -> Image.Image:
    frame = stage.frame(view)
    height, width = stage.height, stage.width
    drawn = []
    for one, path in zip(stage.spec.objects, paths, strict=True):
        pose = path.at(seconds)
        parts, corners = placed_parts(one, pose, seconds)
        to_screen = view.zoom * height
        origin = np.array((view.x * to_screen - width / 2, view.y * to_screen - height / 2))
        low, high = corners.min(axis=0) * to_screen - origin, corners.max(axis=0) * to_screen - origin
        drawn.append((one, pose, parts, low, high))
    margin = 0.03 * height * view.zoom + 1
    left = max(0, floor(min(item[3][0] for item in drawn) - margin))
    top = max(0, floor(min(item[3][1] for item in drawn) - margin))
    right = min(width, ceil(max(item[4][0] for item in drawn) + margin))
    bottom = min(height, ceil(max(item[4][1] for item in drawn) + margin))
    if left >= right or top >= bottom:
        return frame
    patch = stage.patch(view, (left, top, right, bottom))
    big = stage.scale * to_screen
    shift = (origin + (left, top)) * stage.scale
    for one, pose, parts, _, _ in drawn:
        target = patch if pose.opacity >= 1.0 else patch.copy()
        on_patch = [Part(part.role, part.points * big - shift) for part in parts]
        draw_parts(target, on_patch, stage.spec.style, one.colour, stage.scale * height * view.zoom)
        if target is not patch:
            patch = Image.blend(patch, target, pose.opacity)
    stage.finish(patch, frame, (left, top))
    return frame


def render(
    spec: SceneSpec, *, num_frames: int = 17, height: int = 64, width: int = 96, fps: float = 8.0
) -> NDArray[np.uint8]:
    """Draw a clip.

    Args:
        spec: The truth. The same spec at another size or rate is the same clip.
        num_frames: Frames, at least 1.
        height: Pixels, at least 16.
        width: Pixels, at least 16.
        fps: Frames a second; motion is defined in seconds.

    Returns:
        Frames (t h w 3), uint8 RGB.

    Raises:
        UsageError: The spec is not legal, or a size is too small.
    """
    problem = why_illegal(spec)
    if problem:
        raise UsageError(f"storyboard: {problem}")
    if num_frames < 1 or height < 16 or width < 16 or not fps > 0:
        raise UsageError(f"storyboard: cannot draw {num_frames} frames of {height}x{width} at {fps} fps")
    aspect = width / height
    block = max(2, round(min(height, width) / PIXEL_ART_ROWS)) if spec.style == "pixel" else 1
    rows, columns = ceil(height / block), ceil(width / block)
    stage = _Stage(spec, height=rows, width=columns, aspect=aspect, scale=3 if block > 1 else SUPERSAMPLE)
    times, duration = times_of(num_frames, fps)
    paths = [Path(spec, index, aspect=aspect, duration=duration) for index in range(len(spec.objects))]
    frames = np.empty((num_frames, height, width, 3), dtype=np.uint8)
    blur = ImageFilter.GaussianBlur(0.010 * height) if spec.style == "watercolour" else None
    for index, seconds in enumerate(times):
        view = view_at(spec, progress_at(seconds, duration), aspect)
        image = _frame(stage, paths, view, seconds, aspect)
        if blur:
            image = image.filter(blur)
        pixels = np.asarray(image)
        if block > 1:
            pixels = pixels.repeat(block, axis=0).repeat(block, axis=1)[:height, :width]
        frames[index] = pixels
    if spec.style == "watercolour":
        frames = (frames * paper_grain(height, width) >> 8).astype(np.uint8)
    return frames
