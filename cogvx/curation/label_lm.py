"""Labels by a vision-language model: it looks at frames of a clip and answers one JSON object."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cogvx.curation.questions import Questions
from cogvx.data.manifest import Entry
from cogvx.data.spread import spread_frames
from cogvx.data.stages.stage import Item
from cogvx.errors import InputError, MissingError, UsageError
from cogvx.language.ask import Answer, LanguageModel, LanguageSpec, Message, open_language_model, settle
from cogvx.language.json_answer import read_object

VERSION = 1
_TOKENS_A_LABEL = 24
_TRIES = 2


@dataclass
class LanguageLabels:
    """The stage `label` with a language model.

    Attributes:
        spec: The model.
        questions: What it is asked.
        num_frames: Frames that it is shown.
        longest: Pixels of their longer side at most.
        model: Once it is open.
        name: Of the stage.
    """

    spec: LanguageSpec
    questions: Questions
    num_frames: int = 8
    longest: int = 512
    model: LanguageModel | None = field(default=None, repr=False)
    name: str = "label"

    def columns(self) -> tuple[str, ...]:
        """Return the names of all that the stage adds."""
        labels = [f"labels.{label}" for label in self.questions.labels]
        return (*labels, *(f"made.{label}" for label in labels))

    def settings(self) -> dict[str, Any]:
        """Return what decides the labels."""
        return self._settings

    @cached_property
    def _settings(self) -> dict[str, Any]:
        spec = settle(self.spec)
        model: dict[str, Any] = {"engine": spec.engine, "model": spec.model, "revision": spec.revision}
        return {
            "version": VERSION,
            "labeller": "lm",
            **{key: value for key, value in model.items() if value is not None},
            "questions": self.questions.sha256()[:16],
            "num_frames": self.num_frames,
            "longest": self.longest,
        }

    def wanted(self, entry: Entry) -> bool:
        """Whether an entry lacks a label that was made with the same settings."""
        return not is_labelled(entry, tuple(self.questions.labels), self._settings)

    def open(self) -> None:
        """Open the model.

        Raises:
            UsageError: It sees no images.
        """
        self.model = open_language_model(self.spec)
        if not self.model.sees_images:
            raise UsageError(f"{self.model.name} sees no images; labels need a vision-language model")

    def process(self, item: Item) -> list[Entry]:
        """Return the entry with its labels.

        Raises:
            InputError: The clip cannot be read, or no answer could be used.
            MissingError: The model gave no answer.
        """
        if item.path is None:
            raise InputError(f"{item.place}: an entry names neither 'video' nor 'image'")
        start, end = item.entry.get("start"), item.entry.get("end")
        shown = spread_frames(item.path, self.num_frames, longest=self.longest, start=start, end=end)
        labels = self.ask(tuple(shown.frames), shown.seconds)
        return [with_labels(item.entry, labels, self._settings)]

    def ask(self, frames: tuple[Any, ...], seconds: tuple[float, ...]) -> dict[str, float]:
        """Return label -> number from 0 to 1 for some frames of a clip.

        An answer that cannot be used is sent back once, with what is wrong with it.

        Args:
            frames: uint8 (h w 3) each.
            seconds: When each is shown.

        Raises:
            InputError: Neither answer could be used.
            MissingError: There was no answer.
        """
        if self.model is None:
            self.open()
        assert self.model is not None
        messages = [
            Message("system", self.questions.system),
            Message("user", self.questions.task(seconds), images=frames),
        ]
        reason = ""
        for _ in range(_TRIES):
            answer = self.model.ask(
                messages,
                max_tokens=64 + _TOKENS_A_LABEL * len(self.questions.labels),
                schema=self.questions.schema(),
            )
            _refuse_silence(answer)
            try:
                return self.questions.read(read_object(answer.text))
            except InputError as error:
                reason = str(error)
                if answer.outcome == "truncated":
                    reason = f"it was cut off ({reason})"
            messages += [
                Message("assistant", answer.text or "(nothing)"),
                Message("user", self.questions.complaint(reason)),
            ]
        raise InputError(f"{self.model.name} gave no answer that can be used, in {_TRIES} tries: {reason}")

    def close(self) -> None:
        """Let go of the model."""
        self.model = None


def is_labelled(entry: Entry, labels: tuple[str, ...], settings: dict[str, Any]) -> bool:
    """Whether an entry has labels that were made with the same settings."""
    made = entry.get("made", {})
    return all(
        label in entry.get("labels", {}) and isinstance(made, dict) and made.get(f"labels.{label}") == settings
        for label in labels
    )


def with_labels(entry: Entry, labels: dict[str, float], settings: dict[str, Any]) -> Entry:
    """Return an entry with these labels, and how they were made, in place of former ones of the same names."""
    made = entry.get("made", {})
    how = {f"labels.{label}": settings for label in labels}
    return {
        **entry,
        "labels": {**entry.get("labels", {}), **{label: round(value, 6) for label, value in labels.items()}},
        "made": {**(made if isinstance(made, dict) else {}), **how},
    }


def _refuse_silence(answer: Answer) -> None:
    """Raise the error of an answer that has no words, or that the server would not give."""
    if answer.outcome == "blocked":
        answer.checked()
    if answer.outcome == "error":
        raise MissingError(answer.error or "the language model gave no answer")
