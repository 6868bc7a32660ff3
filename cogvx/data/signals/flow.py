"""How much moves: the length of optical flow, comparable between clips of any size and rate."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from cogvx.data.signals.sample import RUN_SIDE, luma
from cogvx.data.signals.signal import Signal, View, need, spread
from cogvx.errors import MissingError

_DIS_LEAST = 16  # pixels a side that DIS flow needs
_RAFT_LEAST = 128
_TOP = 0.05

Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Flow(Signal):
    """Mean length of optical flow, in pixels of a picture whose shorter side is 256, per 1/8 second.

    The flow is taken between frames that lie about 1/rate seconds apart, at the size that the sample has, and scaled:
    by 256 / shorter side, and by the real distance in time to 1/rate. So neither size nor frame rate matter, as long as
    the flow is found. `flow` is the mean over pixels and pairs, `flow_top5` the mean over pairs of the mean of the
    longest 5 % (what VBench's dynamic degree looks at, which takes RAFT's flow). At most max_pairs pairs of a run are
    taken, evenly spread.

    Attributes:
        engine: "dis" (OpenCV's Dense Inverse Search), or "raft" (torchvision's raft_large, weights C_T_V1).
        preset: Of DIS: "ultrafast", "fast" or "medium".
        rate: Pairs a second; the numbers are per 1/rate seconds.
        max_pairs: Of one run.
    """

    name: ClassVar[str] = "flow"
    columns: ClassVar[tuple[str, ...]] = ("flow", "flow_top5")
    view: ClassVar[View] = "runs"

    engine: Literal["dis", "raft"] = "dis"
    preset: Literal["ultrafast", "fast", "medium"] = "medium"
    rate: float = 8.0
    max_pairs: int = 48

    def open(self) -> None:
        """Load the estimator (see Signal.open)."""
        self._estimator()

    def made(self) -> dict[str, Any]:
        """Return what the columns depend on."""
        made = super().made()
        return made if self.engine == "dis" else {key: value for key, value in made.items() if key != "preset"}

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return the columns of consecutive frames, uint8 (t h w 3)."""
        step = min(max(1, round(fps / self.rate)), len(frames) - 1)
        if step < 1:
            return {}
        estimate = self._estimator()
        scale = RUN_SIDE / min(frames.shape[1:3]) * (fps / step) / self.rate
        firsts = range(0, len(frames) - step, step)
        means, tops = [], []
        for index in spread(len(firsts), self.max_pairs):
            first, second = frames[firsts[index]], frames[firsts[index] + step]
            lengths = np.linalg.norm(estimate(first, second), axis=2).ravel()
            count = max(1, round(lengths.size * _TOP))
            means.append(lengths.mean())
            tops.append(np.partition(lengths, -count)[-count:].mean())
        return {"flow": scale * float(np.mean(means)), "flow_top5": scale * float(np.mean(tops))}

    def _estimator(self) -> Estimator:
        if self.engine == "raft":
            return _raft()
        dis = dis_flow(self.preset)
        return lambda first, second: dis(*luma(np.stack([first, second])))


@functools.cache
def dis_flow(preset: str) -> Estimator:
    """Return a function that takes two lumas, uint8 (h w), to the flow between them, float32 (h w 2) in pixels (x y).

    Raises:
        MissingError: OpenCV is not installed.

    Source: Kroeger et al.: Fast Optical Flow using Dense Inverse Search.
    """
    cv2 = need("cv2", extra="data", what="optical flow")
    presets = {
        "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
        "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
        "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    }
    dis = cv2.DISOpticalFlow_create(presets[preset])

    def estimate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width = first.shape
        pair = [_padded(picture, _DIS_LEAST) for picture in (first, second)]
        return dis.calc(*pair, None)[:height, :width]

    return estimate


@functools.cache
def _raft() -> Estimator:
    """Return a function that takes two frames, uint8 (h w 3), to the flow between them, float32 (h w 2)."""
    import torch

    models = need("torchvision.models.optical_flow", extra="metrics", what="--flow-engine raft")
    try:
        network = models.raft_large(weights=models.Raft_Large_Weights.C_T_V1, progress=False).eval()
    except OSError as error:  # of urllib: the weights are fetched when they are first used
        raise MissingError(f"--flow-engine raft: its weights cannot be fetched: {error}") from error

    def estimate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width, _ = first.shape
        pair = [
            torch.from_numpy(_padded(frame, _RAFT_LEAST, multiple=8)).permute(2, 0, 1)[None].float() / 127.5 - 1
            for frame in (first, second)
        ]
        with torch.inference_mode():
            flow = network(*pair)[-1][0]  # the last of its rounds of refinement
        return flow.permute(1, 2, 0)[:height, :width].numpy()

    return estimate


def _padded(picture: np.ndarray, least: int, *, multiple: int = 1) -> np.ndarray:
    """Repeat the last row and column until both sides have the least size and are a multiple."""
    wanted = [-(-max(size, least) // multiple) * multiple for size in picture.shape[:2]]
    missing = [(0, want - size) for want, size in zip(wanted, picture.shape[:2], strict=True)]
    missing += [(0, 0)] * (picture.ndim - 2)
    return np.pad(picture, missing, mode="edge") if any(more for _, more in missing) else np.ascontiguousarray(picture)
