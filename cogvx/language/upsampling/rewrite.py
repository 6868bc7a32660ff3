"""Prompts rewritten by a language model, and what is known of how."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from cogvx.errors import InputError, MissingError
from cogvx.files import clean
from cogvx.language.ask import LanguageModel, Message
from cogvx.language.upsampling.checks import LOOP, shortened, tidy, why_unfit
from cogvx.language.upsampling.preset import Limits, Preset

if TYPE_CHECKING:
    import numpy as np


class HopelessError(MissingError):
    """The language model answers nothing at all: the other prompts of a batch would fail too."""


@dataclass(frozen=True)
class Rewritten:
    """A prompt that was rewritten.

    Attributes:
        text: What the model gets.
        source: The prompt as it came.
        by: Who rewrote it.
        params: How: preset, temperature and so on.
        tries: Questions that it took.
        notes: What the user should know, such as things that were left out.
        shortened: Whether sentences were left out: those at its end that the model would not read, and repeated ones.
        fallback: Why `text` is `source`, where the user allowed that.
    """

    text: str
    source: str
    by: str
    params: dict[str, Any]
    tries: int = 1
    notes: tuple[str, ...] = ()
    shortened: bool = False
    fallback: str | None = None

    def record(self) -> dict[str, Any]:
        """Return what a clip's record and a row of a prompts file say."""
        made: dict[str, Any] = {"from": self.source, "by": self.by, "params": self.params, "tries": self.tries}
        made |= {"shortened": True} if self.shortened else {}
        return made | ({"fallback": self.fallback} if self.fallback is not None else {})


class Upsampler(Protocol):
    """Rewrites prompts; may be called from several threads at once."""

    @property
    def name(self) -> str:
        """Who rewrites, for records."""
        ...

    @property
    def concurrent(self) -> bool:
        """Whether several threads that ask at once are served faster than one."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return what decides the result besides the prompt; no keys."""
        ...

    def rewrite(self, prompt: str, image: "np.ndarray | None" = None) -> Rewritten:
        """Rewrite one prompt.

        Args:
            prompt: Any text.
            image: uint8 (h w 3), what the clip begins with; left out for models that see nothing.

        Raises:
            InputError: What came is no prompt.
            MissingError: Nothing came.
        """
        ...


@dataclass(frozen=True)
class LanguageUpsampler:
    """Asks a language model, looks at its answers, and asks again with what was wrong.

    Attributes:
        model: Who is asked.
        preset: How.
        count_tokens: Counts the tokens of T5; without it words are counted.
        most_tokens: What the video model reads at most, where that is less than the preset allows.
    """

    model: LanguageModel
    preset: Preset
    count_tokens: Callable[[str], int] | None = None
    most_tokens: int | None = None

    @property
    def name(self) -> str:
        """Who rewrites."""
        return self.model.name

    @property
    def concurrent(self) -> bool:
        """Whether several threads that ask at once are served faster than one."""
        return self.model.concurrent

    @property
    def limits(self) -> Limits:
        """The lengths that an answer may have: the preset's; for a model that reads less, at least a third of that."""
        checks = self.preset.checks
        if self.most_tokens is None or self.most_tokens >= checks.max_tokens:
            return checks
        return replace(checks, max_tokens=self.most_tokens, min_tokens=min(checks.min_tokens, self.most_tokens // 3))

    def settings(self) -> dict[str, Any]:
        """Return what decides the result besides the prompt; no keys."""
        return {**self.model.settings(), **self.preset.settings()}

    def rewrite(self, prompt: str, image: "np.ndarray | None" = None) -> Rewritten:
        """Rewrite one prompt; see Upsampler."""
        if not prompt.strip():
            raise InputError("the prompt is empty")
        parameters = self.preset.parameters
        turns = self.preset.conversation(prompt.strip(), image if self.model.sees_images else None)
        problem: str | None = None
        text = ""
        for number in range(parameters.tries):
            answer = self.model.ask(
                turns,
                max_tokens=parameters.max_tokens,
                temperature=parameters.later_temperature if number else parameters.temperature,
                top_p=parameters.top_p,
                seed=number,
            )
            if answer.fatal:
                raise HopelessError(answer.error or "the language model gave no answer")
            text = tidy(answer.checked(allow_truncated=True))
            cut_off = answer.outcome == "truncated"
            whole = shortened(text, self.limits, cut_off=cut_off, count_tokens=self.count_tokens)
            problem = why_unfit(whole, self.limits, count_tokens=self.count_tokens)
            if problem is None:
                return Rewritten(
                    clean(whole), prompt, self.name, self.settings(), tries=number + 1, shortened=whole != text
                )
            if not whole:
                problem = why_unfit(text, self.limits, count_tokens=self.count_tokens)
                if cut_off:
                    problem = f"it is too long: cut off at {parameters.max_tokens} tokens, without a whole sentence"
            if problem == LOOP:  # shown to the model again, it would go on with it
                continue
            repair = self.preset.repair.replace("{problem}", str(problem))
            turns = [*turns, Message("assistant", text), Message("user", repair)]
        start = f"; it begins: {clean(text)[:80]!r}" if text else ""
        failed = f"no usable prompt in {parameters.tries} tries: of the last one, {problem}{start}"
        raise InputError(f"{self.name}: {failed}")
