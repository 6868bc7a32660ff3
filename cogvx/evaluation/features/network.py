"""What every network for clips gives, and how its clips are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cogvx.data.media import Span
from cogvx.data.video import decoded, resize_crop
from cogvx.errors import InputError, UsageError
from cogvx.files import clean

NETWORKS = ("i3d", "videomae", "embedded", "efficientnet")


class VideoNetwork(Protocol):
    """A network that is ready to look at clips."""

    @property
    def metric(self) -> str:
        """What a Fréchet distance of its features is called."""

    @property
    def width(self) -> int:
        """Features d of a clip."""

    def backend(self) -> dict[str, Any]:
        """Return which network it is and from where: "name", "sha256" of its weights, ..."""

    def protocol(self) -> dict[str, Any]:
        """Return how clips are read and features taken."""

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Return the frames, uint8 (t h w 3), that it looks at; safe in a thread.

        Raises:
            InputError: The clip cannot be read, or is too short.
        """

    def embed(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features, float32 (n d), of clips as `read` gives them."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which frames of a clip are looked at, and at which size.

    Attributes:
        num_frames: Consecutive ones, from the start; a shorter clip is an error, none is repeated.
        stride: Every so many-th frame.
        size: Height and width that frames are resized to cover (Lanczos) and cropped to at the centre; None: as read.
    """

    num_frames: int = 16
    stride: int = 1
    size: int | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.stride < 1 or (self.size is not None and self.size < 1):
            raise UsageError("frames, stride and size must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a protocol tells them."""
        return {
            "frames": self.num_frames,
            "stride": self.stride,
            "from": "first frame",
            "size": "as read" if self.size is None else f"{self.size}x{self.size}",
            "crop": "none" if self.size is None else "Lanczos to cover, centre",
        }

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Return the frames, uint8 (t h w 3); see VideoNetwork.read."""
        needed = (self.num_frames - 1) * self.stride + 1
        kept, seen = [], 0
        with decoded(path, Span(start, end, needed)) as (_, frames):
            for i, frame in enumerate(frames):
                seen = i + 1
                if i % self.stride == 0:
                    kept.append(frame if self.size is None else resize_crop(frame[None], self.size, self.size)[0])
        if len(kept) < self.num_frames:
            raise InputError(f"{clean(str(path))}: {seen} frames; {needed} are needed")
        return np.stack(kept)
