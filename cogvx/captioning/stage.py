"""The stage of the data pipeline that writes captions into a manifest."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from cogvx.captioning.captioned import Captioned, ClipCaptioner, LatentsCaptioner
from cogvx.captioning.length import Limit, cut_tokens
from cogvx.captioning.moments import ClipFile
from cogvx.data.manifest import Entry
from cogvx.data.stages import Item
from cogvx.errors import InputError

NAME = "caption"
STAGES = ("short", "frames", "summary", "video", "embedded")  # under "captions"
GIVEN = "given"  # under "captions": what an entry had as its caption before
_OUTCOME, _LOG_PROB, _TOKENS = "caption_outcome", "caption_log_prob", "caption_tokens"


class CaptionerSpec(Protocol):
    """Which captioner works, and how; can be sent to another process."""

    def settled(self) -> "CaptionerSpec":
        """Return it with definite names of all models."""

    def settings(self) -> dict[str, Any]:
        """Return all that decides the captions, as JSON takes it."""

    def open(self) -> ClipCaptioner:
        """Load what it needs."""


@dataclass
class CaptionStage:
    """Captions clips (see cogvx.data.stages.Stage).

    It adds `caption`, what a stage on the way has said under `captions`, `caption_outcome` ("success", or "truncated"
    when an answer was cut off or the caption is cut to the limit), under `scores` `caption_tokens` (of the caption
    before it is cut to the limit) and what the captioner says, and under `made` how. A caption of other origin goes to
    `captions.given`; embeddings of it go.

    Attributes:
        captioner: Which one.
        limit: Of the caption's length.
        base: What the paths of entries are relative to: the result's folder.
    """

    captioner: CaptionerSpec
    limit: Limit = field(default_factory=Limit)
    base: Path = Path()
    name: str = field(default=NAME, init=False)
    _opened: ClipCaptioner | None = field(default=None, init=False, repr=False, compare=False)
    _count: Callable[[str], int] | None = field(default=None, init=False, repr=False, compare=False)

    def settings(self) -> dict[str, Any]:
        """Return all that changes the captions; models whose names the other side knows are asked for them."""
        return self._made

    @cached_property
    def _made(self) -> dict[str, Any]:
        self.captioner = self.captioner.settled()
        return self.captioner.settings() | {"limit": self.limit.settings()}

    def columns(self) -> tuple[str, ...]:
        """Return the names of all that it adds, in the order in which process() does."""
        captions = [f"captions.{name}" for name in (GIVEN, *STAGES)]
        return (NAME, *captions, _OUTCOME, f"scores.{_LOG_PROB}", f"scores.{_TOKENS}", f"made.{NAME}")

    def wanted(self, entry: Entry) -> bool:
        """Whether an entry has no caption that was made with these settings."""
        made = entry.get("made")
        return NAME not in entry or not isinstance(made, dict) or made.get(NAME) != self._made

    def open(self) -> None:
        """Load the captioner; errors are those of its spec."""
        self._count = self.limit.counter()
        self._opened = self.captioner.open()

    def process(self, item: Item) -> list[Entry]:
        """Return the entry with its captions.

        Raises:
            InputError: The clip cannot be read, there is none, or no usable answer came.
            MissingError: Nobody answers.
        """
        assert self._count is not None
        found = self._caption(item)
        text, cut = cut_tokens(found.text, self.limit, self._count)
        if not text:
            raise InputError("the caption is empty")
        entry = {name: value for name, value in item.entry.items() if name != "text"}
        if isinstance(texts := entry.get("texts"), dict):
            entry["texts"] = {name: path for name, path in texts.items() if name not in (NAME, *STAGES)}
        captions = {name: value for name, value in entry.get("captions", {}).items() if name not in STAGES}
        if entry.get(NAME) and NAME not in entry.get("made", {}):
            captions[GIVEN] = entry[NAME]
        scores = {name: value for name, value in entry.get("scores", {}).items() if name != _LOG_PROB}
        entry |= {
            NAME: text,
            "captions": captions | found.stages,
            _OUTCOME: "truncated" if cut else found.outcome,
            "scores": scores | found.scores | {_TOKENS: self._count(found.text)},
            "made": entry.get("made", {}) | {NAME: self._made},
        }
        return [entry]

    def close(self) -> None:
        """Close the captioner."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _caption(self, item: Item) -> Captioned:
        captioner, entry = self._opened, item.entry
        assert captioner is not None
        if item.path is not None:
            return captioner.caption(ClipFile(item.path, entry.get("start"), entry.get("end")))
        if "latents" in entry and isinstance(captioner, LatentsCaptioner):
            return captioner.caption_latents(self.base / entry["latents"])
        raise InputError("the entry names neither a video nor an image")
