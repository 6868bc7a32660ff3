"""The dual encoder of a model's folder, as a network for clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cogvx.evaluation.dual_encoder import LocalDualEncoder, open_dual_encoder


@dataclass(frozen=True, eq=False)
class EmbeddedClips:
    """Clips through a VAE and the clip side of a dual encoder.

    Attributes:
        encoder: Both networks.
    """

    encoder: LocalDualEncoder
    metric: str = "fvd@embedded"

    @classmethod
    def open(cls, model: str, device: torch.device) -> "EmbeddedClips":
        """Load it; errors are those of open_dual_encoder."""
        return cls(open_dual_encoder(model, device=device))

    @property
    def width(self) -> int:
        """Features d of a clip."""
        return self.encoder.network.config.output_size

    def backend(self) -> dict[str, Any]:
        """Return which network it is (see VideoNetwork.backend)."""
        source = {"source": self.encoder.name, "sha256": self.encoder.sha256}
        return {"name": "dual-encoder", **source, "features": self.width}

    def protocol(self) -> dict[str, Any]:
        """Return how clips are read and features taken (see VideoNetwork.protocol)."""
        return self.encoder.sampling()

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Return the frames that it looks at (see VideoNetwork.read)."""
        return self.encoder.read(path, start=start, end=end)

    def embed(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of clips, float32 (n d)."""
        return torch.stack([self.encoder.clip_features(clip) for clip in clips]).numpy()
