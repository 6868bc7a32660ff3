"""The words of a selection: numbers, names, texts, quantiles and signs, each with its place for error messages."""

import re
from dataclasses import dataclass
from typing import Literal

from cogvx.errors import UsageError
from cogvx.files import clean

MAX_LENGTH = 4000  # characters of a whole expression
_SHOWN = 60  # characters of an expression that an error shows before and behind the place

Kind = Literal["number", "quantile", "name", "text", "sign", "end"]

_PARTS = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<quantile>q(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?![A-Za-z0-9_.]))
  | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![A-Za-z0-9_.]))
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<text>"[^"\n]*"|'[^'\n]*')
  | (?P<sign><=|>=|==|!=|[<>()+\-*/.])
    """,
    re.VERBOSE,
)
_HINTS = {
    "=": "write == to compare",
    "&": "write and",
    "|": "write or",
    "!": "write not, or != to compare",
    "%": "write a share as a number, such as 0.2",
    ",": "write and between conditions",
    "≥": "write >=",
    "≤": "write <=",
    "^": "there are no powers",
}


@dataclass(frozen=True)
class Token:
    """One word.

    Attributes:
        kind: What it is; "end" stands behind the last one.
        text: As it was written.
        start: Its first character, counted from 0.
        end: The character behind it.
    """

    kind: Kind
    text: str
    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """Return the words of an expression, with an end behind them.

    Raises:
        UsageError: It is too long, or a character cannot stand there.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(f"the expression has {len(text):,} characters, {MAX_LENGTH:,} are allowed")
    tokens = []
    place = 0
    while place < len(text):
        found = _PARTS.match(text, place)
        if found is None:
            raise _stranger(text, place)
        if found.lastgroup != "space":
            tokens.append(Token(found.lastgroup, found[0], place, found.end()))  # type: ignore[arg-type]
        place = found.end()
    return [*tokens, Token("end", "", len(text), len(text))]


def fault(text: str, place: int, why: str) -> UsageError:
    """Return an error that shows an expression and points at one of its characters.

    Args:
        text: The expression.
        place: The character, counted from 0.
        why: What is wrong there.
    """
    before, behind = text[max(0, place - _SHOWN) : place], text[place : place + _SHOWN]
    left = "…" if place > _SHOWN else ""
    right = "…" if place + _SHOWN < len(text) else ""
    shown = f"{left}{clean(before)}▸{clean(behind)}{right}"
    return UsageError(f"{clean(why)}, at character {place + 1}: {shown}")


def _stranger(text: str, place: int) -> UsageError:
    letter = text[place]
    if letter in "\"'":
        return fault(text, place, "a text without its closing quote")
    if letter.isdigit() or (letter == "." and text[place + 1 : place + 2].isdigit()):
        return fault(text, place, "not a number")
    hint = _HINTS.get(letter)
    return fault(text, place, f"{clean(letter)!r} cannot stand here{f' ({hint})' if hint else ''}")
