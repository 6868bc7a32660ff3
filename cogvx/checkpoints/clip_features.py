"""The features of a clip: those of a few of its frames by a network, pooled over time, kept by content."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogvx.checkpoints.frame_networks import FrameNetwork
from cogvx.data.cache import content_sha256
from cogvx.data.spread import SpreadFrames, spread_frames
from cogvx.data.tensor_file import load_tensor, save_tensor
from cogvx.errors import InputError
from cogvx.models.clip_filter import POOLS, pool_frames

_FORMAT, _NAME = "cogvx.clip-features/1", "features"


@dataclass(frozen=True)
class ClipFeatures:
    """Turns clips into features.

    Attributes:
        network: Looks at the frames.
        num_frames: Frames of a clip, evenly spread over it.
        cache: Folder where features are kept, named by what they were made from; None: nowhere.
    """

    network: FrameNetwork
    num_frames: int
    cache: Path | None = None

    @property
    def size(self) -> int:
        """Features of a clip."""
        return len(POOLS) * self.network.width

    def settings(self) -> dict[str, Any]:
        """Return what decides the features of a clip."""
        return {"network": self.network.name, "sha256": self.network.sha256, "num_frames": self.num_frames}

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> Tensor | SpreadFrames:
        """Return the features if they are kept, else the frames that they are made from; safe in a thread.

        Args:
            path: A clip or an image.
            start: Seconds, where the clip begins in the file.
            end: Seconds, where it ends.

        Raises:
            InputError: The clip cannot be read.
        """
        kept = self._place(path, start, end)
        if kept is not None and kept.is_file():
            try:
                features, _ = load_tensor(kept, name=_NAME, form=_FORMAT)
                if features.shape == (self.size,):
                    return features
            except InputError:  # damaged: it is made again and replaced
                pass
        return spread_frames(path, self.num_frames, size=self.network.size, start=start, end=end)

    def finish(
        self, read: Tensor | SpreadFrames, path: Path, *, start: float | None = None, end: float | None = None
    ) -> Tensor:
        """Return the features of a clip, float32 (4 d), from what `read` gave, and keep them."""
        if isinstance(read, Tensor):
            return read
        features = pool_frames(self.network.embed(read.frames))
        kept = self._place(path, start, end)
        if kept is not None:
            metadata = {"format": _FORMAT, "network": self.network.name, "num_frames": str(self.num_frames)}
            save_tensor(kept, features, name=_NAME, metadata=metadata, overwrite=True)
        return features

    def of(self, path: Path, *, start: float | None = None, end: float | None = None) -> Tensor:
        """Return the features of a clip, float32 (4 d); see read."""
        return self.finish(self.read(path, start=start, end=end), path, start=start, end=end)

    def _place(self, path: Path, start: float | None, end: float | None) -> Path | None:
        if self.cache is None:
            return None
        span = [None if value is None else float(value) for value in (start, end)]
        made_from = [_FORMAT, self.network.name.partition(":")[0], self.network.sha256, self.num_frames, *span]
        text = json.dumps([*made_from, content_sha256(path)], separators=(",", ":"))
        key = hashlib.sha256(text.encode()).hexdigest()
        return self.cache / key[:2] / f"{key}.safetensors"


def no_features() -> Tensor:
    """Return the features of a clip whose frames are not looked at, (0,)."""
    return torch.zeros(0)
