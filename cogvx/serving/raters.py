"""A page on which several people judge clips, each at an address of their own."""

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Protocol, Self

from cogvx.errors import UsageError
from cogvx.files import clean
from cogvx.serving.journal import Journal
from cogvx.serving.replies import Site
from cogvx.serving.server import OnError, PageServer

MAX_RATERS = 100
_SHARED = ("page.css", "page.js")


class RaterSite(Site, Protocol):
    """A site that knows how far each rater is."""

    def __len__(self) -> int:
        """Return the number of items to judge."""
        ...

    def num_done(self, rater: str) -> int:
        """Return how many items a rater has judged."""
        ...


class RaterPage:
    """A site that raters reach, ready to be served; the journal is closed with it.

    Attributes:
        server: Answers requests.
        site: The items.
        journal: The answers.
    """

    def __init__(
        self,
        site: RaterSite,
        journal: Journal,
        raters: Sequence[str],
        *,
        host: str,
        port: int,
        on_error: OnError | None = None,
    ) -> None:
        """Take the port.

        Args:
            site: What is judged.
            journal: Where answers are kept.
            raters: Names of those who judge (see check_raters); each has an address of their own, always the same.
            host: Address to listen on.
            port: 0 takes a free one.
            on_error: Told of clips that cannot be shown.

        Raises:
            UsageError: The address is impossible or taken.
        """
        self.site, self.journal = site, journal
        tokens = {journal.token(name): name for name in raters}
        self.server = PageServer(site, tokens, host=host, port=port, on_error=on_error)

    def progress(self) -> dict[str, int]:
        """Return rater -> number of items that they have judged."""
        return {rater: self.site.num_done(rater) for rater in self.server.urls()}

    def close(self) -> None:
        """Answer no more, and close the journal."""
        self.server.stop()
        self.journal.close()

    def serve(self, ready: Callable[[Self], None]) -> dict[str, int]:
        """Serve until this thread is interrupted, then close; return progress().

        Args:
            ready: Called when the page can be opened; `server.urls()` of what it gets are the addresses.
        """
        try:
            self.server.start()
            ready(self)
            self.server.wait()
        finally:
            done = self.progress()
            self.close()
        return done


def check_raters(names: Sequence[str]) -> list[str]:
    """Return the names of raters, each once.

    Raises:
        UsageError: There are none or too many, or one cannot be shown on a line.
    """
    kept = list(dict.fromkeys(names))
    wrong = next((name for name in kept if not name.strip() or len(name) > 60 or clean(name) != name), None)
    if wrong is not None or not 0 < len(kept) <= MAX_RATERS:
        raise UsageError(
            f"raters need names of 1 to 60 letters, and there are 1 to {MAX_RATERS} of them"
            + (f"; {clean(wrong)[:60]!r} is none" if wrong is not None else "")
        )
    return kept


def page_text(package: str) -> str:
    """Return a package's page.html with the styles and scripts that all pages for raters share."""
    text = files(package).joinpath("page.html").read_text(encoding="utf-8")
    for name in _SHARED:
        text = text.replace("{{" + name + "}}", files("cogvx.serving").joinpath(name).read_text(encoding="utf-8"))
    return text
