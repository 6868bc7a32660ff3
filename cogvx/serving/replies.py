"""What a page asks and what it gets: requests that were let in, and replies without a word of HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Request:
    """A request of a rater who is known.

    Attributes:
        rater: Who asks.
        path: Its parts, such as ("clip", "7"); () is the page itself.
        query: What stands behind the question mark, without the token.
        body: JSON that was posted; None for a GET.
    """

    rater: str
    path: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True)
class Html:
    """A page; {{nonce}} in it becomes the word that its own scripts and styles must carry."""

    text: str


@dataclass(frozen=True)
class Data:
    """JSON."""

    value: Any


@dataclass(frozen=True)
class Media:
    """A file that the browser shows, in any part.

    Attributes:
        path: The file; only what the site itself has chosen may stand here.
        media_type: Such as "video/mp4".
    """

    path: Path
    media_type: str


Reply = Html | Data | Media


class NoSuchThing(Exception):
    """The path names nothing: 404."""


class WrongRequest(Exception):
    """What was asked or posted makes no sense: 400, with this text."""


class Site(Protocol):
    """What is served. Its methods are called by several threads at a time.

    They raise NoSuchThing, WrongRequest, or a CogvxError for what cannot be shown (422).
    """

    def get(self, request: Request) -> Reply:
        """Answer a question that changes nothing."""
        ...

    def post(self, request: Request) -> Reply:
        """Take something in."""
        ...
