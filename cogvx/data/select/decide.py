"""Which rows of a table a selection takes, and by which thresholds."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cogvx.data.select.evaluate import find_thresholds, truth_of_all, undecided, values_of_all
from cogvx.data.select.nodes import Has, Node, Quantile
from cogvx.data.select.options import MAX_MISSING, SelectOptions, Top
from cogvx.data.select.table import UNKNOWN, Table
from cogvx.errors import InputError, UsageError


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a selection decided about every row.

    Attributes:
        thresholds: What its quantiles are.
        conjuncts: The conditions that must all hold.
        truths: For each of them FALSE, UNKNOWN or TRUE, int8 (n).
        passed: Which rows fulfil the condition, bool (n).
        best: Which rows are among the best, bool (n); those that the share was not taken of too.
        best_values: What is best, float64 (n); None without a share.
        kept: Which rows are kept: passed, among the best, and not rejected for another reason, bool (n).
    """

    thresholds: dict[Quantile, float]
    conjuncts: tuple[Node, ...]
    truths: Sequence[np.ndarray]
    passed: np.ndarray
    best: np.ndarray
    kept: np.ndarray
    best_values: np.ndarray | None = field(default=None)


def decide(
    options: SelectOptions,
    table: Table,
    *,
    counted: np.ndarray,
    groups: np.ndarray | None = None,
    known: Iterable[str] = (),
) -> Verdict:
    """Return which rows a selection takes.

    Args:
        options: The selection.
        table: With the columns of its expressions, for every entry.
        counted: Which rows may be taken at all, bool (n); quantiles, shares, and the number of those that lack a column
            are of these.
        groups: Number of the group of each row, int (n), for the share of the best.
        known: Names of columns, for a message about one that no entry has.

    Raises:
        UsageError: No entry has a column.
        InputError: More entries lack a column than may.
    """
    count = len(table)
    known = list(known)
    thresholds: dict[Quantile, float] = {}
    conjuncts: tuple[Node, ...] = ()
    truths: list[np.ndarray] = []
    passed = np.ones(count, bool)
    if options.where is not None:
        conjuncts = options.where.conjuncts
        thresholds = find_thresholds(options.where, table, counted)
        truths = [truth_of_all(node, table, thresholds) for node in conjuncts]
        guarded = {node.column for node in conjuncts if isinstance(node, Has) and node.wanted}
        lacking: dict[str, int] = {}
        for node, decided in zip(conjuncts, truths, strict=True):
            columns = undecided(node, table, decided, counted)
            named = {str(column): number for column, number in columns.items() if number}
            unknown = int((counted & (decided == UNKNOWN)).sum())
            if unknown and not named:  # every column is there: a division by zero
                named = {f"a value of {options.where.source(node)}": unknown}
            free = {str(column) for column in guarded}
            for name, number in named.items():
                if name not in free:
                    lacking[name] = max(lacking.get(name, 0), number)
            passed &= decided >= options.least
        _check_missing(lacking, int(counted.sum()), options, known)
    eligible = counted & passed
    best, values = np.ones(count, bool), None
    if options.top is not None:
        values = values_of_all(options.top.by.node, table, {})
        without = eligible & np.isnan(values)
        name = options.top.by.source(options.top.by.node)
        _check_missing({name: int(without.sum())}, int(eligible.sum()), options, known)
        best = ~eligible | _best(options.top, values, eligible & ~without, groups)
        if options.missing == "keep":
            best |= without
    return Verdict(thresholds, conjuncts, truths, passed, best, eligible & best, values)


def _best(top: Top, values: np.ndarray, eligible: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Return which of some rows are the best of their group, bool (n)."""
    best = np.zeros(len(values), bool)
    for group in (None,) if groups is None else np.unique(groups[eligible]):
        rows = np.flatnonzero(eligible if group is None else eligible & (groups == group))
        order = np.argsort(-values[rows], kind="stable")
        best[rows[order[: top.size(len(rows))]]] = True
    return best


def _check_missing(lacking: dict[str, int], total: int, options: SelectOptions, known: list[str]) -> None:
    """Refuse columns that too many entries lack."""
    if options.missing != "refuse":
        return
    for name, number in lacking.items():
        if number and number == total and name not in known:
            near = difflib.get_close_matches(name.rpartition(".")[2], known, n=2, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else f"they have {', '.join(sorted(known)[:12])}"
            raise UsageError(f"no entry has {name}; {hint if known else 'score them first'}")
    many = {name: number for name, number in lacking.items() if number > MAX_MISSING * total}
    if many:
        shown = " and ".join(f"{number:,} lack {name}" for name, number in many.items())
        name = next(iter(many))
        raise InputError(
            f"of {total:,} entries {shown}, more than {MAX_MISSING:.0%}; complete the columns, or write "
            f"`has({name}) and …` to leave those entries out, `missing({name}) or …` to keep them "
            "(`data select` also has --allow-missing)"
        )
