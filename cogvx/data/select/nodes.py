"""The tree of a selection. A node is a condition (true, false, or not known) or a value (a number, a text, or none)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Space = Literal["", "entry", "scores", "labels", "captions"]
SPACES: tuple[Space, ...] = ("entry", "scores", "labels", "captions")
Comparison = Literal["<", "<=", ">", ">=", "==", "!="]


@dataclass(frozen=True)
class Column:
    """A column of the manifest.

    Attributes:
        space: Where it stands; "": wherever there is one of that name.
        name: Its name.
    """

    space: Space
    name: str

    def __str__(self) -> str:
        plain = self.name.isidentifier() and self.name.isascii()
        name = self.name if plain else f'"{self.name}"'
        return f"{self.space}.{name}" if self.space else name


@dataclass(frozen=True)
class Node:
    """Part of an expression.

    Attributes:
        start: Its first character.
        end: The character behind it.
    """

    start: int
    end: int


@dataclass(frozen=True)
class Number(Node):
    """A number that was written down."""

    value: float


@dataclass(frozen=True)
class Text(Node):
    """A text that was written down."""

    value: str


@dataclass(frozen=True)
class Value(Node):
    """What an entry has in a column."""

    column: Column


@dataclass(frozen=True)
class Sum(Node):
    """Values, each added or taken away, from the left.

    Attributes:
        terms: Whether to take it away, and the value.
    """

    terms: tuple[tuple[bool, Node], ...]


@dataclass(frozen=True)
class Product(Node):
    """Values, each multiplied with or divided by, from the left.

    Attributes:
        factors: Whether to divide by it, and the value.
    """

    factors: tuple[tuple[bool, Node], ...]


@dataclass(frozen=True)
class Negative(Node):
    """A value with the other sign."""

    inner: Node


@dataclass(frozen=True)
class Quantile(Node):
    """A value that a share of the entries lie below.

    Attributes:
        share: From 0 to 1.
        of: The value that it is compared with.
    """

    share: float
    of: Node


@dataclass(frozen=True)
class Compare(Node):
    """Two values compared."""

    left: Node
    sign: Comparison
    right: Node


@dataclass(frozen=True)
class All(Node):
    """Conditions that must all hold: `and`, or a chain such as 1 < x < 2."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Any(Node):
    """Conditions of which one must hold."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Not(Node):
    """A condition that must not hold."""

    inner: Node


@dataclass(frozen=True)
class Has(Node):
    """Whether an entry has a column, or has it not."""

    column: Column
    wanted: bool


@dataclass(frozen=True)
class Rejected(Node):
    """Whether an entry was rejected for another reason than this selection's."""


CONDITIONS = (Compare, All, Any, Not, Has, Rejected)


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes right below one, without what a quantile is of."""
    if isinstance(node, Sum):
        return tuple(term for _, term in node.terms)
    if isinstance(node, Product):
        return tuple(factor for _, factor in node.factors)
    if isinstance(node, Negative | Not):
        return (node.inner,)
    if isinstance(node, Compare):
        return node.left, node.right
    if isinstance(node, All | Any):
        return node.parts
    return ()


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all below it, in the order of the text."""
    yield node
    for child in children(node):
        yield from walk(child)


def columns(node: Node) -> list[Column]:
    """Return the columns whose values a node takes, each once, in the order of the text."""
    return list(dict.fromkeys(part.column for part in walk(node) if isinstance(part, Value)))


def quantiles(node: Node) -> list[Quantile]:
    """Return the quantiles of a node, in the order of the text."""
    return [part for part in walk(node) if isinstance(part, Quantile)]
