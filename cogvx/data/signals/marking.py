"""Marks near duplicates in finished manifests: the pass that no single clip can do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogvx.data.manifest import Entry, entry_id, format_entry, iter_manifest
from cogvx.data.signals.duplicates import VERSION, Hashes, first_of_each
from cogvx.data.signals.phash import PHash
from cogvx.errors import InputError
from cogvx.files import atomic_path

COLUMNS = ("scores.duplicate", "made.duplicate", "duplicate_of")


@dataclass(frozen=True)
class Marked:
    """What marking has found.

    Attributes:
        compared: Clips that have a hash.
        duplicates: Clips that are the same as an earlier one.
    """

    compared: int
    duplicates: int


def mark_duplicates(manifests: Sequence[Path], *, most_bits: int) -> Marked:
    """Write into manifests which clips are near duplicates of an earlier one; each is replaced whole or not at all.

    An entry with hashes gets scores.duplicate, 0 or 1, and a duplicate "duplicate_of": the id of the first clip of its
    group (see cogvx.data.manifest.entry_id). Entries without hashes get nothing.

    Args:
        manifests: In order, all in one folder; together they are one set of clips.
        most_bits: How many bits of 64 two hashes may differ by.

    Raises:
        InputError: A manifest is not readable.
        MissingError: The disk is full.
    """
    hashes = Hashes.of(entry.get("phash") for path in manifests for _, entry in iter_manifest(path))
    firsts = first_of_each(hashes, most_bits=most_bits).tolist()
    leaders = {first for number, first in enumerate(firsts) if first != number}
    there = np.atleast_1d(hashes.there.any(axis=1)).tolist()
    made = {"version": VERSION, "most_bits": most_bits, "phash": PHash().made()}
    names: dict[int, str] = {}
    numbers = iter(enumerate(firsts))

    def rows(path: Path) -> Iterator[Entry]:
        for _, entry in iter_manifest(path):
            number, first = next(numbers)
            if number in leaders:
                names[number] = _id(entry)
            yield _marked(entry, names.get(first) if first != number else None, made if there[number] else None)

    for path in manifests:
        _rewrite(path, rows(path))
    return Marked(sum(there), sum(first != number for number, first in enumerate(firsts)))


def _marked(entry: Entry, name: str | None, made: dict[str, Any] | None) -> Entry:
    """Return an entry with what was found; `name` is of the clip that it is the same as, no `made`: it has no hash."""
    row = {key: value for key, value in entry.items() if key != "duplicate_of"}
    for table, value in (("scores", 0 if name is None else 1), ("made", made)):
        columns = {key: one for key, one in (entry.get(table) or {}).items() if key != "duplicate"}
        if made is not None:
            columns["duplicate"] = value
        if columns or table in row:
            row[table] = columns
    return row if name is None else row | {"duplicate_of": name}


def _rewrite(path: Path, rows: Iterator[Entry]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.writelines(map(format_entry, rows))


def _id(entry: Entry) -> str:
    try:
        return entry_id(entry)
    except InputError:
        return ""
