"""Why an entry is rejected, in words with numbers: `flow 0.11 < q0.2 = 0.32`."""

import math

from cogvx.data.manifest import Entry
from cogvx.data.select.evaluate import Thresholds, value
from cogvx.data.select.nodes import (
    Compare,
    Has,
    Node,
    Number,
    Quantile,
    Rejected,
    Text,
    Value,
    columns,
    quantiles,
    walk,
)
from cogvx.data.select.parser import Expression
from cogvx.data.select.table import FALSE, Table, find
from cogvx.files import clean

_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_MAX_SHOWN = 200  # characters of a condition in a reason


class Reasons:
    """Words for what an expression's conditions came to."""

    def __init__(self, expression: Expression, table: Table, thresholds: Thresholds) -> None:
        """Take what they were evaluated on."""
        self._expression, self._table, self._thresholds = expression, table, thresholds
        self._texts: dict[int, str] = {}  # by the node's id: the same parts are shown for every entry

    def why(self, node: Node, decided: int, entry: Entry, row: int) -> list[str]:
        """Return why a condition does not hold for an entry.

        Args:
            node: One of the expression's conjuncts.
            decided: What it came to: FALSE or UNKNOWN.
            entry: Of the manifest.
            row: Its row in the table.
        """
        if decided != FALSE:
            lacking = [f"no {column}" for column in columns(node) if find(entry, column)[1] is None]
            return list(dict.fromkeys(lacking)) or [f"{self._shown(node)} has no value"]
        if isinstance(node, Has):
            return [f"no {node.column}" if node.wanted else f"it has {node.column}"]
        if isinstance(node, Rejected):
            return ["not rejected otherwise"]
        if isinstance(node, Compare):
            return [self._failed_comparison(node, entry, row)]
        values = [self._valued(part, row) for part in walk(node) if isinstance(part, Value) and self._is_number(part)]
        values += [self._valued(part, row) for part in quantiles(node)]
        known = f" ({', '.join(dict.fromkeys(values))})" if values else ""
        return [f"not fulfilled: {self._shown(node)}{known}"]

    def named_threshold(self, node: Node) -> str:
        """Return a condition with what its quantiles are: `flow >= q0.2 (q0.2 = 0.32)`."""
        cuts = [f"{self._shown(part)} = {_number(self._thresholds[part])}" for part in quantiles(node)]
        return f"{self._shown(node)} ({', '.join(cuts)})" if cuts else self._shown(node)

    def _failed_comparison(self, node: Compare, entry: Entry, row: int) -> str:
        left, sign, right = node.left, _OPPOSITE[node.sign], node.right
        if columns(right) and not columns(left):
            left, sign, right = right, _MIRRORED[sign], left
        if isinstance(right, Text):
            assert isinstance(left, Value)
            return f'{left.column} "{clean(str(find(entry, left.column)[1]))[:60]}" {sign} "{clean(right.value)}"'
        exact = _number(self._number(left, row)) == _number(self._number(right, row)) and sign in ("<", ">", "!=")
        return f"{self._valued(left, row, exact=exact)} {sign} {self._valued(right, row, exact=exact)}"

    def _valued(self, node: Node, row: int, *, exact: bool = False) -> str:
        """Return a value's text and what it comes to."""
        number = self._number(node, row)
        shown = repr(number) if exact else _number(number)
        if isinstance(node, Number):
            return self._shown(node)
        return f"{self._shown(node)} = {shown}" if not columns(node) else f"{self._shown(node)} {shown}"

    def _number(self, node: Node, row: int) -> float:
        if isinstance(node, Value):  # nearly always; much faster than an array of one
            return self._table.number(node.column, row)
        if isinstance(node, Quantile):
            return self._thresholds[node]
        if isinstance(node, Number):
            return node.value
        return float(value(node, self._table, self._thresholds, slice(row, row + 1))[0])

    def _is_number(self, node: Value) -> bool:
        return node.column in self._table.number_columns

    def _shown(self, node: Node) -> str:
        if id(node) not in self._texts:
            self._texts[id(node)] = clean(self._expression.source(node))[:_MAX_SHOWN]
        return self._texts[id(node)]


def _number(number: float) -> str:
    return "nothing" if math.isnan(number) else f"{number:.6g}"
