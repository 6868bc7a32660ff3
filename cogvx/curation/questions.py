"""What a language model is asked about a clip, read from a file that users may change; and its answers, checked."""

import hashlib
import importlib.resources
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cogvx.errors import InputError, UsageError
from cogvx.files import clean

_FILE = "questions.toml"
_TEXTS = ("answer", "system", "user", "number_form", "yes_no_form", "again")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The words of the questions.

    Attributes:
        answer: Whether a label is answered by a number or by yes or no.
        system: Who the model is, and what it does.
        user: The task, with {frames}, {seconds}, {labels} and {form}.
        number_form: What to call a number in the task.
        yes_no_form: What to call yes and no.
        again: What is said about an answer that cannot be used, with {error}.
        labels: Label -> its question.
    """

    answer: Literal["number", "yes-no"]
    system: str
    user: str
    number_form: str
    yes_no_form: str
    again: str
    labels: Mapping[str, str]

    def sha256(self) -> str:
        """Return the hash of all the words."""
        text = json.dumps([[getattr(self, name) for name in _TEXTS], list(self.labels.items())])
        return hashlib.sha256(text.encode()).hexdigest()

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of an answer."""
        if self.answer == "number":
            one: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
        else:
            one = {"type": "string", "enum": ["yes", "no"]}
        names = list(self.labels)
        properties = {name: dict(one) for name in names}
        return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}

    def task(self, seconds: Sequence[float]) -> str:
        """Return what is asked about a clip.

        Args:
            seconds: When each of its frames is shown.
        """
        listed = "\n".join(f"- {name}: {' '.join(question.split())}" for name, question in self.labels.items())
        values = {
            "frames": str(len(seconds)),
            "seconds": ", ".join(f"{second:.2f}" for second in seconds),
            "labels": listed,
            "form": self.number_form if self.answer == "number" else self.yes_no_form,
        }
        return _filled(self.user, values)

    def complaint(self, error: str) -> str:
        """Return what is said about an answer that cannot be used."""
        return _filled(self.again, {"error": error})

    def read(self, answer: Mapping[str, Any]) -> dict[str, float]:
        """Return label -> number from 0 to 1, from the object that was answered.

        Raises:
            InputError: A label is missing, unknown, or has no value that was asked for.
        """
        missing = [name for name in self.labels if name not in answer]
        unknown = [name for name in answer if name not in self.labels]
        if missing or unknown:
            parts = [f"{', '.join(missing)} missing"] if missing else []
            parts += [f"unknown: {clean(', '.join(unknown))[:_SHOWN]}"] if unknown else []
            raise InputError(f"the keys are not those that were asked for: {'; '.join(parts)}")
        return {name: self._value(name, answer[name]) for name in self.labels}

    def _value(self, name: str, value: Any) -> float:
        words = {"yes": 1.0, "no": 0.0}
        if isinstance(value, bool):
            return float(value)
        if isinstance(value, str) and value.strip().lower() in words:
            return words[value.strip().lower()]
        if self.answer == "number" and isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1:
            return float(value)
        wanted = "a number from 0 to 1" if self.answer == "number" else '"yes" or "no"'
        raise InputError(f"{name} must be {wanted}, got {clean(json.dumps(value))[:_SHOWN]}")


def default_questions() -> Questions:
    """Return the questions that come with cogvx: the paper's six negative labels."""
    text = importlib.resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    return parse_questions(text, name=_FILE)


def read_questions(path: Path | str) -> Questions:
    """Read questions from a file.

    Raises:
        InputError: It cannot be read.
        UsageError: It is no TOML, or something is missing, unknown or of another type.
    """
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        raise InputError(f"cannot read the questions {clean(str(path))}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{clean(str(path))}: byte {error.start} is not UTF-8") from error
    return parse_questions(text, name=clean(str(path)))


def parse_questions(text: str, *, name: str) -> Questions:
    """Return the questions that a TOML text holds; see read_questions."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: not TOML: {error}") from error
    wanted = {*_TEXTS, "labels"}
    wrong = sorted(table.keys() ^ wanted)
    if wrong:
        word = "missing" if wrong[0] in wanted else "unknown key"
        raise UsageError(f"{name}: {word} {clean(wrong[0])}; the file has {', '.join(sorted(wanted))}")
    for key in _TEXTS:
        if not isinstance(table[key], str) or not table[key].strip():
            raise UsageError(f"{name}: {key} must be text")
    if table["answer"] not in ("number", "yes-no"):
        raise UsageError(f"{name}: answer must be number or yes-no, got {clean(table['answer'])[:_SHOWN]}")
    labels = table["labels"]
    if not isinstance(labels, dict) or not labels or not all(isinstance(one, str) for one in labels.values()):
        raise UsageError(f"{name}: [labels] must have a question, as text, for each label")
    for label in labels:
        if not _NAME.fullmatch(label):
            raise UsageError(f"{name}: a label is small letters, digits and _, got {clean(label)[:_SHOWN]!r}")
    for key, slot in (("user", "{labels}"), ("user", "{form}"), ("again", "{error}")):
        if slot not in table[key]:
            raise UsageError(f"{name}: {key} must have {slot} in it")
    return Questions(**{**{key: table[key].strip() for key in _TEXTS}, "labels": labels})


def chosen(questions: Questions, labels: Sequence[str]) -> Questions:
    """Return the questions for some labels only.

    Raises:
        UsageError: There is no question for one of them.
    """
    unknown = [label for label in labels if label not in questions.labels]
    if unknown:
        raise UsageError(f"no question for the label {clean(unknown[0])}; there are {', '.join(questions.labels)}")
    values = {name: getattr(questions, name) for name in _TEXTS}
    return Questions(**values, labels={name: questions.labels[name] for name in questions.labels if name in labels})


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with each {name} replaced once; other braces stay, such as those of a JSON example."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)
