"""What a selection is told: a condition, a share of the best, and what happens to entries that lack a column."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cogvx.data.select.nodes import Column
from cogvx.data.select.parser import Expression, parse_condition, parse_value
from cogvx.data.select.table import TRUE, UNKNOWN
from cogvx.errors import UsageError
from cogvx.files import clean

Missing = Literal["refuse", "keep", "reject"]
MAX_MISSING = 0.01  # share of the entries that may lack a column before a selection is refused


@dataclass(frozen=True)
class Top:
    """The best of those that the condition takes.

    Attributes:
        share: Of the entries, above 0 and at most 1; None: a count is given.
        count: Of entries; None: a share is given.
        by: What is best: the greatest value. Equal ones go by their order in the manifest.
        within: Column whose values make groups, in each of which the best are taken; None: one group.
    """

    share: float | None
    count: int | None
    by: Expression
    within: Column | None = None

    def size(self, total: int) -> int:
        """Return how many of a number of entries are taken: a share is rounded to the nearest."""
        if self.count is not None:
            return min(self.count, total)
        assert self.share is not None
        return min(total, int(self.share * total + 0.5))

    def __str__(self) -> str:
        size = f"{self.share * 100:g}%" if self.share is not None else str(self.count)
        inside = f" within each {self.within}" if self.within else ""
        return f"top {size} by {clean(self.by.source(self.by.node))[:200]}{inside}"


@dataclass(frozen=True, kw_only=True)
class SelectOptions:
    """A selection.

    Attributes:
        where: What an entry must fulfil; None: nothing.
        top: Of those, which share; None: all.
        missing: What happens to entries that lack a column: up to 1 % are rejected and more refused, or all of them are
            kept, or all of them rejected.
        keep_only: Write only entries that are kept.
        name: In front of each reason, so that the same selection finds its own reasons again.
    """

    where: Expression | None = None
    top: Top | None = None
    missing: Missing = "refuse"
    keep_only: bool = False
    name: str = "select"

    @property
    def least(self) -> int:
        """What a condition must come to at least, of FALSE, UNKNOWN, TRUE, to let an entry pass."""
        return UNKNOWN if self.missing == "keep" else TRUE

    @property
    def prefix(self) -> str:
        """What this selection's reasons begin with."""
        return f"{self.name}: "


def make_options(
    where: str | None,
    *,
    top: str | None = None,
    by: str | None = None,
    within: str | None = None,
    missing: Missing = "refuse",
    keep_only: bool = False,
    name: str = "select",
) -> SelectOptions:
    """Return a selection from the texts of a command line.

    Args:
        where: A condition.
        top: A share ("20%") or a count ("500").
        by: What is best.
        within: A column that makes groups.
        missing: See SelectOptions.
        keep_only: See SelectOptions.
        name: See SelectOptions.

    Raises:
        UsageError: A text is wrong, or two do not go together.
    """
    if where is None and top is None:
        raise UsageError("say what to select: --where CONDITION, or --top SHARE --by COLUMN")
    if top is None and (by is not None or within is not None):
        raise UsageError(f"{'--by' if by is not None else '--within'} needs --top SHARE, such as --top 20%")
    if top is not None and by is None:
        raise UsageError(f"--top {clean(top)[:40]} needs --by COLUMN, which says what is best")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,60}", name):
        raise UsageError(f"--name {clean(name)[:60]!r}: use up to 60 letters, digits, spaces and . _ -")
    expression = None
    if where is not None:
        expression = _named("--where", where, parse_condition)
    best = None
    if top is not None and by is not None:
        share, count = _size(top)
        best = Top(share, count, _named("--by", by, parse_value), None if within is None else _column(within))
    return SelectOptions(where=expression, top=best, missing=missing, keep_only=keep_only, name=name)


def _named(flag: str, text: str, parse: Callable[[str], Expression]) -> Expression:
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from None


def _size(text: str) -> tuple[float | None, int | None]:
    """Return the share or the count that a text means."""
    found = re.fullmatch(r"\s*([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(%?)\s*", text)
    if found is None or (not found[2] and "." in found[1]):
        raise UsageError(f"--top {clean(text)[:40]}: give a share, such as 20%, or a count, such as 500")
    number = float(found[1])
    if number <= 0 or (found[2] and number > 100):
        raise UsageError(f"--top {clean(text)[:40]}: a share is above 0 and at most 100 %, a count at least 1")
    return (number / 100, None) if found[2] else (None, int(number))


def _column(text: str) -> Column:
    found = _named("--within", text, parse_value)
    column = getattr(found.node, "column", None)
    if not isinstance(column, Column):
        raise UsageError(f"--within {clean(text)[:40]}: the name of a column is needed, such as split")
    return column
