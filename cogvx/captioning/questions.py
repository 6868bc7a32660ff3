"""What language models are asked about clips: an editable TOML file, one of which comes with cogvx."""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogvx.errors import InputError
from cogvx.files import clean
from cogvx.language.ask import Message, Video

FORMAT = "cogvx.caption/1"
DEFAULT = Path(__file__).parent / "prompts.toml"
_MAX_BYTES = 1 << 20
_MAX_TOKENS = 100_000
# Question -> what has to stand in its "ask".
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "short": (),
    "frame": (),
    "summary": ("{frames}",),
    "words": ("{frames}",),
    "video": (),
}
_KEYS = {"system": str, "ask": str, "max_tokens": int, "temperature": float, "examples": list}


@dataclass(frozen=True)
class Question:
    """How one thing is asked.

    Attributes:
        system: Who the language model is; may be empty.
        ask: What is said, with names in braces that are filled in.
        max_tokens: Of the answer, as the language model counts.
        temperature: 0 takes the likeliest token each time.
        examples: Pairs of what is said and what is answered.
    """

    system: str
    ask: str
    max_tokens: int
    temperature: float = 0.0
    examples: tuple[tuple[str, str], ...] = ()

    def messages(
        self, *, images: tuple[np.ndarray, ...] = (), videos: tuple[Video, ...] = (), **values: object
    ) -> list[Message]:
        """Return the conversation that asks it.

        Args:
            images: uint8 (h w 3) each.
            videos: Clips.
            values: What the names in braces stand for; braces in a value mean nothing.
        """
        turns = [Message("system", self.system)] if self.system else []
        for said, answer in self.examples:
            turns += [Message("user", said), Message("assistant", answer)]
        filled = re.sub(r"\{(\w+)\}", lambda name: str(values.get(name[1], name[0])), self.ask)
        return [*turns, Message("user", filled, images, videos)]


@dataclass(frozen=True)
class Questions:
    """All questions of a file.

    Attributes:
        short: A short caption, from frames of the whole clip.
        frame: A dense caption of one frame.
        summary: One caption, of dense captions of frames.
        words: The same, of words about frames.
        video: A caption, end to end.
    """

    short: Question
    frame: Question
    summary: Question
    words: Question
    video: Question

    def digest(self, *names: str) -> str:
        """Return 16 hexadecimal digits that tell some of the questions from edited ones."""
        text = json.dumps([asdict(getattr(self, name)) for name in names])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_questions(path: Path = DEFAULT) -> Questions:
    """Read a file of questions; those that it leaves out are cogvx's own.

    Raises:
        InputError: It cannot be read, or says something that no such file says.
    """
    own = _parsed(_text(DEFAULT), DEFAULT.name)
    asked = own if path == DEFAULT else own | _parsed(_text(path), clean(path.name))
    return Questions(**asked)


def _text(path: Path) -> str:
    name = clean(str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise InputError(f"{name}: a file of questions has at most {_MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 at byte {error.start}") from error


def _parsed(text: str, where: str) -> dict[str, Question]:
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{where}: not TOML: {error}") from error
    if found.pop("format", None) != FORMAT:
        raise InputError(f'{where}: it must say format = "{FORMAT}"')
    _check_keys(found, _NEEDED, where)
    return {name: _question(table, name, f"{where}: {name}") for name, table in found.items()}


def _question(table: Any, name: str, where: str) -> Question:
    if not isinstance(table, dict):
        raise InputError(f"{where} must be a table")
    _check_keys(table, _KEYS, where)
    for key, value in table.items():
        kind = (int, float) if _KEYS[key] is float else _KEYS[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{where}.{key} must be {_KEYS[key].__name__}, got {type(value).__name__}")
    missing = [key for key in ("ask", "max_tokens") if key not in table]
    missing += [mark for mark in _NEEDED[name] if not missing and mark not in table["ask"]]
    if missing:
        raise InputError(f"{where}: {missing[0]} is missing")
    if not 1 <= table["max_tokens"] <= _MAX_TOKENS or not 0 <= table.get("temperature", 0) <= 2:
        raise InputError(f"{where}: max_tokens must be from 1 to {_MAX_TOKENS}, temperature from 0 to 2")
    examples = []
    for number, row in enumerate(table.get("examples", []), start=1):
        if not isinstance(row, dict) or {key: type(value) for key, value in row.items()} != {"ask": str, "answer": str}:
            raise InputError(f"{where}: example {number} needs the texts ask and answer, and nothing else")
        examples.append((row["ask"].strip(), row["answer"].strip()))
    return Question(
        table.get("system", "").strip(),
        table["ask"].strip(),
        table["max_tokens"],
        float(table.get("temperature", 0.0)),
        tuple(examples),
    )


def _check_keys(table: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    strange = next((key for key in table if key not in known), None)
    if strange is not None:
        near = difflib.get_close_matches(strange, known, n=1)
        raise InputError(f"{where}: unknown key {clean(strange)[:40]!r}{f'; did you mean {near[0]}?' if near else ''}")
