"""How much happens in one video, 0 to 1, on three levels: from frame to frame, between segments, over all of it.

A plain formula, stated in full below, that is not fitted to people's ratings: 0 for a picture that stands still, more
for more motion, more change between parts, and more distance from the mean picture. Frames are taken about eight a
second, at a shorter side of 256 pixels or less, so that neither size nor rate matter much.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cogvx.data.signals.flow import dis_flow
from cogvx.data.signals.phash import BITS, frame_hash
from cogvx.data.signals.sample import luma
from cogvx.errors import InputError
from cogvx.metrics.reconstruction import from_frames, ssim

VERSION = 1
RATE = 8.0
SIDE = 256
GRID = 16  # cells a side of the small pictures that are compared over time
LEAST_SIDE = 16  # pixels; less is too little for flow and SSIM
# Where half of the way to 1 is reached.
FLOW_HALF = 4.0  # pixels a pair
SSIM_HALF = 0.3  # 1 - SSIM
HASH_HALF = 12.0  # bits of 64
SEGMENT_HALF = 0.08  # mean |difference| of colours, 0 to 1
SPREAD_HALF = 0.06  # mean |difference| from the mean picture


@dataclass(frozen=True)
class Dynamics:
    """How much happens in a video.

    Attributes:
        frame: From frame to frame, 0 to 1: flow, SSIM and hashes, each a third.
        segment: Between parts of the video that lie at least an eighth of it apart, 0 to 1.
        video: Distance from the mean picture, 0 to 1.
        flow: Mean length of flow between adjacent frames, pixels of the reduced picture.
        ssim: Mean SSIM of adjacent frames.
        phash: Mean number of bits, of 64, in which the perceptual hashes of adjacent frames differ.
    """

    frame: float
    segment: float
    video: float
    flow: float
    ssim: float
    phash: float

    @property
    def value(self) -> float:
        """The mean of the three levels, 0 to 1."""
        return (self.frame + self.segment + self.video) / 3

    def to_dict(self) -> dict[str, float]:
        """Return all numbers, for a result."""
        return {"value": self.value, **self.__dict__}


def settings() -> dict[str, Any]:
    """Return the constants of the formula, for the protocol."""
    return {
        "version": VERSION,
        "rate": RATE,
        "side": SIDE,
        "grid": GRID,
        "half": {
            "flow": FLOW_HALF,
            "1-ssim": SSIM_HALF,
            "phash": HASH_HALF,
            "segment": SEGMENT_HALF,
            "spread": SPREAD_HALF,
        },
        "flow": "OpenCV DIS, medium",
        "fitted": False,
    }


def dynamics(frames: np.ndarray, fps: float) -> Dynamics:
    """Return how much happens in a video.

    Args:
        frames: uint8 (t h w 3).
        fps: Their rate.

    Raises:
        InputError: Fewer than two frames are taken, or they are too small.
        MissingError: OpenCV is not installed.
    """
    chosen = frames[:: max(1, round(fps / RATE))]
    if len(chosen) < 2:
        raise InputError(f"dynamics need two frames, of {len(frames)} at {fps:g} fps {len(chosen)} is taken")
    if min(chosen.shape[1:3]) < LEAST_SIDE:
        raise InputError(f"dynamics need frames of at least {LEAST_SIDE} pixels a side, got {chosen.shape[1:3]}")
    small = np.stack([_reduced(frame) for frame in chosen])
    grey = luma(small)
    estimate = dis_flow("medium")
    flow, likeness, bits = [], [], []
    hashes = [frame_hash(picture) for picture in grey]
    for index in range(len(small) - 1):
        flow.append(float(np.linalg.norm(estimate(grey[index], grey[index + 1]), axis=2).mean()))
        pair = [from_frames(small[one : one + 1]) for one in (index, index + 1)]
        likeness.append(float(ssim(*pair)))
        bits.append(_distance(hashes[index], hashes[index + 1]))
    mean_flow, mean_ssim, mean_bits = (float(np.mean(values)) for values in (flow, likeness, bits))
    cells = np.stack([_cells(frame) for frame in small])
    return Dynamics(
        frame=(
            saturate(mean_flow, FLOW_HALF)
            + saturate(max(0.0, 1 - mean_ssim), SSIM_HALF)
            + saturate(mean_bits, HASH_HALF)
        )
        / 3,
        segment=saturate(segment_distance(cells), SEGMENT_HALF),
        video=saturate(float(np.abs(cells - cells.mean(axis=0)).mean()), SPREAD_HALF),
        flow=mean_flow,
        ssim=mean_ssim,
        phash=mean_bits,
    )


def saturate(value: float, half: float) -> float:
    """Return value / (value + half): 0 for 0, 1/2 for half, towards 1 for more."""
    return value / (value + half)


def segment_distance(cells: np.ndarray) -> float:
    """Return the mean over lags, from an eighth of the video to all of it, of the mean |difference| over that lag.

    Args:
        cells: (t h w 3), 0 to 1, t at least 2.
    """
    first = max(1, len(cells) // 8)
    return float(np.mean([np.abs(cells[lag:] - cells[:-lag]).mean() for lag in range(first, len(cells))]))


def _reduced(frame: np.ndarray) -> np.ndarray:
    """Return a frame with a shorter side of at most 256 pixels."""
    from PIL import Image

    height, width, _ = frame.shape
    short = min(height, width)
    if short <= SIDE:
        return frame
    size = (round(width * SIDE / short), round(height * SIDE / short))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))


def _cells(frame: np.ndarray) -> np.ndarray:
    """Return the mean colours of a grid of cells, float (16 16 3), 0 to 1."""
    from PIL import Image

    small = Image.fromarray(frame).resize((GRID, GRID), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255


def _distance(first: str, second: str) -> int:
    """Return in how many bits two hashes differ; a frame without contrast is half of the bits away from any other."""
    if first == second:
        return 0
    if not first or not second:
        return BITS // 2
    return (int(first, 16) ^ int(second, 16)).bit_count()
