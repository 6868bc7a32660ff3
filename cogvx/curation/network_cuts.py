"""Shot boundaries by TransNet V2, over a stream of frames of any length."""

from typing import TYPE_CHECKING

import numpy as np

from cogvx.data.shots import Boundary

if TYPE_CHECKING:
    from cogvx.models.shot_network import ShotNetwork

# Probability from which a frame beside a boundary counts as part of the transition. At 0.5 most frames of a fade would
# stay in the shots; see fixtures/experiments/shots.py.
IN_TRANSITION = 0.2


class NetworkCuts:
    """Finds cuts, and dissolves and fades with all their frames.

    The network sees 100 frames at a time and judges half of them, as in its authors' code; 100 small frames are kept.
    """

    def __init__(self, network: "ShotNetwork", *, threshold: float) -> None:
        """Make a detector for one film.

        Args:
            network: With its weights.
            threshold: Probability from which on a frame is where a shot ends.
        """
        from cogvx.models.shot_network import MARGIN

        self._network, self._threshold, self._margin = network, threshold, MARGIN
        self._waiting: list[np.ndarray] = []
        self._ends: list[np.ndarray] = []
        self._transitions: list[np.ndarray] = []
        self._count = 0

    def feed(self, frame: np.ndarray) -> None:
        """Take the next frame, uint8 (h w 3), RGB."""
        from PIL import Image

        from cogvx.models.shot_network import FRAME_SIZE

        height, width = FRAME_SIZE
        image = Image.fromarray(np.ascontiguousarray(frame))
        small = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))
        if not self._count:
            self._waiting = [small] * self._margin
        self._count += 1
        self._push(small)

    def boundaries(self) -> list[Boundary]:
        """Return the boundaries in order, when all frames were fed.

        Where a shot ends at once, the boundary is a cut. Where several frames in a row are likely to be its end, or the
        frames beside it are likely to be part of a transition, all of them lie between the shots.
        """
        if not self._count:
            return []
        while sum(map(len, self._ends)) < self._count:
            self._push(self._waiting[-1])
        ends = np.concatenate(self._ends)[: self._count] > self._threshold
        within = ends | (np.concatenate(self._transitions)[: self._count] > IN_TRANSITION)
        found = []
        for start, stop in _runs(within):
            if not ends[start:stop].any():
                continue
            found.append(Boundary(stop, stop) if stop - start == 1 else Boundary(start, stop))
        return [one for one in found if one.start < self._count]

    def _push(self, small: np.ndarray) -> None:
        import torch

        from cogvx.models.shot_network import WINDOW

        self._waiting.append(small)
        if len(self._waiting) < WINDOW:
            return
        window = torch.from_numpy(np.stack(self._waiting))[None]
        with torch.inference_mode():
            ends, transitions = self._network(window)
        judged = slice(self._margin, WINDOW - self._margin)
        self._ends.append(ends[0, judged].numpy())
        self._transitions.append(transitions[0, judged].numpy())
        del self._waiting[: WINDOW - 2 * self._margin]


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return where each run of true values begins, and the place behind its end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
