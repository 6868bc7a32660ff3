"""From a study and a database to a page on which people judge it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cogvx.errors import CogvxError
from cogvx.evaluation.human.site import StudySite
from cogvx.evaluation.human.study import Study, read_study
from cogvx.serving.journal import Journal
from cogvx.serving.raters import RaterPage, check_raters

KIND = "votes"
DEFAULT_PORT = 8430
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


def open_study_page(
    folder: Path | str,
    *,
    database: Path | str | None = None,
    raters: Sequence[str] = ("rater",),
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    on_error: Callable[[str, CogvxError], None] | None = None,
) -> RaterPage:
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
    names, study = check_raters(raters), read_study(folder)
    journal = open_votes(study, database, make=True)
    try:
        return RaterPage(StudySite(study, journal), journal, names, host=host, port=port, on_error=on_error)
    except BaseException:
        journal.close()
        raise
