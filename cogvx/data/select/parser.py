"""From the text of a selection to its tree, without Python's own eval: only what this small grammar has is taken."""

import math
from dataclasses import dataclass, replace
from typing import NoReturn, cast

from cogvx.data.select.nodes import (
    CONDITIONS,
    SPACES,
    All,
    Any,
    Column,
    Compare,
    Comparison,
    Has,
    Negative,
    Node,
    Not,
    Number,
    Product,
    Quantile,
    Rejected,
    Space,
    Sum,
    Text,
    Value,
    columns,
    quantiles,
)
from cogvx.data.select.tokens import Token, fault, tokenize
from cogvx.errors import UsageError

#   condition  = and-part { "or" and-part }          sum      = product { ("+" | "-") product }
#   and-part   = not-part { "and" not-part }         product  = sign { ("*" | "/") sign }
#   not-part   = "not" not-part | comparison         sign     = ("-" | "+") sign | atom
#   comparison = sum { ("<" | "<=" | ">" | ">=" | "==" | "!=") sum }
#   atom       = number | quantile | text | column | "rejected" | ("has" | "missing") "(" column ")" | "(" condition ")"
#   column     = name | ("entry" | "scores" | "labels" | "captions") "." (name | text)

MAX_DEPTH = 40  # of parentheses, not and signs inside each other
_SIGNS = ("<", "<=", ">", ">=", "==", "!=")
_WORDS = ("and", "or", "not", "has", "missing", "rejected")
_UNBOUND = Node(0, 0)  # what a quantile is of, until its comparison has been read


@dataclass(frozen=True)
class Expression:
    """A parsed text.

    Attributes:
        text: As it was given.
        node: Its tree.
    """

    text: str
    node: Node

    @property
    def conjuncts(self) -> tuple[Node, ...]:
        """The conditions that must all hold; a chain such as 1 < x < 2 is two of them."""
        return _flat(self.node)

    def source(self, node: Node) -> str:
        """Return the text of a part, in one line."""
        return " ".join(self.text[node.start : node.end].split())


def parse_condition(text: str) -> Expression:
    """Return the tree of a condition, such as `flow >= q0.2 and text_area < 0.02`.

    Raises:
        UsageError: It is none; the error points at the character.
    """
    parser = _Parser(text)
    node = parser.whole()
    parser.need_condition(node)
    return Expression(text, node)


def parse_value(text: str) -> Expression:
    """Return the tree of a number that each entry has, such as `aesthetic + 0.1 * flow`.

    Raises:
        UsageError: It is none; the error points at the character.
    """
    parser = _Parser(text)
    node = parser.whole()
    parser.need_value(node)
    parser.refuse_free_quantiles(node)
    if not columns(node):
        raise fault(text, node.start, "a number of each entry is needed, and this names no column")
    return Expression(text, node)


class _Parser:
    """Reads one expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokenize(text)
        self._place = 0
        self._depth = 0

    def whole(self) -> Node:
        """Return the tree of the whole text."""
        if self._next.kind == "end":
            raise UsageError("the expression is empty")
        node = self._condition()
        if self._next.kind != "end":
            self._fail(self._next, self._why_not("and, or, or the end"))
        return node

    def need_condition(self, node: Node) -> None:
        """Refuse a value where a condition must stand."""
        if not isinstance(node, CONDITIONS):
            shown = self._text[node.start : node.end]
            self._fail(node, f"a condition is needed here: compare {shown[:40]} with something")

    def need_value(self, node: Node) -> None:
        """Refuse a condition, or a text, where a number must stand."""
        if isinstance(node, CONDITIONS):
            self._fail(node, "a number is needed here, and this is a condition")
        if isinstance(node, Text):
            self._fail(node, "a text can only be compared with a column, by == or !=")

    def refuse_free_quantiles(self, node: Node) -> None:
        """Refuse quantiles that nothing is compared with."""
        for quantile in quantiles(node):
            self._fail(quantile, "a quantile must be compared with a column, such as flow >= q0.2")

    def _condition(self) -> Node:
        parts = [self._and_part()]
        while self._take_word("or"):
            parts.append(self._and_part())
        return self._joined(Any, parts)

    def _and_part(self) -> Node:
        parts = [self._not_part()]
        while self._take_word("and"):
            parts.append(self._not_part())
        return self._joined(All, parts)

    def _joined(self, kind: type[All] | type[Any], parts: list[Node]) -> Node:
        if len(parts) == 1:
            return parts[0]
        for part in parts:
            self.need_condition(part)
        return kind(parts[0].start, parts[-1].end, tuple(parts))

    def _not_part(self) -> Node:
        token = self._next
        if not self._take_word("not"):
            return self._comparison()
        self._deeper(token)
        inner = self._not_part()
        self._depth -= 1
        self.need_condition(inner)
        return Not(token.start, inner.end, inner)

    def _comparison(self) -> Node:
        first = self._sum()
        if self._next.text not in _SIGNS:
            return first
        sides, signs = [first], []
        while self._next.text in _SIGNS:
            signs.append(cast(Comparison, self._advance().text))
            sides.append(self._sum())
        pairs = [self._compare(left, sign, right) for left, sign, right in zip(sides, signs, sides[1:], strict=False)]
        return pairs[0] if len(pairs) == 1 else All(first.start, sides[-1].end, tuple(pairs))

    def _compare(self, left: Node, sign: Comparison, right: Node) -> Node:
        for side, other in ((left, right), (right, left)):
            if isinstance(side, Text):
                if sign not in ("==", "!=") or not isinstance(other, Value):
                    self._fail(side, "a text can only be compared with a column, by == or !=")
            else:
                self.need_value(side)
        free = quantiles(left), quantiles(right)
        if free[0] and free[1]:
            self._fail(free[1][0], "a quantile cannot be compared with a quantile")
        for mine, other in ((free[0], right), (free[1], left)):
            if mine and (isinstance(other, Text) or not columns(other)):
                self._fail(mine[0], "a quantile must be compared with a column, such as flow >= q0.2")
        return Compare(left.start, right.end, _bound(left, right), sign, _bound(right, left))

    def _sum(self) -> Node:
        terms = [(False, self._product())]
        while self._next.text in ("+", "-"):
            minus = self._advance().text == "-"
            terms.append((minus, self._product()))
        return self._chained(Sum, terms)

    def _product(self) -> Node:
        factors = [(False, self._sign())]
        while self._next.text in ("*", "/"):
            divide = self._advance().text == "/"
            factors.append((divide, self._sign()))
        return self._chained(Product, factors)

    def _chained(self, kind: type[Sum] | type[Product], parts: list[tuple[bool, Node]]) -> Node:
        if len(parts) == 1:
            return parts[0][1]
        for _, part in parts:
            self.need_value(part)
        return kind(parts[0][1].start, parts[-1][1].end, tuple(parts))

    def _sign(self) -> Node:
        token = self._next
        if token.text not in ("+", "-"):
            return self._atom()
        self._advance()
        self._deeper(token)
        inner = self._sign()
        self._depth -= 1
        self.need_value(inner)
        return Negative(token.start, inner.end, inner) if token.text == "-" else inner

    def _atom(self) -> Node:
        token = self._advance()
        place = token.start, token.end
        if token.kind == "number":
            if not math.isfinite(float(token.text)):
                self._fail(token, "the number is too large")
            return Number(*place, float(token.text))
        if token.kind == "quantile":
            share = float(token.text[1:])
            if share > 1:
                self._fail(token, f"a quantile is a share from 0 to 1, such as q0.2, not {token.text[:20]}")
            return Quantile(*place, share, _UNBOUND)
        if token.kind == "text":
            return Text(*place, token.text[1:-1])
        if token.text == "(":
            self._deeper(token)
            inner = self._condition()
            self._depth -= 1
            closing = self._close(token)
            return replace(inner, start=token.start, end=closing.end)
        if token.kind != "name" or token.text in ("and", "or", "not"):
            self._place -= token.kind != "end"
            self._fail(token, self._why_not("a number, a column or ("))
        if token.text == "rejected" and self._next.text != "(":
            return Rejected(*place)
        if token.text in ("has", "missing") and self._next.text == "(":
            opening = self._advance()
            column, _ = self._column(self._advance())
            return Has(token.start, self._close(opening).end, column, token.text == "has")
        column, end = self._column(token)
        if self._next.text == "(":
            self._fail(token, f"there is no function {token.text[:40]}; has(column) and missing(column) are all")
        return Value(token.start, end, column)

    def _column(self, token: Token) -> tuple[Column, int]:
        """Read a column whose first word has been taken; return it and where it ends."""
        if token.kind != "name":
            self._fail(token, "the name of a column is needed")
        if self._next.text != ".":
            return Column("", token.text), token.end
        if token.text not in SPACES:
            self._fail(token, f"columns stand under {', '.join(SPACES)}, not under {token.text[:40]}")
        self._advance()
        name = self._advance()
        if name.kind not in ("name", "text") or name.text in ('""', "''"):
            self._fail(name, f"the name of a column is needed behind {token.text}.")
        return Column(cast(Space, token.text), name.text.strip("\"'") if name.kind == "text" else name.text), name.end

    def _close(self, opening: Token) -> Token:
        if self._next.text != ")":
            if self._next.kind == "end":
                self._fail(opening, "this parenthesis is never closed")
            self._fail(self._next, self._why_not(")"))
        return self._advance()

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    def _advance(self) -> Token:
        token = self._next
        self._place += token.kind != "end"
        return token

    def _take_word(self, word: str) -> bool:
        if self._next.kind == "name" and self._next.text == word:
            self._place += 1
            return True
        return False

    def _deeper(self, token: Token) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(token, f"more than {MAX_DEPTH} parentheses or signs inside each other")

    def _why_not(self, wanted: str) -> str:
        """Return why the next word cannot stand where it does."""
        token = self._next
        if token.kind == "end":
            return f"the expression ends where {wanted} is needed"
        if token.kind == "name" and token.text.lower() in _WORDS and token.text not in _WORDS:
            return f"write {token.text.lower()} in small letters"
        if token.text == "." or token.kind == "text":
            return f"{token.text[:40]} cannot stand here; {wanted} is needed"
        return f"{wanted} is needed here, not {token.text[:40]}"

    def _fail(self, place: Token | Node, why: str) -> NoReturn:
        raise fault(self._text, place.start, why)


def _bound(node: Node, other: Node) -> Node:
    """Return a side of a comparison whose quantiles are those of the other side."""
    if isinstance(node, Quantile):
        return replace(node, of=other)
    if isinstance(node, Sum):
        return replace(node, terms=tuple((minus, _bound(term, other)) for minus, term in node.terms))
    if isinstance(node, Product):
        return replace(node, factors=tuple((divide, _bound(factor, other)) for divide, factor in node.factors))
    if isinstance(node, Negative):
        return replace(node, inner=_bound(node.inner, other))
    return node


def _flat(node: Node) -> tuple[Node, ...]:
    if isinstance(node, All):
        return tuple(inner for part in node.parts for inner in _flat(part))
    return (node,)
