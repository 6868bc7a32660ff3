"""A clip made ready to be judged: reduced to a small grid, its scene and style named, its camera followed."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from cogvx.data.storyboard.motion import View
from cogvx.data.storyboard.vocabulary import CAMERAS, SCENES, STYLES
from cogvx.errors import InputError
from cogvx.evaluation.storyboard.backdrop import (
    MIN_BLOCKINESS,
    UNIFORM,
    Floats,
    block_size,
    blockiness,
    scene_density,
    scene_scores,
    without_grain,
)
from cogvx.evaluation.storyboard.camera import Camera, camera_costs, find_camera, progress_of

GRID_ROWS = 64  # larger clips are reduced to about this many rows
MAX_FRAMES = 32  # of longer clips, every second, third … frame is looked at
MIN_FRAMES, MIN_PIXELS = 5, 32  # fewer show no action, or no object
_PRIOR_ODDS = 20.0  # a pixel shows the background if that is so many times as likely as any colour


@dataclass(frozen=True, eq=False)
class Stage:
    """Everything about a clip but its objects.

    Attributes:
        frames: (t h w 3) in 0…255; of pixel art the big pixels, of other styles about `GRID_ROWS` rows.
        backdrop: (t h w), density of the pixel's colour in the scene's palette.
        scene: Its name.
        style: Its name.
        camera: Its movement.
        aspect: Width of the frame in heights.
        fps: Frames a second, of those that are looked at.
        scenes: Every scene's score: nats a pixel that it explains more than chance does, 0 and more.
        styles: Every style's score, the same way.
        cameras: Every movement's score: how much the frames differ after it is undone, in grey levels below zero.
    """

    frames: Floats
    backdrop: Floats
    scene: str
    style: str
    camera: Camera
    aspect: float
    fps: float
    scenes: Mapping[str, float]
    styles: Mapping[str, float]
    cameras: Mapping[str, float]

    @property
    def rows(self) -> int:
        """Height of the grid: one frame height in its pixels."""
        return self.frames.shape[1]

    @property
    def times(self) -> list[float]:
        """Seconds of every frame."""
        return [frame / self.fps for frame in range(len(self.frames))]

    @property
    def progress(self) -> list[float]:
        """How far one-way changes are in every frame, 0 to 1."""
        return progress_of(len(self.frames), self.fps)

    @property
    def views(self) -> list[View]:
        """Where the camera looks in every frame."""
        return [self.camera.view(progress, self.aspect) for progress in self.progress]


def set_stage(frames: NDArray[np.uint8], fps: float) -> Stage:
    """Find out what a clip shows behind its objects.

    Args:
        frames: uint8 (t h w 3).
        fps: Frames a second.

    Raises:
        InputError: There are too few frames or pixels to see anything.
    """
    num_frames, height, width, _ = frames.shape
    if num_frames < MIN_FRAMES or min(height, width) < MIN_PIXELS:
        raise InputError(
            f"{num_frames} frames of {width}x{height}: at least {MIN_FRAMES} of {MIN_PIXELS}x{MIN_PIXELS} are needed"
        )
    every = ceil(num_frames / MAX_FRAMES)
    frames, fps = frames[::every], fps / every
    exact = frames.astype(np.float32)
    scores = scene_scores(exact)
    scene, style = max(scores, key=lambda name: scores[name])
    scenes = {name: max(scores[one] for one in scores if one[0] == name) for name in SCENES}
    styles = {name: max(scores[one] for one in scores if one[1] == name) for name in STYLES if name != "pixel"}
    blocks = blockiness(frames)
    styles |= _flat_or_pixel(styles["flat"], blocks)
    if style == "flat" and blocks > MIN_BLOCKINESS:
        style = "pixel"
    factor = block_size(height, width) if style == "pixel" else max(1, min(height, width) // GRID_ROWS)
    if style == "watercolour":
        exact = without_grain(exact)
    grid = _reduced(exact, factor, whole=style == "pixel")
    backdrop = scene_density(grid, scene, style)
    costs = camera_costs(grid, backdrop / (backdrop + _PRIOR_ODDS * UNIFORM), fps)
    cameras = {name: -min(cost for camera, cost in costs.items() if camera.name == name) for name in CAMERAS}
    return Stage(grid, backdrop, scene, style, find_camera(costs), width / height, fps, scenes, styles, cameras)


def _flat_or_pixel(score: float, blocks: float) -> dict[str, float]:
    """Return the scores of the flat style and of pixel art, which share their colours: the blocks decide."""
    if blocks > MIN_BLOCKINESS:
        return {"flat": score * (1 - blocks) / (1 - MIN_BLOCKINESS), "pixel": score}
    return {"flat": score, "pixel": score * max(0.0, blocks) / MIN_BLOCKINESS}


def _reduced(frames: Floats, factor: int, *, whole: bool) -> Floats:
    """Average blocks of pixels; with `whole` those at the edges count even if they are cut, else they are left out."""
    if factor == 1:
        return frames
    _, height, width, _ = frames.shape
    if whole:
        frames = np.pad(frames, ((0, 0), (0, -height % factor), (0, -width % factor), (0, 0)), mode="edge")
    rows, columns = frames.shape[1] // factor, frames.shape[2] // factor
    cut = frames[:, : rows * factor, : columns * factor]
    return cut.reshape(len(frames), rows, factor, columns, factor, 3).mean(axis=(2, 4))
