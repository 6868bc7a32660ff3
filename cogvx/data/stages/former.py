"""A former result, looked up entry by entry: what is taken over from it is not done again."""

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cogvx.data.manifest import Entry, entry_id, parse_entry
from cogvx.data.stages.stage import Item, Stage, columns_of, digest, get_column, has_failed, with_columns
from cogvx.errors import InputError, UsageError
from cogvx.files import clean

_LOOK_AT = 1000  # entries of both that are compared before a file is replaced
_OF_RUNS = {"errors", "made_from"}
_TABLES = ("scores", "labels", "captions", "made")


class Former:
    """Where each entry's rows stand in a former result; it takes up to 32 bytes of memory a row.

    Args:
        path: A manifest.
        stage: What has made it, or is to continue it.

    Raises:
        UsageError: It is no manifest.
    """

    def __init__(self, path: Path, stage: Stage) -> None:
        self.path, self._stage, self._columns = path, stage, columns_of(stage)
        self._marked = False
        by_id, by_digest = _Index(), _Index()
        position = 0
        self._file = open(path, "rb")
        for line in self._file:
            if line.strip():
                row = self._parsed(line)
                self._marked = self._marked or self._is_marked(row)
                by_id.add(_id(row), position)
                if self._columns is None:
                    by_digest.add(self._made_from(row), position)
            position += len(line)
        by_id.sort()
        by_digest.sort()
        self._by_id, self._by_digest = by_id, by_digest

    def taken_over(self, item: Item) -> list[Entry] | None:
        """Return what an item's rows are without doing it again; None if it is to be done."""
        rows = self._rows_of(item)
        if not rows or any(has_failed(row, self._stage) for row in rows):
            return None
        if self._columns is not None:
            before, now = rows[0].get("sha256"), item.entry.get("sha256")
            if before != now and before is not None and now is not None:
                return None  # another file has its name now
            rows = [with_columns(item.entry, rows[0], self._columns)]
        return None if any(self._stage.wanted(row) for row in rows) else rows

    def check(self, items: Iterable[Item]) -> None:
        """Refuse to replace what is not a result of this stage for some of these entries.

        Raises:
            UsageError: It would be lost.
        """
        if not self._by_id:
            return
        name = clean(str(self.path))
        known = 0
        for item in items:
            rows = self._rows_of(item) or self._same_id(item)
            known += bool(rows)
            if known and (self._marked or known > _LOOK_AT):
                return
            lost = {name for row in rows for name in _names(row)} - _names(item.entry)
            if lost and not self._marked:
                raise UsageError(
                    f"{name} exists and has {', '.join(map(clean, sorted(lost)[:3]))}, which would be lost; name "
                    "another file, or pass --overwrite to replace it"
                )
        if not known:
            raise UsageError(f"{name} exists and lists other clips; pass --overwrite to replace it")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rows_of(self, item: Item) -> list[Entry]:
        """Return the rows that an item has given, in order."""
        if self._columns is not None:
            return self._same_id(item)[:1]
        wanted = digest(item)
        return [row for row in map(self._read, self._by_digest.find(wanted)) if self._made_from(row) == wanted]

    def _same_id(self, item: Item) -> list[Entry]:
        return [row for row in map(self._read, self._by_id.find(item.id)) if _id(row) == item.id]

    def _read(self, place: int) -> Entry:
        self._file.seek(place)
        return self._parsed(self._file.readline())

    def _parsed(self, line: bytes) -> Entry:
        try:
            return parse_entry(line)
        except InputError as error:
            name = clean(str(self.path))
            raise UsageError(f"{name} exists and is no manifest ({error}); pass --overwrite to replace it") from error

    def _made_from(self, row: Entry) -> str:
        before = row.get("made_from")
        return str(before.get(self._stage.name, "")) if isinstance(before, dict) else ""

    def _is_marked(self, row: Entry) -> bool:
        """Whether a row shows that the stage has been at it."""
        if has_failed(row, self._stage) or self._made_from(row):
            return True
        return any(get_column(row, column) is not None for column in self._columns or ())


@dataclass
class _Index:
    """Names by their hashes, and the places in a file that go with each, in order."""

    hashes: "array[int]" = field(default_factory=lambda: array("Q"))
    places: "array[int]" = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.hashes)

    def add(self, name: str, place: int) -> None:
        """Add a place."""
        self.hashes.append(_hashed(name))
        self.places.append(place)

    def sort(self) -> None:
        """Make it ready for find()."""
        hashes = np.frombuffer(self.hashes, dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.places = (
            array("Q", hashes[order].tobytes()),
            array("q", np.frombuffer(self.places, dtype=np.int64)[order].tobytes()),
        )

    def find(self, name: str) -> list[int]:
        """Return the places of a name; those of others with the same hash are among them."""
        hashes = np.frombuffer(self.hashes, dtype=np.uint64)
        wanted = np.uint64(_hashed(name))
        first, last = np.searchsorted(hashes, wanted, "left"), np.searchsorted(hashes, wanted, "right")
        return list(self.places[int(first) : int(last)])


def _hashed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _id(row: Entry) -> str:
    try:
        return entry_id(row)
    except InputError:
        return ""


def _names(row: Entry) -> set[str]:
    """Return the names of all that a row has, with those in its tables."""
    found = set(row) - _OF_RUNS
    for table in _TABLES:
        if isinstance(row.get(table), dict):
            found |= {f"{table}.{name}" for name in row[table]}
    return found
