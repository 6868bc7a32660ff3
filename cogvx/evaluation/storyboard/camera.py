"""How the camera moves, from how the background does."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cogvx.data.storyboard.motion import View, progress_at
from cogvx.evaluation.storyboard.backdrop import Floats

# Total movements that are tried; the world's own are pans of 0.14 and 0.24 and zooms of 1.2 and 1.4.
_PANS = (0.07, 0.105, 0.14, 0.19, 0.24, 0.30)
_ZOOMS = (1.1, 1.2, 1.3, 1.4, 1.5)
_LAGS = (0.25, 0.5, 0.75)  # of the clip: frames so far apart are compared
_PAIRS = 4  # frames compared at each lag
_CLIP = 40.0  # grey levels; a larger difference is no evidence of more


@dataclass(frozen=True)
class Camera:
    """A movement: its name, and the share of the width (pans) or the magnification (zooms) that it comes to."""

    name: str
    amount: float

    def view(self, progress: float, aspect: float) -> View:
        """Return where it looks at a progress of 0 to 1, in frame heights."""
        x, zoom = aspect / 2, 1.0
        if self.name.startswith("pan"):
            sign = 1.0 if self.name == "pan_right" else -1.0
            x += sign * self.amount * aspect * (progress - 0.5)
        elif self.name.startswith("zoom"):
            zoom = self.amount ** (progress if self.name == "zoom_in" else 1.0 - progress)
        return View(x, 0.5, zoom)


STILL = Camera("still", 0.0)
_TRIED = (
    STILL,
    *(Camera(name, amount) for amount in _PANS for name in ("pan_left", "pan_right")),
    *(Camera(name, amount) for amount in _ZOOMS for name in ("zoom_in", "zoom_out")),
)


def progress_of(num_frames: int, fps: float) -> list[float]:
    """Return how far one-way changes are in every frame, 0 to 1."""
    duration = (num_frames - 1) / fps
    return [progress_at(frame / fps, duration) for frame in range(num_frames)]


def camera_costs(frames: Floats, background: Floats, fps: float) -> dict[Camera, float]:
    """Say of every movement how much the frames of a clip differ where it would show the same place.

    Args:
        frames: (t h w 3) in 0…255.
        background: (t h w) in 0…1, how surely a pixel shows the background; the rest does not count.
        fps: Frames a second.

    Returns:
        Movement to the mean difference of a pixel, in grey levels summed over the channels.
    """
    num_frames, height, width, _ = frames.shape
    progress = progress_of(num_frames, fps)
    soft = _soften(frames)
    pairs = []
    for share in _LAGS:
        lag = max(1, round(share * (num_frames - 1)))
        starts = np.unique(np.linspace(0, num_frames - 1 - lag, _PAIRS).round().astype(int))
        pairs += [(int(start), int(start) + lag) for start in starts]
    return {camera: _cost(camera, soft, background, pairs, progress, width / height) for camera in _TRIED}


def find_camera(costs: Mapping[Camera, float]) -> Camera:
    """Return the movement under which the frames lie best on each other; the first of those that are as good."""
    return min(costs, key=lambda camera: costs[camera])


def _cost(
    camera: Camera,
    frames: Floats,
    background: Floats,
    pairs: list[tuple[int, int]],
    progress: list[float],
    aspect: float,
) -> float:
    """Return how much frames differ where the camera would show the same place, in grey levels."""
    _, height, width, _ = frames.shape
    total, weight = 0.0, 0.0
    for first, second in pairs:
        before, after = (camera.view(progress[frame], aspect) for frame in (first, second))
        rows, keep_rows = _places(height, height, before.y, after.y, before.zoom, after.zoom, 1.0)
        columns, keep_columns = _places(width, height, before.x, after.x, before.zoom, after.zoom, aspect)
        keep_rows, keep_columns = keep_rows[::2], keep_columns[::2]  # every second tells enough
        grid = np.ix_(rows[keep_rows], columns[keep_columns])
        other = np.ix_(keep_rows, keep_columns)
        difference = np.abs(frames[first][grid] - frames[second][other]).sum(-1)
        both = background[first][grid] * background[second][other]
        total += float((np.minimum(difference, 3 * _CLIP) * both).sum())
        weight += float(both.sum())
    return total / max(weight, 1.0)


def _places(
    length: int, height: int, before: float, after: float, zoom_before: float, zoom_after: float, extent: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the earlier frame has the pixels of an axis of the later one, and which of them it has."""
    screen = (np.arange(length) + 0.5) / height - extent / 2
    world = screen / zoom_after + after
    found = np.floor(((world - before) * zoom_before + extent / 2) * height).astype(np.int64)
    return found, np.flatnonzero((found >= 0) & (found < length))


def _soften(frames: Floats) -> Floats:
    """Blur a little, so that half a pixel more or less does not decide."""
    result = frames.copy()
    for axis in (1, 2):
        before, after = np.roll(result, 1, axis), np.roll(result, -1, axis)
        edge = [slice(None)] * 4
        edge[axis] = slice(0, 1)
        before[tuple(edge)] = result[tuple(edge)]
        edge[axis] = slice(-1, None)
        after[tuple(edge)] = result[tuple(edge)]
        result = ((before + 2 * result + after) / 4).astype(np.float32, copy=False)
    return result
