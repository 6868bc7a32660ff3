"""Captions in three steps: a short one, one of a frame every two seconds, and all of that in one paragraph.

Source: CogVideoX paper (arXiv 2408.06072), "Dense Video Caption Data Generation": Panda-70M's short captions, dense
captions of frames by CogVLM, a summary by GPT-4. Who describes and who sums up are chosen here; they may be two models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from cogvx.captioning.answers import Answers
from cogvx.captioning.asking import Asker, model_settings
from cogvx.captioning.captioned import Captioned, Said
from cogvx.captioning.frame_words import FrameWords, WordsSpec, open_words
from cogvx.captioning.length import cut_words
from cogvx.captioning.moments import SIDE, ClipFile, Moment, read_moments, times_in_words
from cogvx.captioning.questions import Questions
from cogvx.errors import UsageError
from cogvx.language.ask import LanguageSpec, open_language_model, settle

VERSION = 1  # raised when the same settings would give other captions
_SHORT_FRAMES = 4


@dataclass(frozen=True)
class DenseSpec:
    """How the dense captioner works; can be sent to another process.

    Attributes:
        summary: The language model that sums up.
        frames: The one that sees frames, or networks that give words about them.
        questions: What is asked.
        every: Seconds between frames.
        max_frames: Of a clip; of a longer one as many are taken, evenly spread.
        max_words: Of the summary.
        cache: Folder of the answers; None: they are forgotten.
    """

    summary: LanguageSpec
    frames: LanguageSpec | WordsSpec
    questions: Questions = field(repr=False)
    every: float = 2.0
    max_frames: int = 32
    max_words: int = 100
    cache: Path | None = None

    def settled(self) -> "DenseSpec":
        """Return it with definite names of models; errors are those of settle."""
        frames = self.frames if isinstance(self.frames, WordsSpec) else settle(self.frames)
        return replace(self, summary=settle(self.summary), frames=frames)

    def settings(self) -> dict[str, Any]:
        """Return all that decides the captions."""
        asked = ("words",) if isinstance(self.frames, WordsSpec) else ("short", "frame", "summary")
        return {
            "captioner": "dense",
            "version": VERSION,
            "frames": self.frames.settings() if isinstance(self.frames, WordsSpec) else model_settings(self.frames),
            "summary": model_settings(self.summary),
            "prompts": self.questions.digest(*asked),
            "every": self.every,
            "max_frames": self.max_frames,
            "max_words": self.max_words,
            "side": SIDE,
        }

    def open(self) -> "DenseCaptioner":
        """Load the models, or get ready to ask them.

        Raises:
            UsageError: The model of the frames sees none.
            MissingError: A model, a package or an endpoint is not there.
        """
        summariser = open_language_model(self.summary)
        answers = Answers(self.cache)
        if isinstance(self.frames, WordsSpec):
            return DenseCaptioner(self, WordsOfFrames(open_words(self.frames)), Asker(summariser, answers))
        seer = summariser if self.frames == self.summary else open_language_model(self.frames)
        if not seer.sees_images:
            raise UsageError(f"{seer.name} sees no images; name one that does, or take --frame-captioner words")
        return DenseCaptioner(self, ModelOfFrames(Asker(seer, answers), self.questions), Asker(summariser, answers))


class Describer(Protocol):
    """Describes frames."""

    @property
    def following(self) -> bool:
        """Whether it wants to see what comes right after each."""

    def shortly(self, clip: str, moments: Sequence[Moment]) -> Said:
        """Return a short caption of a clip, whose key is given, from all its moments."""

    def describe(self, clip: str, moment: Moment) -> Said:
        """Return a description of one moment."""


@dataclass(frozen=True)
class ModelOfFrames:
    """A language model that sees frames."""

    asker: Asker
    questions: Questions
    following: bool = False

    def shortly(self, clip: str, moments: Sequence[Moment]) -> Said:
        """Return a short caption (see Describer)."""
        count = min(_SHORT_FRAMES, len(moments))
        seen = [moments[int((i + 0.5) * len(moments) / count)] for i in range(count)]
        return self.asker.ask("short", self.questions.short, clip=clip, seen=seen, seconds=times_in_words(seen))

    def describe(self, clip: str, moment: Moment) -> Said:
        """Return a description (see Describer)."""
        return self.asker.ask("frame", self.questions.frame, clip=clip, seen=[moment])


@dataclass(frozen=True)
class WordsOfFrames:
    """Networks that give words about frames."""

    words: FrameWords
    following: bool = True

    def shortly(self, clip: str, moments: Sequence[Moment]) -> Said:
        """Return a short caption (see Describer)."""
        return Said(self.words.shortly(moments))

    def describe(self, clip: str, moment: Moment) -> Said:
        """Return a description (see Describer)."""
        return Said(self.words.describe(moment))


class DenseCaptioner:
    """Captions clips in three steps (see ClipCaptioner).

    Args:
        spec: How.
        describer: Of frames.
        summariser: Who sums up.
    """

    def __init__(self, spec: DenseSpec, describer: Describer, summariser: Asker) -> None:
        self._spec, self._describer, self._summariser = spec, describer, summariser

    def caption(self, clip: ClipFile) -> Captioned:
        """Return the captions of a clip: "short", "frames" and "summary", which is the caption."""
        spec, key = self._spec, clip.key()
        moments = read_moments(clip, every=spec.every, most=spec.max_frames, following=self._describer.following)
        short = self._describer.shortly(key, moments)
        said = [(moment.seconds, self._describer.describe(key, moment)) for moment in moments]
        frames = "\n".join(f"{seconds:.1f} s: {one.text}" for seconds, one in said)
        question = spec.questions.words if isinstance(spec.frames, WordsSpec) else spec.questions.summary
        summary = self._summariser.ask(
            "summary", question, clip=key, frames=frames, short=short.text, max_words=spec.max_words
        )
        text, cut_short = cut_words(summary.text, spec.max_words)
        cut_off = cut_short or any(one.cut_off for one in (short, summary, *(one for _, one in said)))
        stages = {"short": short.text, "frames": frames, "summary": summary.text}
        return Captioned(text, stages, "truncated" if cut_off else "success")

    def close(self) -> None:
        """Close the answers."""
        self._summariser.answers.close()
