"""Whether a clip moves as one: each frame follows from the one before it, and the motion is even."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from cogvx.data.signals.flow import dis_flow
from cogvx.data.signals.sample import luma
from cogvx.data.signals.signal import Signal, View, need

_SIDE = 128  # pixels of the shorter side that this is measured at
_LEAST_CONTRAST = 4.0  # grey levels: what is flatter than this has nothing to follow
_LEAST_SPEED = 0.05  # pixels a pair: below this, unevenness is noise of the flow


@dataclass(frozen=True)
class Continuity(Signal):
    """How well motion explains each frame, and how even the motion is.

    For each two adjacent frames, at a short side of 128 pixels: the second is pulled back along the optical flow from
    the first to it; what is left is the mean absolute difference of luma to the first, over the pixels that do not
    leave the picture. It is divided by the contrast (mean absolute deviation of luma) of the flatter frame, but at
    least 4 grey levels. The connection of the pair is 1 minus that, at least 0: near 1 where things move or stand
    still, near 0 across a cut or between the pictures of a slideshow.

    `continuity` is the mean connection of all pairs, `continuity_min` that of the worst one. `judder` is the mean
    change of speed from pair to pair, divided by the mean speed (speed: mean length of flow): 0 for an even pan, 0.5
    for film shown at 30 fps with every fifth frame repeated, 2 if every second frame is repeated. Speeds below 0.05
    pixels a pair count as that, so that a clip without motion has no judder.

    Attributes:
        preset: Of DIS flow.
    """

    name: ClassVar[str] = "continuity"
    columns: ClassVar[tuple[str, ...]] = ("continuity", "continuity_min", "judder")
    view: ClassVar[View] = "runs"

    preset: Literal["ultrafast", "fast", "medium"] = "fast"

    def open(self) -> None:
        """Load OpenCV (see Signal.open)."""
        dis_flow(self.preset)

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return the columns of consecutive frames, uint8 (t h w 3)."""
        if len(frames) < 2:
            return {}
        estimate = dis_flow(self.preset)
        cv2 = need("cv2", extra="data", what="continuity")
        pictures = [_small(cv2, picture) for picture in luma(frames)]
        contrasts = [float(np.abs(picture - picture.mean()).mean()) for picture in pictures]
        connections, speeds = [], []
        for index, (first, second) in enumerate(zip(pictures[:-1], pictures[1:], strict=True)):
            flow = estimate(first, second)
            contrast = max(min(contrasts[index : index + 2]), _LEAST_CONTRAST)
            connections.append(max(0.0, 1 - _left_over(cv2, first, second, flow) / contrast))
            speeds.append(float(np.linalg.norm(flow, axis=2).mean()))
        even = max(float(np.mean(speeds)), _LEAST_SPEED)
        changes = np.abs(np.diff(np.maximum(speeds, _LEAST_SPEED)))
        judder = float(changes.mean()) / even if len(changes) else 0.0
        return {"continuity": float(np.mean(connections)), "continuity_min": min(connections), "judder": judder}

    def combine(self, parts: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
        """Return the columns of several runs as one; the worst pair is the worst of all."""
        result = super().combine(parts)
        if result:
            result["continuity_min"] = min(columns["continuity_min"] for _, columns in parts)
        return result


def _small(cv2: Any, picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape
    scale = _SIDE / min(height, width)
    if scale >= 1:
        return picture
    return cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def _left_over(cv2: Any, first: np.ndarray, second: np.ndarray, flow: np.ndarray) -> float:
    """Return the mean absolute difference between a luma and the next one, pulled back along the flow."""
    height, width = first.shape
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    if not inside.any():
        return 255.0
    pulled = cv2.remap(second, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float(np.abs(pulled.astype(np.float32) - first)[inside].mean())
