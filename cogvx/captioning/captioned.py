"""What a captioner says about a clip, and what every captioner can do."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from cogvx.captioning.moments import ClipFile
from cogvx.captioning.tidy import sentences, tidy
from cogvx.errors import InputError
from cogvx.language.ask import Answer


@dataclass(frozen=True)
class Captioned:
    """The captions of a clip.

    Attributes:
        text: The caption.
        stages: Name -> what a stage on the way to it has said.
        outcome: "truncated" if an answer on the way was cut off.
        scores: Numbers about it.
    """

    text: str
    stages: dict[str, str] = field(default_factory=dict)
    outcome: Literal["success", "truncated"] = "success"
    scores: dict[str, float] = field(default_factory=dict)


class ClipCaptioner(Protocol):
    """Captions clips, one at a time."""

    def caption(self, clip: ClipFile) -> Captioned:
        """Return the captions of a clip.

        Raises:
            InputError: The clip cannot be read, or nobody wants to describe it.
            MissingError: Nobody answers.
        """

    def close(self) -> None:
        """Let go of what was opened."""


@runtime_checkable
class LatentsCaptioner(Protocol):
    """Captions clips that were encoded, too."""

    def caption_latents(self, path: Path) -> Captioned:
        """Return the captions of a latents file.

        Raises:
            InputError: It cannot be read, or another kind of VAE made it.
        """


@dataclass(frozen=True)
class Said:
    """A usable answer.

    Attributes:
        text: One paragraph.
        cut_off: Whether there would have been more.
    """

    text: str
    cut_off: bool = False


def usable(answer: Answer, what: str) -> Said:
    """Return an answer as a paragraph without markdown and openers; of one that was cut off, its whole sentences.

    Args:
        answer: From a language model.
        what: What was asked, for the message.

    Raises:
        InputError: It was blocked, or there is nothing in it.
        MissingError: There was no answer.
    """
    try:
        text = tidy(answer.checked(allow_truncated=True))
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    if answer.outcome == "truncated":
        whole = sentences(text)
        if len(whole) > 1 and not whole[-1].endswith((".", "!", "?", "\u3002")):
            text = " ".join(whole[:-1])
    if not any(letter.isalnum() for letter in text):
        raise InputError(f"{what}: the answer of the language model is empty")
    return Said(text, answer.outcome == "truncated")
