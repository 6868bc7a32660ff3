"""What moves between two frames, in words: the camera, and the things before it."""

from dataclasses import dataclass

import numpy as np

from cogvx.data.signals.flow import dis_flow
from cogvx.data.signals.sample import luma, reduced

_SIDE = 256  # pixels of the shorter side
_LEAST_SIDE = 32  # of a picture in which anything can be seen to move
_PAN = 0.04  # shorter sides a second, from which on the camera moves
_ZOOM = 0.06  # growth a second, from which on it zooms
_TOP = 0.05  # the share of pixels that moves most, and more than the camera
_SPEEDS = ((0.05, "hardly any motion"), (0.25, "slow motion"), (0.8, "motion"))  # shorter sides a second, less than
_FASTEST = "fast motion"


@dataclass(frozen=True)
class Motion:
    """What moves.

    Attributes:
        right: How far the picture's content moves to the right, in shorter sides a second.
        down: And down.
        zoom: How much it grows a second; 0.1: by a tenth.
        rest: How far the fastest 5 % of the pixels move beside that, in shorter sides a second.
    """

    right: float
    down: float
    zoom: float
    rest: float


def measure_motion(first: np.ndarray, second: np.ndarray, gap: float) -> Motion | None:
    """Return what moves between two frames, uint8 (h w 3), that lie so many seconds apart; None if they are too small.

    Optical flow (DIS) is split into what a moving and zooming camera explains, found from medians, and the rest.
    """
    pair = luma(np.stack([reduced(first, _SIDE), reduced(second, _SIDE)]))
    height, width = pair.shape[1:]
    side = min(height, width)
    if side < _LEAST_SIDE:
        return None
    flow = dis_flow("medium")(pair[0], pair[1]) / (side * gap)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    place = np.stack([x - (width - 1) / 2, y - (height - 1) / 2], axis=2) / side
    far = np.linalg.norm(place, axis=2)
    outside = far > 0.2  # near the middle a zoom moves nothing
    shift, zoom = np.median(flow.reshape(-1, 2), axis=0), 0.0
    for _ in range(3):
        growth = ((flow - shift) * place).sum(axis=2)[outside] / far[outside] ** 2
        zoom = float(np.median(growth))
        shift = np.median((flow - zoom * place).reshape(-1, 2), axis=0)
    rest = np.linalg.norm(flow - shift - zoom * place, axis=2).ravel()
    count = max(1, round(rest.size * _TOP))
    return Motion(float(shift[0]), float(shift[1]), zoom, float(np.partition(rest, -count)[-count:].mean()))


def in_words(motion: Motion) -> str:
    """Return what moves, as in "the camera moves to the left, slow motion"."""
    ways = []
    if abs(motion.right) >= _PAN and abs(motion.right) >= abs(motion.down) / 2:
        # The camera goes where the content comes from.
        ways.append("to the left" if motion.right > 0 else "to the right")
    if abs(motion.down) >= _PAN and abs(motion.down) >= abs(motion.right) / 2:
        ways.append("up" if motion.down > 0 else "down")
    camera = [f"moves {' and '.join(ways)}"] if ways else []
    if abs(motion.zoom) >= _ZOOM:
        camera.append("zooms in" if motion.zoom > 0 else "zooms out")
    speed = next((words for most, words in _SPEEDS if motion.rest < most), _FASTEST)
    return f"the camera {' and '.join(camera) or 'stands still'}, {speed}"
