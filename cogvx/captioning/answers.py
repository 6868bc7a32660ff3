"""Answers of language models, kept in a folder: a question that was answered once is not asked again.

DIR/answers.jsonl has one answer a line, in the order in which they came. Each is appended in one write, so a process
that is killed tears the last line at most; what is torn is passed over. DIR/locks has an empty file for each of 4096
groups of questions: a process holds its group's lock from looking an answer up until it is written, so that two
processes never ask the same.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cogvx.errors import MissingError, UsageError
from cogvx.files import clean, disk_errors
from cogvx.language.ask import Answer, Outcome

FILE, LOCKS = "answers.jsonl", "locks"
_KEPT: tuple[Outcome, ...] = ("success", "truncated", "blocked")


@dataclass(frozen=True)
class Kept:
    """What is kept of an answer.

    Attributes:
        text: The words.
        outcome: "success", "truncated" or "blocked"; what failed is asked again the next time.
        error: Why it is no success.
        model: What the server says has answered.
        prompt_tokens: Tokens of the question, where the engine counts them.
        completion_tokens: Tokens of the answer.
    """

    text: str
    outcome: Outcome
    error: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @classmethod
    def of(cls, answer: Answer) -> "Kept":
        """Return what is kept of an answer."""
        return cls(**{name: getattr(answer, name) for name in cls.__dataclass_fields__})

    def answer(self) -> Answer:
        """Return it as an answer for which nobody was asked."""
        return Answer(**asdict(self), tries=0)


def question_key(question: Mapping[str, Any]) -> str:
    """Return the sha256 of all that an answer depends on, as JSON takes it."""
    text = json.dumps(question, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Answers:
    """The answers of a folder; of no folder, those of this process.

    Args:
        folder: Made if it is missing.

    Raises:
        UsageError: The folder cannot be written to.
        MissingError: The disk is full.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._places: dict[bytes, int] = {}  # key -> where its line begins
        self._here: dict[str, Kept] = {}
        self._read_to = 0
        self._thread = threading.RLock()
        self._descriptor = -1
        if folder is None:
            return
        try:
            (folder / LOCKS).mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(folder / FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise UsageError(f"cannot keep answers in {clean(str(folder))}: {error.strerror}") from error

    def get(self, question: Mapping[str, Any], ask: Callable[[], Answer]) -> Answer:
        """Return the answer that is kept for a question; else ask, and keep what comes unless it is an error.

        Args:
            question: All that the answer depends on.
            ask: Asks it.

        Raises:
            MissingError: The disk is full.
        """
        key = question_key(question)
        with self._thread, self._locked(key[:3]):
            kept = self._find(key)
            if kept is not None:
                return kept.answer()
            answer = ask()
            if answer.outcome in _KEPT:
                self._keep(key, question, Kept.of(answer))
            return answer

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _find(self, key: str) -> Kept | None:
        if self._folder is None:
            return self._here.get(key)
        self._read_on()
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return None
        with open(self._folder / FILE, "rb") as file:
            file.seek(place)
            return _parsed(file.readline())[1]

    def _read_on(self) -> None:
        """Note the answers that this and other processes have written since the last time."""
        assert self._folder is not None
        with open(self._folder / FILE, "rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):  # torn, or being written
                    break
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._places[bytes.fromhex(_parsed(line)[0])] = self._read_to
                self._read_to += len(line)

    def _keep(self, key: str, question: Mapping[str, Any], kept: Kept) -> None:
        if self._folder is None:
            self._here[key] = kept
            return
        record = {"key": key, **{name: value for name, value in asdict(kept).items() if value is not None}}
        line = json.dumps(record | {"question": question}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        path = self._folder / FILE
        with disk_errors(path), self._locked("write"):
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # somebody was killed within a line
            if os.write(self._descriptor, line) < len(line):
                os.ftruncate(self._descriptor, size)
                raise MissingError(f"disk full: cannot append to {clean(str(path))}")

    @contextlib.contextmanager
    def _locked(self, group: str) -> Iterator[None]:
        """Keep other processes from one group of questions, where the system can."""
        if self._folder is None:
            yield
            return
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        descriptor = os.open(self._folder / LOCKS / group, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _parsed(line: bytes) -> tuple[str, Kept]:
    """Return the key and the answer of a line.

    Raises:
        ValueError: It is no answer, as are KeyError and TypeError.
    """
    record = json.loads(line)
    if record["outcome"] not in _KEPT or not isinstance(record["text"], str) or len(record["key"]) != 64:
        raise ValueError("no answer")
    return record["key"], Kept(**{name: record.get(name) for name in Kept.__dataclass_fields__})
