"""Networks that put clips and texts into one space: one door for all of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cogvx.errors import UsageError
from cogvx.evaluation.dual_encoder import LocalDualEncoder, open_dual_encoder
from cogvx.files import clean

BACKENDS = ("clip", "embedded", "conse")


class TextVideoNetwork(Protocol):
    """A network that is ready to look at clips and to read texts."""

    @property
    def metric(self) -> str:
        """What the cosine of its vectors is called."""

    def backend(self) -> dict[str, Any]:
        """Return which network it is and from where: "name", "sha256" of its weights, ..."""

    def protocol(self) -> dict[str, Any]:
        """Return how clips and texts are read."""

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Return the frames, uint8 (t h w 3), that it looks at.

        Raises:
            InputError: The clip cannot be read.
        """

    def clip(self, frames: np.ndarray) -> Tensor:
        """Return the vector (d), float32 of length 1, of frames as `read` gives them."""

    def texts(self, texts: list[str]) -> Tensor:
        """Return the vectors (n d), float32 of length 1, of texts."""

    def cut(self, text: str) -> bool:
        """Tell whether a text is too long to be read whole."""


@dataclass(frozen=True, kw_only=True)
class TextVideoSpec:
    """Which network.

    Attributes:
        name: "clip", "embedded" or "conse".
        source: clip: a folder or repository; embedded: a model's name or folder.
        max_frames: Frames of a clip that clip looks at.
        max_words: Tokens of a text that clip reads, its first and last mark included.
        class_names: Of conse: a file of the 1000 names; None: that of the package.
        device: Where it computes.
    """

    name: str
    source: str | None = None
    max_frames: int = 12
    max_words: int = 32
    class_names: Path | None = None
    device: str = "cpu"


def open_text_video(spec: TextVideoSpec) -> TextVideoNetwork:
    """Load a network for clips and texts; nothing is downloaded.

    Raises:
        UsageError: There is no such network, or it needs a source or takes none.
        MissingError: Its package or its files are not here.
        InputError: Its files are damaged.
    """
    from cogvx.evaluation.features.clip import ClipMeanPool
    from cogvx.evaluation.features.conse import ConSE

    device = torch.device(spec.device)
    if spec.name == "clip":
        if spec.source is None:
            raise UsageError("clip needs --weights: a folder or repository with a CLIP")
        return ClipMeanPool(spec.source, max_frames=spec.max_frames, max_words=spec.max_words, device=device)
    if spec.name == "embedded":
        return EmbeddedMatch(open_dual_encoder(spec.source or "tiny", device=device))
    if spec.name == "conse":
        if spec.source is not None:
            raise UsageError("conse comes from two packages; it takes no --weights")
        return ConSE.open(spec.class_names, device)
    raise UsageError(f"no such backend: {clean(spec.name)}; take {', '.join(BACKENDS)}")


@dataclass(frozen=True, eq=False)
class EmbeddedMatch:
    """Clips and texts through the dual encoder of a model's folder.

    Attributes:
        encoder: With its VAE.
    """

    encoder: LocalDualEncoder
    metric: str = "text_match@embedded"

    def backend(self) -> dict[str, Any]:
        """Return which network it is (see TextVideoNetwork.backend)."""
        return {"name": "dual-encoder", "source": self.encoder.name, "sha256": self.encoder.sha256}

    def protocol(self) -> dict[str, Any]:
        """Return how clips and texts are read (see TextVideoNetwork.protocol)."""
        return {**self.encoder.sampling(), "words": "its own vocabulary"}

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Return the frames that it looks at (see TextVideoNetwork.read)."""
        return self.encoder.read(path, start=start, end=end)

    def clip(self, frames: np.ndarray) -> Tensor:
        """Return the vector (d) of a clip (see TextVideoNetwork.clip)."""
        return torch.nn.functional.normalize(self.encoder.clip_features(frames), dim=0)

    def texts(self, texts: list[str]) -> Tensor:
        """Return the vectors (n d) of texts (see TextVideoNetwork.texts)."""
        return self.encoder.text_features(texts)

    def cut(self, text: str) -> bool:
        """Tell whether a text is too long: none is."""
        return False
