"""What commands with a page for raters share: serve it until Ctrl-C, and say where it is."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cogvx.errors import CogvxError

from ._console import Console

if TYPE_CHECKING:
    from cogvx.serving.raters import RaterPage


def names_of(raters: str) -> list[str]:
    """Return the names of a list a,b."""
    return [name.strip() for name in raters.split(",") if name.strip()]


def warner(console: Console) -> Callable[[str, CogvxError], None]:
    """Return what tells of clips that cannot be shown."""
    return lambda path, error: console.warn(f"{path}: {error}")


def serve_until_closed(page: "RaterPage", console: Console, *, done_word: str, after: str) -> None:
    """Serve a page until Ctrl-C; the addresses of its raters are the result.

    Args:
        page: The page.
        console: Where words go.
        done_word: What is done with items, such as "judged".
        after: Said when the page is closed.
    """

    def ready(page: "RaterPage") -> None:
        if not page.server.is_local:
            console.warn("every machine that reaches this one, and has the address, can see the clips; unencrypted")
        done = page.progress()
        for rater, url in page.server.urls().items():
            record = {"rater": rater, "url": url, "count": len(page.site), "done": done[rater]}
            console.result(f"{rater}: {url}" if len(done) > 1 else url, record)
            console.note(f"{rater}: {done[rater]} of {len(page.site)} {done_word}")
        console.note(f"open the address in a browser; answers are kept in {page.journal.path}; Ctrl-C ends the page")

    try:
        page.serve(ready)
    except BaseException as end:
        if not isinstance(end, Exception):  # Ctrl-C, the usual end
            console.note(f"the page is closed; {after}")
        raise
