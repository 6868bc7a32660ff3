"""The columns that a selection uses, row by row: eight bytes a number, one byte a yes or no, and nothing else."""

from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np

from cogvx.data.manifest import Entry
from cogvx.data.select.nodes import Column, Compare, Has, Node, Text, Value, walk
from cogvx.errors import UsageError
from cogvx.files import clean

FALSE, UNKNOWN, TRUE = 0, 1, 2  # of a condition: "and" is the least, "or" the greatest
_NOTHING: tuple[Any, ...] = (None, "", [], {})  # such as `errors: []`
_INNER = ("scores", "labels", "captions")
# What a selection may name although no entry is bound to have it.
FIELDS = ("duration", "num_frames", "height", "width", "fps", "start", "end", "caption_words", "split")


def find(entry: Entry, column: Column) -> tuple[str, Any]:
    """Return where an entry has a column ("entry", "scores", "labels", "captions"), and what; ("", None) if nowhere.

    Raises:
        UsageError: It has it in two places, and the column names none.
    """
    name = column.name
    if column.space in _INNER:
        value = entry.get(column.space, {}).get(name)
        return (column.space, value) if value is not None else ("", None)
    found = []
    own = len(entry.get("caption", "").split()) if name == "caption_words" and "caption" in entry else entry.get(name)
    if own is not None:
        found.append(("entry", own))
    if not column.space:
        found += [
            (space, inner) for space in ("scores", "labels") if (inner := entry.get(space, {}).get(name)) is not None
        ]
    if len(found) > 1:
        raise _ambiguous(name, [space for space, _ in found])
    return found[0] if found else ("", None)


class Table:
    """What a number of expressions need of each entry."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        """Look for what is needed in trees."""
        self._numbers: dict[Column, array[float]] = {}
        self._texts: dict[tuple[Column, str], array[int]] = {}
        self._has: dict[Column, array[int]] = {}
        self._rejected = array("b")
        self._spaces: dict[Column, str] = {}
        for node in nodes:
            self._need(node)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rejected)

    @property
    def number_columns(self) -> set[Column]:
        """The columns that are held as numbers."""
        return set(self._numbers)

    def add(self, entry: Entry, *, place: str, rejected: bool) -> None:
        """Append the row of an entry.

        Args:
            entry: Of a manifest.
            place: Where it stands, for errors.
            rejected: Whether it is rejected for a reason that is not this selection's.

        Raises:
            UsageError: A column of a number holds something else there, or its name means two things.
        """
        for column, numbers in self._numbers.items():
            value = self._value(entry, column, place)
            if isinstance(value, int | float):
                numbers.append(float(value))
            elif value is None:
                numbers.append(np.nan)
            else:
                kind = f"a text, {clean(value)[:30]!r}" if isinstance(value, str) else "neither a number nor a text"
                raise UsageError(f"{place}: {column} is {kind}, where a number is needed")
        for (column, text), answers in self._texts.items():
            value = self._value(entry, column, place)
            if value is not None and not isinstance(value, str):
                raise UsageError(f'{place}: {column} is no text, so it cannot be compared with "{clean(text)[:30]}"')
            answers.append(UNKNOWN if value is None else TRUE if value == text else FALSE)
        for column, has in self._has.items():
            has.append(FALSE if self._value(entry, column, place) in _NOTHING else TRUE)
        self._rejected.append(rejected)

    def number(self, column: Column, row: int) -> float:
        """Return what one row has in a column of numbers, NaN for nothing."""
        return self._numbers[column][row]

    def numbers(self, column: Column, rows: slice) -> np.ndarray:
        """Return a column, float64 (n), NaN where an entry has it not."""
        return np.frombuffer(self._numbers[column], np.float64)[rows]

    def equals(self, column: Column, text: str, rows: slice) -> np.ndarray:
        """Return FALSE, UNKNOWN or TRUE, int8 (n): whether a column is a text."""
        return np.frombuffer(self._texts[column, text], np.int8)[rows]

    def has(self, column: Column, rows: slice) -> np.ndarray:
        """Return FALSE or TRUE, int8 (n): whether an entry has a column."""
        return np.frombuffer(self._has[column], np.int8)[rows]

    def rejected(self, rows: slice) -> np.ndarray:
        """Return which entries are rejected for another reason, bool (n)."""
        return np.frombuffer(self._rejected, np.int8)[rows] != 0

    def lacks(self, column: Column, rows: slice) -> np.ndarray:
        """Return which entries have no value in a column that was added by its value, bool (n)."""
        if column in self._numbers:
            return np.isnan(self.numbers(column, rows))
        text = next(text for named, text in self._texts if named == column)
        return self.equals(column, text, rows) == UNKNOWN

    def _need(self, node: Node) -> None:
        for part in walk(node):
            if isinstance(part, Compare) and isinstance(part.left, Text):
                part = Compare(part.start, part.end, part.right, part.sign, part.left)
            if isinstance(part, Compare) and isinstance(part.right, Text) and isinstance(part.left, Value):
                self._texts.setdefault((part.left.column, part.right.value), array("b"))
            elif isinstance(part, Has):
                self._has.setdefault(part.column, array("b"))
        for column in _number_columns(node):
            self._numbers.setdefault(column, array("d"))

    def _value(self, entry: Entry, column: Column, place: str) -> Any:
        space, value = find(entry, column)
        if not column.space and space:
            before = self._spaces.setdefault(column, space)
            if before != space:
                raise UsageError(f"{place}: {_ambiguous(column.name, [before, space])}")
        return value


def _number_columns(node: Node) -> list[Column]:
    """Return the columns of a tree that are not only compared with texts."""
    texts = {
        id(side)
        for part in walk(node)
        if isinstance(part, Compare) and (isinstance(part.left, Text) or isinstance(part.right, Text))
        for side in (part.left, part.right)
    }
    return [part.column for part in walk(node) if isinstance(part, Value) and id(part) not in texts]


def _ambiguous(name: str, spaces: list[str]) -> UsageError:
    ways = " or ".join(f"{space}.{name}" for space in sorted(set(spaces)))
    return UsageError(f"{name} means two things here; write {ways}")


def known_columns(entry: Entry) -> list[str]:
    """Return the names that an expression may use of an entry, for messages."""
    own = [name for name, value in entry.items() if isinstance(value, int | float | str) and value is not None]
    return [*entry.get("scores", {}), *entry.get("labels", {}), *own, *FIELDS]


def rejections(entry: Entry, prefix: str) -> tuple[list[Any], bool]:
    """Return the reasons in `rejected` that do not begin with a prefix, and whether there were others."""
    reasons = entry.get("rejected", [])
    kept = [reason for reason in reasons if not (isinstance(reason, str) and reason.startswith(prefix))]
    return kept, len(kept) < len(reasons)
