"""Cuts by how much one frame differs from the next: PySceneDetect's detectors on frames of our own decoder."""

from typing import Any, Literal

import numpy as np

from cogvx.data.shots import Boundary
from cogvx.errors import MissingError

Difference = Literal["adaptive", "content"]
_WIDTH = 256  # pixels of the longer side that PySceneDetect compares
_FPS = 25.0  # its clock wants a rate; only numbers of frames are used


class DifferenceCuts:
    """Finds cuts where a frame differs much from the one before (content), or much more than its neighbours (adaptive).

    Dissolves and fades change little from frame to frame and are not found.
    """

    def __init__(
        self,
        kind: Difference,
        *,
        threshold: float,
        min_gap: int,
        window: int = 2,
        min_content: float = 15.0,
    ) -> None:
        """Make a detector for one film.

        Args:
            kind: Which of the two.
            threshold: Mean difference of hue, saturation and value in [0, 255] (content), or its ratio to that of the
                neighbours (adaptive), from which on there is a cut.
            min_gap: Least number of frames between two cuts; those that are closer are passed over.
            window: Neighbours on each side (adaptive).
            min_content: Least difference (adaptive).

        Raises:
            MissingError: PySceneDetect is not installed.
        """
        try:
            import cv2
            from scenedetect import FrameTimecode
            from scenedetect.detectors import AdaptiveDetector, ContentDetector
        except ImportError as error:
            raise MissingError(
                f"splitting by {kind} needs the packages scenedetect-headless and opencv: pip install 'cogvx[data]'"
            ) from error
        self._resize, self._linear = cv2.resize, cv2.INTER_LINEAR
        self._clock = FrameTimecode
        self._detector: Any
        if kind == "adaptive":
            self._detector = AdaptiveDetector(
                adaptive_threshold=threshold,
                min_scene_len=min_gap,
                window_width=window,
                min_content_val=min_content,
            )
        else:
            self._detector = ContentDetector(threshold=threshold, min_scene_len=min_gap)
        self._count = 0
        self._cuts: list[int] = []

    def feed(self, frame: np.ndarray) -> None:
        """Take the next frame, uint8 (h w 3), RGB."""
        height, width, _ = frame.shape
        scale = max(height, width) / _WIDTH
        if scale > 1:  # as PySceneDetect itself does it, so that its thresholds mean the same
            size = max(1, round(width / scale)), max(1, round(height / scale))
            frame = self._resize(frame, size, interpolation=self._linear)
        now = self._clock(self._count, _FPS)
        self._cuts += [
            cut.frame_num for cut in self._detector.process_frame(now, np.ascontiguousarray(frame[..., ::-1]))
        ]
        self._count += 1

    def boundaries(self) -> list[Boundary]:
        """Return the cuts in order, when all frames were fed."""
        if self._count:
            now = self._clock(self._count - 1, _FPS)
            self._cuts += [cut.frame_num for cut in self._detector.post_process(now)]
        return [Boundary(cut, cut) for cut in sorted(set(self._cuts)) if 0 < cut < self._count]
