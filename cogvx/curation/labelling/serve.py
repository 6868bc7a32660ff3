"""From a manifest and a database to a page that people label on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cogvx.curation.labelling.site import LabelSite
from cogvx.data.labels import NEGATIVE_LABELS
from cogvx.data.manifest import read_manifest
from cogvx.errors import CogvxError, UsageError
from cogvx.files import clean
from cogvx.serving.journal import Journal
from cogvx.serving.playable import PlayableClips
from cogvx.serving.server import PageServer

KIND = "labels"
DEFAULT_PORT = 8420
MAX_RATERS = 100


class LabelServer:
    """The page, ready to be served.

    Attributes:
        server: Answers requests.
        site: The clips and their labels.
    """

    def __init__(
        self,
        manifest: Path | str,
        database: Path | str,
        *,
        raters: Sequence[str] = ("rater",),
        labels: Sequence[str] = NEGATIVE_LABELS,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        root: Path | str | None = None,
        cache: Path | str | None = None,
        on_error: Callable[[str, CogvxError], None] | None = None,
        on_bad_line: Callable[[CogvxError], None] | None = None,
    ) -> None:
        """Read the manifest, open the database, and take the port.

        Args:
            manifest: Of the clips.
            database: SQLite file of the answers; made if it is missing, gone on with if not.
            raters: Names of those who label; each has an address of their own, the same every time.
            labels: Names of the labels, at most nine.
            host: Address to listen on.
            port: 0 takes a free one.
            root: What the manifest's paths must stay inside (default: its folder).
            cache: Folder of clips that were made playable (default: beside the database).
            on_error: Told of clips that cannot be shown.
            on_bad_line: Told of lines of the manifest that are no entries (default: the first one is raised).

        Raises:
            InputError: The manifest or the database cannot be read.
            UsageError: A rater's name, the labels, the address, or the database is impossible.
        """
        names = list(dict.fromkeys(raters))
        wrong = next((name for name in names if not name.strip() or len(name) > 60 or clean(name) != name), None)
        if wrong is not None or not 0 < len(names) <= MAX_RATERS:
            raise UsageError(
                f"raters need names of 1 to 60 letters, and there are 1 to {MAX_RATERS} of them"
                + (f"; {clean(wrong)[:60]!r} is none" if wrong is not None else "")
            )
        if not 0 < len(set(labels)) == len(labels) <= 9:
            raise UsageError(f"there are one to nine labels, each once, since each has a key; got {len(labels)}")
        read = read_manifest(manifest, root=root, on_error=on_bad_line)
        database = Path(database)
        self.journal = Journal(database, KIND, {"labels": list(labels)})
        try:
            clips = PlayableClips(Path(cache) if cache is not None else database.with_name(f"{database.name}.clips"))
            self.site = LabelSite(read, self.journal, clips, labels)
            tokens = {self.journal.token(name): name for name in names}
            self.server = PageServer(self.site, tokens, host=host, port=port, on_error=on_error)
        except BaseException:
            self.journal.close()
            raise

    def progress(self) -> dict[str, int]:
        """Return rater -> number of clips that they have labelled."""
        return {rater: self.site.num_done(rater) for rater in self.server.urls()}

    def close(self) -> None:
        """Answer no more, and close the database."""
        self.server.stop()
        self.journal.close()


def serve(
    manifest: Path | str,
    database: Path | str,
    *,
    ready: Callable[[LabelServer], None],
    **settings: Any,
) -> dict[str, int]:
    """Serve the labelling page until this thread is interrupted.

    Args:
        manifest: Of the clips.
        database: SQLite file of the answers.
        ready: Called when the page can be opened; `server.urls()` of what it gets are the addresses.
        settings: See LabelServer.

    Returns:
        Rater -> number of clips that they have labelled.

    Raises:
        CogvxError: As LabelServer.
    """
    page = LabelServer(manifest, database, **settings)
    try:
        page.server.start()
        ready(page)
        page.server.wait()
    finally:
        done = page.progress()
        page.close()
    return done
