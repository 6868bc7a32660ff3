"""EfficientNet-Lite0 over frames: in place of FVD's network, without a download. Its distance is "fvd-lite"."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cogvx.checkpoints.frame_networks import EFFICIENTNET, FrameNetwork, open_frame_network
from cogvx.errors import UsageError
from cogvx.evaluation.features.network import Sampling

_SEED = 0


@dataclass(frozen=True, eq=False)
class EfficientNetClips:
    """Features of a clip: the mean of those of its frames, and the mean change between neighbours, projected.

    The projection is onto fixed random directions that are orthogonal: a covariance of 2560 features would need more
    clips than anyone has. A network of pictures sees little of motion; its numbers stand for themselves.

    Attributes:
        network: Looks at the frames.
        sampling: Which frames, cropped to the network's size.
        projection: (2560 d), orthonormal columns.
    """

    network: FrameNetwork
    sampling: Sampling
    projection: Tensor
    metric: str = "fvd-lite"

    @classmethod
    def open(cls, sampling: Sampling, dims: int, device: torch.device) -> "EfficientNetClips":
        """Load it.

        Raises:
            UsageError: The size is not the network's, or dims is impossible.
            MissingError: Its package is not installed.
        """
        network = open_frame_network(EFFICIENTNET, device=device)
        side = network.size[0]
        if sampling.size not in (None, side):
            raise UsageError(f"{EFFICIENTNET} looks at frames of {side}x{side}: leave --size out")
        if sampling.num_frames < 2 or not 1 <= dims <= 2 * network.width:
            raise UsageError(f"at least 2 frames and 1 to {2 * network.width} dims are needed")
        generator = torch.Generator().manual_seed(_SEED)
        directions = torch.randn(2 * network.width, dims, generator=generator, dtype=torch.float64)
        orthonormal = torch.linalg.qr(directions).Q.float()
        used = Sampling(num_frames=sampling.num_frames, stride=sampling.stride, size=side)
        return cls(network, used, orthonormal)

    @property
    def width(self) -> int:
        """Features d of a clip."""
        return self.projection.shape[1]

    def backend(self) -> dict[str, Any]:
        """Return which network it is (see VideoNetwork.backend)."""
        return {"name": EFFICIENTNET, "sha256": self.network.sha256, "features": self.width}

    def protocol(self) -> dict[str, Any]:
        """Return how clips are read and features taken (see VideoNetwork.protocol)."""
        pooling = "mean of frames, mean change between neighbours"
        return {**self.sampling.to_dict(), "pooling": pooling, "projection": f"{self.width} random, seed {_SEED}"}

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Return the frames that it looks at (see VideoNetwork.read)."""
        return self.sampling.read(path, start=start, end=end)

    def embed(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of clips, float32 (n d)."""
        pooled = [pool(self.network.embed(clip)) for clip in clips]
        return (torch.stack(pooled) @ self.projection).numpy()


def pool(frames: Tensor) -> Tensor:
    """Return the features (2 d) of a clip from those of its frames (t d), t at least 2."""
    return torch.cat([frames.mean(dim=0), frames.diff(dim=0).abs().mean(dim=0)])
