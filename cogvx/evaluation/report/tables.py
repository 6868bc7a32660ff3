"""Numbers as tables: a row a system, ranked only where every setting is the same, the paper's rows apart."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cogvx.errors import UsageError
from cogvx.evaluation.report.comparable import Verdict, paper_column, verdict
from cogvx.evaluation.report.families import FAMILIES, Column, Family
from cogvx.evaluation.report.numbers import Number
from cogvx.evaluation.report.paper import PaperTable, paper_tables
from cogvx.evaluation.result import Result, same_protocol

Papers = Literal["beside", "all", "none"]
_MOST_TOLD = 4  # settings with their values in one line
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MARKS = {"same": "=", "near": "≈", "other": "≠"}


@dataclass(frozen=True)
class Cell:
    """One number in a table.

    Attributes:
        number: It.
        text: As it is shown.
        rank: Its place, 1 is best; None: not ranked.
        group: Letter of the numbers of its column with the same settings; "" if all have the same.
        beside: Whether it may stand beside the paper's number; None if the paper has none.
    """

    number: Number
    text: str
    rank: int | None = None
    group: str = ""
    beside: Verdict | None = None

    @property
    def mark(self) -> str:
        """A sign for `beside`."""
        return "" if self.beside is None else _MARKS[self.beside.level]


@dataclass(frozen=True)
class Row:
    """The numbers of one system.

    Attributes:
        system: Its name.
        cells: Column → number.
    """

    system: str
    cells: dict[str, Cell]

    def common(self, name: str) -> Any:
        """Return the n, coverage or source that most of its numbers have; the others say their own."""
        return Counter(getattr(cell.number, name) for cell in self.cells.values()).most_common(1)[0][0]


@dataclass(frozen=True)
class Conflict:
    """Settings in which numbers of one column differ, so that they are not compared.

    Attributes:
        family: The table.
        column: The column.
        settings: Setting → system → its value.
    """

    family: Family
    column: Column
    settings: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Table:
    """One table of a report.

    Attributes:
        family: What its numbers are.
        columns: In order; those of the paper, too.
        rows: The user's systems.
        papers: The paper's tables beside it.
        remarks: What a reader should know.
        conflicts: Columns whose numbers were made in different ways.
    """

    family: Family
    columns: list[Column]
    rows: list[Row]
    papers: list[PaperTable]
    remarks: list[str] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)

    def differences(self) -> list[str]:
        """Return which settings differ, a line for columns in which the same ones do."""
        titles: dict[str, list[str]] = {}
        for one in self.conflicts:
            titles.setdefault(_told(one.settings), []).append(one.column.title)
        return [f"{', '.join(names)}: protocols differ in {told}" for told, names in titles.items()]


def build_tables(numbers: Sequence[Number], *, rank: bool = True, papers: Papers = "beside") -> list[Table]:
    """Put numbers into tables.

    Args:
        numbers: Of all systems.
        rank: Whether numbers are ranked where a direction is known and the settings are the same.
        papers: The paper's tables: beside what they are about, all of them, or none.

    Raises:
        UsageError: One system has two numbers of one kind with the same settings.
    """
    tables = []
    for key, family in FAMILIES.items():
        own = [one for one in numbers if one.family == key]
        if own or (papers == "all" and family.papers):
            tables.append(_table(family, own, rank=rank, papers=papers))
    return tables


def check_ranking(tables: Sequence[Table]) -> None:
    """Refuse to rank numbers that were made in different ways.

    Raises:
        UsageError: Some columns that have a better way have numbers of different protocols.
    """
    conflicts = [one for table in tables for one in table.conflicts if one.column.better]
    if conflicts:
        columns = ", ".join(dict.fromkeys(one.column.title for one in conflicts))
        settings = {name: row for one in conflicts for name, row in one.settings.items()}
        raise UsageError(
            f"{columns}: not ranked, since protocols differ in {_told(settings)}. Measure alike, or pass --no-rank to "
            "see the numbers without an order"
        )


def _table(family: Family, numbers: list[Number], *, rank: bool, papers: Papers) -> Table:
    beside = [] if papers == "none" else [paper_tables()[name] for name in family.papers]
    papers_have = {key for table in beside for key in table.columns}
    keys = {one.column for one in numbers} | papers_have
    columns = [family.column(key) for key in sorted(keys, key=family.order)]
    cells: dict[int, Cell] = {}
    conflicts, remarks = [], []
    for column in columns:
        own = [one for one in numbers if one.column == column.key]
        groups = _groups(own)
        if len(groups) > 1:
            conflicts.append(Conflict(family, column, _differing(groups)))
        for letter, group in enumerate(groups):
            ranks = _ranks(group, column) if rank and len(groups) == 1 else {}
            for one in group:
                cells[id(one)] = Cell(
                    number=one,
                    text=column.shown(one.value),
                    rank=ranks.get(id(one)),
                    group=_LETTERS[letter % 26] if len(groups) > 1 else "",
                    beside=verdict(one) if paper_column(one) in papers_have else None,
                )
    rows = _rows(numbers, cells)
    remarks += _about_counts(rows, columns) if family.key != "filters" else []
    remarks += _about_paper(rows, columns)
    table = Table(family, columns, rows, beside, conflicts=conflicts)
    return replace(table, remarks=[*table.differences(), *remarks])


def _groups(numbers: Sequence[Number]) -> list[list[Number]]:
    """Return numbers grouped by equal settings.

    Raises:
        UsageError: A system is in a group twice.
    """
    groups: list[list[Number]] = []
    for one in numbers:
        group = next((group for group in groups if not same_protocol(group[0].how, one.how)), None)
        if group is None:
            groups.append([one])
            continue
        if one.family != "held_out" and any(other.system == one.system for other in group):
            raise UsageError(
                f"{one.system} has two results of {one.column} with the same settings; name them: NAME=RESULT.json"
            )
        group.append(one)
    # The steps of runs are told, but do not keep their losses apart.
    return [list(numbers)] if groups and numbers[0].family == "held_out" else groups


def _differing(groups: Sequence[Sequence[Number]]) -> dict[str, dict[str, Any]]:
    """Return the settings in which groups differ: setting → system → value."""
    names = sorted({name for group in groups for name in same_protocol(groups[0][0].how, group[0].how)})
    everybody = [one for group in groups for one in group]
    twice = {name for name, times in Counter(one.system for one in everybody).items() if times > 1}
    who = [f"{one.system} (R{one.source})" if one.system in twice else one.system for one in everybody]
    return {name: {who[i]: _setting(one.how, name) for i, one in enumerate(everybody)} for name in names}


def _setting(how: Result, name: str) -> Any:
    """Return the value of a setting as same_protocol names it; None if there is none."""
    if name == "metric":
        return how.metric
    if name.startswith("backend."):
        return how.backend.get(name.removeprefix("backend."))
    return _inside(how.protocol, name)


def _inside(table: dict[str, Any], name: str) -> Any:
    if name in table:
        return table[name]
    for key, value in table.items():
        if isinstance(value, dict) and name.startswith(f"{key}."):
            return _inside(value, name.removeprefix(f"{key}."))
    return None


def _ranks(group: Sequence[Number], column: Column) -> dict[int, int]:
    if not column.better or len({one.system for one in group}) < 2:
        return {}
    sign = -1 if column.better == "higher" else 1
    return {id(one): 1 + sum(sign * other.value < sign * one.value for other in group) for one in group}


def _rows(numbers: Sequence[Number], cells: dict[int, Cell]) -> list[Row]:
    """Return a row a system, and a further one for each result whose numbers it has already."""
    by_source: dict[tuple[str, int | None], list[Number]] = {}
    for one in numbers:
        by_source.setdefault((one.system, one.source), []).append(one)
    rows: list[Row] = []
    for (system, _), own in by_source.items():
        columns = {one.column for one in own}
        row = next((row for row in rows if row.system == system and not columns & set(row.cells)), None)
        if row is None:
            row = Row(system, {})
            rows.append(row)
        row.cells.update({one.column: cells[id(one)] for one in own})
    return rows


def _about_counts(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    titles: dict[str, list[str]] = {}
    for column in columns:
        counts = {row.system: row.cells[column.key].number.n for row in rows if column.key in row.cells}
        known = {name: n for name, n in counts.items() if n is not None}
        if len(set(known.values())) > 1:
            told = f"n differs ({', '.join(f'{name}: {n}' for name, n in known.items())})"
            titles.setdefault(told, []).append(column.title)
    remarks = [f"{', '.join(names)}: {told}" for told, names in titles.items()]
    short = {
        f"{row.system} {100 * cell.number.coverage:.1f} %"
        for row in rows
        for cell in row.cells.values()
        if cell.number.coverage is not None and cell.number.coverage < 1
    }
    if short:
        remarks.append(f"not all clips could be used: {', '.join(sorted(short))}")
    return [*remarks[:4], f"and {len(remarks) - 4} more such remarks"] if len(remarks) > 4 else remarks


def _about_paper(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Return why numbers may or may not stand beside the paper's."""
    reasons: dict[Verdict, list[str]] = {}
    for column in columns:
        for row in rows:
            cell = row.cells.get(column.key)
            if cell is not None and cell.beside is not None:
                named = reasons.setdefault(cell.beside, [])
                if column.title not in named:
                    named.append(column.title)
    words = {"same": "comparable with the paper", "near": "to be compared with care", "other": "not comparable"}
    return [
        f"{_MARKS[one.level]} {', '.join(titles)}: {words[one.level]}: {one.why}" for one, titles in reasons.items()
    ]


def _told(settings: dict[str, dict[str, Any]]) -> str:
    """Return settings and their values as one line."""
    shown = list(settings.items())[:_MOST_TOLD]
    parts = [f"{name} ({', '.join(f'{who}: {_short(what)}' for who, what in row.items())})" for name, row in shown]
    rest = list(settings)[_MOST_TOLD:]
    return "; ".join(parts) + (f"; and {', '.join(rest[:12])}{', ...' if len(rest) > 12 else ''}" if rest else "")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{...}"
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
