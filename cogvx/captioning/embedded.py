"""The small captioner of a model's folder, as a captioner of the data pipeline."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cogvx.captioning.captioned import Captioned
from cogvx.captioning.local import LocalCaptioner, captioner_sha256, find_captioner, open_captioner
from cogvx.captioning.moments import ClipFile
from cogvx.generate.options import choose_device
from cogvx.models.caption_search import FoundCaption


@dataclass(frozen=True)
class EmbeddedSpec:
    """Which small captioner works, and how; can be sent to another process.

    Attributes:
        model: The name of an embedded model, or a folder with `captioner/` and `vae/`.
        num_beams: Prefixes that the search follows; 1: greedy.
        device: As --device takes it.
    """

    model: str
    num_beams: int = 1
    device: str | None = None

    def settled(self) -> "EmbeddedSpec":
        """Return it as it is: its model has a definite name."""
        return self

    def settings(self) -> dict[str, Any]:
        """Return all that decides the captions; errors are those of find_captioner."""
        return {"captioner": "embedded", **self._about, "num_beams": self.num_beams}

    def open(self) -> "EmbeddedCaptioner":
        """Load the captioner; errors are those of open_captioner."""
        device = choose_device(self.device)
        return EmbeddedCaptioner(open_captioner(find_captioner(self.model), device=device), self.num_beams)

    @cached_property
    def _about(self) -> dict[str, str]:
        resolved = find_captioner(self.model)
        return {"model": resolved.name, "weights": captioner_sha256(resolved)[:16]}


class EmbeddedCaptioner:
    """Captions clips with the small captioner (see ClipCaptioner).

    Args:
        captioner: Loaded.
        num_beams: Prefixes that the search follows.
    """

    def __init__(self, captioner: LocalCaptioner, num_beams: int) -> None:
        self._captioner, self._num_beams = captioner, num_beams

    def caption(self, clip: ClipFile) -> Captioned:
        """Return the caption of a clip, in lower case."""
        return _captioned(self._captioner.caption(clip.path, start=clip.start, end=clip.end, num_beams=self._num_beams))

    def caption_latents(self, path: Path) -> Captioned:
        """Return the caption of a latents file.

        Raises:
            InputError: It cannot be read, or another kind of VAE made it.
        """
        return _captioned(self._captioner.caption_latents(path, num_beams=self._num_beams))

    def close(self) -> None:
        """Nothing is open."""


def _captioned(found: FoundCaption) -> Captioned:
    return Captioned(found.text, {"embedded": found.text}, scores={"caption_log_prob": round(found.score, 4)})
