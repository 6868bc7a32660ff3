"""What a selection's tree comes to, for many rows at a time.

A condition on something that an entry has not is neither true nor false. "and" of it and something false is false, "or"
of it and something true is true (Kleene's logic); what is left is the caller's to decide.
"""

from collections.abc import Mapping

import numpy as np

from cogvx.data.select.nodes import (
    All,
    Any,
    Column,
    Compare,
    Has,
    Negative,
    Node,
    Not,
    Number,
    Product,
    Quantile,
    Rejected,
    Sum,
    Text,
    Value,
    columns,
    quantiles,
)
from cogvx.data.select.parser import Expression
from cogvx.data.select.table import FALSE, TRUE, UNKNOWN, Table

CHUNK = 1 << 16  # rows at a time, so that what is between is small
Thresholds = Mapping[Quantile, float]

_COMPARE = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


def truth(node: Node, table: Table, thresholds: Thresholds, rows: slice) -> np.ndarray:
    """Return FALSE, UNKNOWN or TRUE, int8 (n), of a condition for some rows."""
    if isinstance(node, All):
        return np.minimum.reduce([truth(part, table, thresholds, rows) for part in node.parts])
    if isinstance(node, Any):
        return np.maximum.reduce([truth(part, table, thresholds, rows) for part in node.parts])
    if isinstance(node, Not):
        return TRUE - truth(node.inner, table, thresholds, rows)
    if isinstance(node, Has):
        has = table.has(node.column, rows)
        return has if node.wanted else TRUE - has
    if isinstance(node, Rejected):
        return table.rejected(rows).astype(np.int8) * np.int8(TRUE)
    assert isinstance(node, Compare), node
    if isinstance(node.left, Text) or isinstance(node.right, Text):
        return _text_truth(node, table, rows)
    left, right = (value(side, table, thresholds, rows) for side in (node.left, node.right))
    holds = np.where(_COMPARE[node.sign](left, right), TRUE, FALSE)
    return np.where(np.isnan(left) | np.isnan(right), UNKNOWN, holds).astype(np.int8)


def value(node: Node, table: Table, thresholds: Thresholds, rows: slice) -> np.ndarray:
    """Return a number for some rows, float64 (n); NaN where an entry lacks a column or the result is not finite."""
    with np.errstate(all="ignore"):
        result = _value(node, table, thresholds, rows)
        return np.where(np.isfinite(result), result, np.nan)


def truth_of_all(node: Node, table: Table, thresholds: Thresholds) -> np.ndarray:
    """Return FALSE, UNKNOWN or TRUE, int8 (n), of a condition for every row."""
    result = np.empty(len(table), np.int8)
    for rows in chunks(len(table)):
        result[rows] = truth(node, table, thresholds, rows)
    return result


def values_of_all(node: Node, table: Table, thresholds: Thresholds) -> np.ndarray:
    """Return a number for every row, float64 (n), NaN where there is none."""
    result = np.empty(len(table), np.float64)
    for rows in chunks(len(table)):
        result[rows] = value(node, table, thresholds, rows)
    return result


def find_thresholds(expression: Expression, table: Table, counted: np.ndarray) -> dict[Quantile, float]:
    """Return what the quantiles of an expression are: exact, linear between two values, as numpy computes them.

    Args:
        expression: A condition.
        table: Of all entries.
        counted: Which rows count, bool (n); of them, those that have a value do.

    Returns:
        NaN for a quantile of nothing.
    """
    same: dict[str, list[Quantile]] = {}  # a column's values are sorted once, however often it is asked for
    for quantile in quantiles(expression.node):
        same.setdefault(expression.source(quantile.of), []).append(quantile)
    found: dict[Quantile, float] = {}
    for group in same.values():
        numbers = values_of_all(group[0].of, table, {})
        numbers = numbers[counted & ~np.isnan(numbers)]
        shares = [quantile.share for quantile in group]
        cuts = np.quantile(numbers, shares, overwrite_input=True) if len(numbers) else np.full(len(shares), np.nan)
        found |= dict(zip(group, map(float, cuts), strict=True))
    return found


def undecided(node: Node, table: Table, decided: np.ndarray, counted: np.ndarray) -> dict[Column, int]:
    """Return for each column how many rows lack it where a condition could not be decided.

    Args:
        node: The condition.
        table: Of all entries.
        decided: What it came to, int8 (n).
        counted: Which rows count, bool (n).
    """
    unknown = counted & (decided == UNKNOWN)
    if not unknown.any():
        return {}
    every = slice(None)
    return {column: int((unknown & table.lacks(column, every)).sum()) for column in columns(node)}


def chunks(count: int) -> list[slice]:
    """Return slices that cover so many rows."""
    return [slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _text_truth(node: Compare, table: Table, rows: slice) -> np.ndarray:
    column, text = (node.left, node.right) if isinstance(node.right, Text) else (node.right, node.left)
    assert isinstance(column, Value) and isinstance(text, Text)
    equal = table.equals(column.column, text.value, rows)
    return equal if node.sign == "==" else TRUE - equal


def _value(node: Node, table: Table, thresholds: Thresholds, rows: slice) -> np.ndarray:
    count = len(range(*rows.indices(len(table))))
    if isinstance(node, Number):
        return np.full(count, node.value)
    if isinstance(node, Quantile):
        return np.full(count, thresholds[node])
    if isinstance(node, Value):
        return table.numbers(node.column, rows)
    if isinstance(node, Negative):
        return -_value(node.inner, table, thresholds, rows)
    if isinstance(node, Sum):
        total = _value(node.terms[0][1], table, thresholds, rows)
        for minus, term in node.terms[1:]:
            other = _value(term, table, thresholds, rows)
            total = total - other if minus else total + other
        return total
    assert isinstance(node, Product), node
    product = _value(node.factors[0][1], table, thresholds, rows)
    for divide, factor in node.factors[1:]:
        other = _value(factor, table, thresholds, rows)
        product = product / np.where(other == 0, np.nan, other) if divide else product * other
    return product
