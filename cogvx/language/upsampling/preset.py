"""How a language model is asked to rewrite prompts: an editable TOML file, three of which come with cogvx."""

import difflib
import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cogvx.errors import InputError, UsageError
from cogvx.files import clean
from cogvx.language.ask import Message

FORMAT = "cogvx.upsample/1"
PRESETS = ("t2v", "i2v", "small")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Parameters:
    """How the language model answers.

    Attributes:
        temperature: 0 takes the likeliest token each time.
        later_temperature: Of the tries after the first, which would else say the same again.
        top_p: Share of the likeliest tokens that are drawn from.
        max_tokens: Tokens of an answer at most, as the language model counts them.
        tries: How often it is asked for an answer that can be used.
    """

    temperature: float = 0.01
    later_temperature: float = 0.7
    top_p: float = 0.7
    max_tokens: int = 250
    tries: int = 3


@dataclass(frozen=True)
class Limits:
    """How long a prompt must be.

    Attributes:
        min_tokens: Tokens of T5, where its tokenizer is at hand.
        max_tokens: Tokens of T5; the official models read 226.
        min_words: Words, where it is not.
        max_words: Words.
    """

    min_tokens: int = 30
    max_tokens: int = 220
    min_words: int = 22
    max_words: int = 165


@dataclass(frozen=True)
class Preset:
    """How prompts are rewritten.

    Attributes:
        name: "t2v", "i2v", "small" or the name of a file.
        system: Who the language model is.
        ask: What is said for each prompt, with {prompt} in it.
        repair: What is said when an answer cannot be used, with {problem} in it.
        examples: Pairs of a prompt and its answer.
        parameters: How it answers.
        checks: How long an answer must be.
        sha256: Of the file, so that a record can tell edited ones apart.
    """

    name: str
    system: str
    ask: str
    repair: str
    examples: tuple[tuple[str, str], ...]
    parameters: Parameters
    checks: Limits
    sha256: str

    def conversation(self, prompt: str, image: Any = None) -> list[Message]:
        """Return the turns that ask for a prompt.

        Args:
            prompt: What is to be rewritten.
            image: uint8 (h w 3), what the clip begins with.
        """
        turns = [Message("system", self.system)]
        for example, answer in self.examples:
            turns += [Message("user", self.ask.replace("{prompt}", example)), Message("assistant", answer)]
        images = () if image is None else (image,)
        return [*turns, Message("user", self.ask.replace("{prompt}", prompt), images)]

    def settings(self) -> dict[str, Any]:
        """Return what records say of it."""
        return {"preset": self.name, "preset_sha256": self.sha256[:16], **asdict(self.parameters)}


def preset_text(name: str) -> str:
    """Return the file of a preset that comes with cogvx."""
    return (Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8")


def read_preset(name: str) -> Preset:
    """Read a preset by its name, or from a file.

    Raises:
        UsageError: There is no preset of that name.
        InputError: The file cannot be read, or says something that no preset says.
    """
    if name in PRESETS:
        return _parse(preset_text(name), name)
    path = Path(name)
    if path.suffix != ".toml" and not path.exists():
        raise UsageError(f"no such preset: {clean(name)}; expected {', '.join(PRESETS)}, or a TOML file")
    try:
        data = path.read_bytes()
        if len(data) > _MAX_BYTES:
            raise InputError(f"{clean(name)}: a preset has at most {_MAX_BYTES >> 20} MiB")
        return _parse(data.decode("utf-8-sig"), path.name)
    except OSError as error:
        raise InputError(f"cannot read {clean(name)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{clean(name)}: not UTF-8 at byte {error.start}") from error


def _parse(text: str, name: str) -> Preset:
    where = clean(name)
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{where}: not TOML: {error}") from error
    known = {"format": str, "system": str, "ask": str, "repair": str, "parameters": dict, "checks": dict}
    _check(found, known | {"examples": list}, where)
    if found.pop("format", FORMAT) != FORMAT:
        raise InputError(f'{where}: the format must be "{FORMAT}"')
    for key, needed in (("system", ""), ("ask", "{prompt}"), ("repair", "{problem}")):
        if key not in found or needed not in found[key]:
            raise InputError(f"{where}: {key} is missing{f', or has no {needed} in it' if needed else ''}")
    examples = []
    for number, row in enumerate(found.get("examples", []), start=1):
        place = f"{where}: examples, number {number}"
        if not isinstance(row, dict) or set(row) != {"prompt", "answer"}:
            raise InputError(f"{place}: expected prompt and answer")
        _check(row, {"prompt": str, "answer": str}, place)
        examples.append((row["prompt"].strip(), row["answer"].strip()))
    return Preset(
        name=where,
        system=found["system"].strip(),
        ask=found["ask"].strip(),
        repair=found["repair"].strip(),
        examples=tuple(examples),
        parameters=_table(Parameters, found.get("parameters", {}), f"{where}: parameters"),
        checks=_table(Limits, found.get("checks", {}), f"{where}: checks"),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
    )


def _table(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    types = {item.name: type(item.default) for item in fields(kind) if item.default is not MISSING}
    _check(values, types, where)
    made = kind(**values)
    for name, value in asdict(made).items():
        if not 0 <= value <= 1_000_000 or (name in ("tries", "max_tokens", "top_p") and not value):
            raise InputError(f"{where}: {name} = {value} makes no sense")
    return made


def _check(values: Mapping[str, Any], known: Mapping[str, type], where: str) -> None:
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise InputError(f"{where}: unknown key {clean(key)[:40]!r}{f'; did you mean {near[0]}?' if near else ''}")
        wanted = known[key]
        good = isinstance(value, (int, float) if wanted is float else wanted) and not isinstance(value, bool)
        if not good:
            raise InputError(f"{where}: {key} must be {wanted.__name__}, got {type(value).__name__}")
