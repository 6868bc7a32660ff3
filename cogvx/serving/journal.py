"""What people answered, each answer kept for good in an SQLite file; of one person about one item the latest counts."""

import contextlib
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogvx.errors import CogvxError, InputError, MissingError, UsageError
from cogvx.files import clean

_APPLICATION = 0x636F6778  # "cogx": tells our files from other SQLite files
_VERSION = 1
_BUSY_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE raters (name TEXT PRIMARY KEY, token TEXT NOT NULL UNIQUE);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    rater TEXT NOT NULL REFERENCES raters (name),
    item TEXT NOT NULL,
    answer TEXT NOT NULL,
    seconds REAL,
    at REAL NOT NULL
);
CREATE INDEX answers_by_item ON answers (item, rater, id);
CREATE INDEX answers_by_rater ON answers (rater, item, id);
"""


@dataclass(frozen=True)
class Answer:
    """What one person says about one item.

    Attributes:
        rater: Who.
        item: About what: the id of a manifest's entry, or another text.
        answer: What the page asks for, as JSON holds it.
        seconds: How long it took; None if nobody measured.
        at: When, in seconds since 1970.
    """

    rater: str
    item: str
    answer: dict[str, Any]
    seconds: float | None
    at: float


class Journal:
    """An SQLite file of answers; several threads and processes may use it at a time."""

    def __init__(self, path: Path | str, kind: str, about: Mapping[str, Any] | None = None) -> None:
        """Open a file; with `about` it is made if it is missing.

        Args:
            path: The file.
            kind: What is asked, such as "labels".
            about: What all answers in it share, such as the names of the labels; a file of others is refused. None:
                the file must be there, and may be of any.

        Raises:
            InputError: It is missing, damaged, or no such file.
            UsageError: It is of another kind, of other questions, of a newer version, or cannot be written.
            MissingError: The disk is full.
        """
        self.path = Path(path)
        self._lock = threading.Lock()
        if about is None and not self.path.is_file():
            raise InputError(f"cannot read {clean(str(path))}: there is no such file")
        with self._errors():
            if about is not None:
                _make_private(self.path)
            self._file = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, check_same_thread=False)
            self._file.isolation_level = None  # transactions begin and end where this module says
            try:
                self._prepare(kind, about)
            except BaseException:
                self._file.close()
                raise

    def token(self, rater: str) -> str:
        """Return the secret in a rater's address; it is made when the rater is new, and stays the same."""
        with self._errors(), self._changing() as file:
            file.execute("INSERT OR IGNORE INTO raters (name, token) VALUES (?, ?)", (rater, secrets.token_urlsafe(24)))
            return str(file.execute("SELECT token FROM raters WHERE name = ?", (rater,)).fetchone()[0])

    def raters(self) -> list[str]:
        """Return the raters, in the order of their names."""
        return [str(name) for (name,) in self._rows("SELECT name FROM raters ORDER BY name")]

    def add(self, rater: str, item: str, answer: Mapping[str, Any], *, seconds: float | None = None) -> None:
        """Write one answer down; when this returns, it is on the disk."""
        text = json.dumps(dict(answer), ensure_ascii=False, allow_nan=False)
        with self._errors(), self._changing() as file:
            file.execute(
                "INSERT INTO answers (rater, item, answer, seconds, at) VALUES (?, ?, ?, ?, ?)",
                (rater, item, text, seconds, time.time()),
            )

    def latest(self, *, rater: str | None = None, item: str | None = None) -> Iterator[Answer]:
        """Yield the latest answer of each rater about each item, by item; of one rater or about one item if given."""
        wanted = [(name, value) for name, value in (("rater", rater), ("item", item)) if value is not None]
        where = f"WHERE {' AND '.join(f'{name} = ?' for name, _ in wanted)}" if wanted else ""
        rows = self._rows(
            f"SELECT rater, item, answer, seconds, at FROM answers WHERE id IN (SELECT max(id) FROM answers {where} "
            "GROUP BY item, rater) ORDER BY item, rater",
            tuple(value for _, value in wanted),
        )
        for name, about, text, seconds, at in rows:
            try:
                answer = json.loads(text)
            except ValueError as error:
                raise InputError(f"{clean(str(self.path))}: damaged: an answer is no JSON") from error
            yield Answer(str(name), str(about), answer, seconds, at)

    def count(self) -> int:
        """Return how many answers there are, those that were changed later included."""
        return int(self._rows("SELECT count(*) FROM answers")[0][0])

    @property
    def about(self) -> dict[str, Any]:
        """What all answers share."""
        rows = self._rows("SELECT value FROM about WHERE name = 'about'")
        return dict(json.loads(rows[0][0])) if rows else {}

    def close(self) -> None:
        """Close the file; answers are safe without it too."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, kind: str, about: Mapping[str, Any] | None) -> None:
        """Make the tables, or check that they are what they should be."""
        name = clean(str(self.path))
        with self._changing() as file:
            application = file.execute("PRAGMA application_id").fetchone()[0]
            version = file.execute("PRAGMA user_version").fetchone()[0]
            empty = not file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if empty and about is not None:
                for statement in _SCHEMA.split(";"):
                    file.execute(statement)
                file.execute("INSERT INTO about VALUES ('kind', ?)", (kind,))
                file.execute("INSERT INTO about VALUES ('about', ?)", (json.dumps(dict(about)),))
                file.execute(f"PRAGMA application_id = {_APPLICATION}")
                file.execute(f"PRAGMA user_version = {_VERSION}")
            elif application != _APPLICATION:
                raise InputError(f"{name}: no file of answers of cogvx")
            elif version > _VERSION:
                raise UsageError(f"{name}: made by a newer cogvx (version {version} of the file); update cogvx")
            else:
                self._compare(name, kind, about)
        # Readers go on while an answer is written, and an answer is on the disk before the page hears of it.
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = FULL")

    def _compare(self, name: str, kind: str, about: Mapping[str, Any] | None) -> None:
        found = dict(self._file.execute("SELECT name, value FROM about").fetchall())
        if found.get("kind") != kind:
            raise UsageError(f"{name}: it holds {clean(str(found.get('kind')))}, not {kind}; name another file")
        if about is not None and json.loads(found.get("about", "{}")) != json.loads(json.dumps(dict(about))):
            raise UsageError(f"{name}: it holds answers to other questions; name another file")

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._errors(), self._lock:
            return self._file.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Give the file for a change that happens as a whole or not at all."""
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        name = clean(str(self.path))
        try:
            yield
        except CogvxError:
            raise
        except sqlite3.DatabaseError as error:
            text = str(error)
            if "disk is full" in text or "disk I/O error" in text:
                raise MissingError(f"disk full: cannot write {name} ({text})") from error
            if "unable to open" in text or "readonly" in text or "locked" in text:
                raise UsageError(f"cannot write {name}: {text}") from error
            raise InputError(f"{name}: damaged, or no SQLite file: {text}") from error
        except OSError as error:
            raise UsageError(f"cannot write {name}: {error.strerror}") from error


def _make_private(path: Path) -> None:
    """Make an empty file that only its owner reads, since the raters' secrets are in it; one that is there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
