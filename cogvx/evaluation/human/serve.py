"""From a study and a database to a page on which people judge it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cogvx.errors import CogvxError, UsageError
from cogvx.evaluation.human.site import StudySite
from cogvx.evaluation.human.study import Study, read_study
from cogvx.files import clean
from cogvx.serving.journal import Journal
from cogvx.serving.server import PageServer

KIND = "votes"
DEFAULT_PORT = 8430
MAX_RATERS = 100
VOTES_FILE = "votes.sqlite"


def open_votes(study: Study, database: Path | str | None = None, *, make: bool = False) -> Journal:
    """Open the votes of a study.

    Args:
        study: The study.
        database: SQLite file (default: votes.sqlite in the study's folder).
        make: Whether a missing one is made.

    Raises:
        InputError: It is missing or damaged.
        UsageError: It holds something else, or the votes of another study.
    """
    path = Path(database) if database is not None else study.folder / VOTES_FILE
    about = {"study": study.sha256, "mode": study.mode}
    if not make and not path.is_file():
        return Journal(path, KIND)  # says that it is missing
    return Journal(path, KIND, about)


class StudyServer:
    """The page, ready to be served.

    Attributes:
        server: Answers requests.
        site: The items.
        journal: The votes.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        database: Path | str | None = None,
        raters: Sequence[str] = ("rater",),
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        on_error: Callable[[str, CogvxError], None] | None = None,
    ) -> None:
        """Read the study, open the database, and take the port.

        Args:
            folder: Of the study.
            database: SQLite file of the votes; made if it is missing, gone on with if not (default: in the folder).
            raters: Names of those who judge; each has an address of their own, the same every time.
            host: Address to listen on.
            port: 0 takes a free one.
            on_error: Told of clips that cannot be shown.

        Raises:
            InputError: The study or the database cannot be read.
            UsageError: A rater's name, the address, or the database is impossible.
        """
        names = list(dict.fromkeys(raters))
        wrong = next((name for name in names if not name.strip() or len(name) > 60 or clean(name) != name), None)
        if wrong is not None or not 0 < len(names) <= MAX_RATERS:
            raise UsageError(
                f"raters need names of 1 to 60 letters, and there are 1 to {MAX_RATERS} of them"
                + (f"; {clean(wrong)[:60]!r} is none" if wrong is not None else "")
            )
        study = read_study(folder)
        self.journal = open_votes(study, database, make=True)
        try:
            self.site = StudySite(study, self.journal)
            tokens = {self.journal.token(name): name for name in names}
            self.server = PageServer(self.site, tokens, host=host, port=port, on_error=on_error)
        except BaseException:
            self.journal.close()
            raise

    def progress(self) -> dict[str, int]:
        """Return rater -> number of items that they have judged."""
        return {rater: self.site.num_done(rater) for rater in self.server.urls()}

    def close(self) -> None:
        """Answer no more, and close the database."""
        self.server.stop()
        self.journal.close()


def serve(folder: Path | str, *, ready: Callable[[StudyServer], None], **settings: Any) -> dict[str, int]:
    """Serve a study until this thread is interrupted.

    Args:
        folder: Of the study.
        ready: Called when the page can be opened; `server.urls()` of what it gets are the addresses.
        settings: See StudyServer.

    Returns:
        Rater -> number of items that they have judged.

    Raises:
        CogvxError: As StudyServer.
    """
    page = StudyServer(folder, **settings)
    try:
        page.server.start()
        ready(page)
        page.server.wait()
    finally:
        done = page.progress()
        page.close()
    return done
