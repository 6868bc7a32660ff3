"""From a manifest and a database to a page that people label on."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cogvx.curation.labelling.site import LabelSite
from cogvx.data.labels import NEGATIVE_LABELS
from cogvx.data.manifest import read_manifest
from cogvx.errors import CogvxError, UsageError
from cogvx.serving.journal import Journal
from cogvx.serving.playable import PlayableClips
from cogvx.serving.raters import RaterPage, check_raters

KIND = "labels"
DEFAULT_PORT = 8420


def open_label_page(
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
) -> RaterPage:
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
    names, database = check_raters(raters), Path(database)
    if not 0 < len(set(labels)) == len(labels) <= 9:
        raise UsageError(f"there are one to nine labels, each once, since each has a key; got {len(labels)}")
    read = read_manifest(manifest, root=root, on_error=on_bad_line)
    journal = Journal(database, KIND, {"labels": list(labels)})
    try:
        clips = PlayableClips(Path(cache) if cache is not None else database.with_name(f"{database.name}.clips"))
        site = LabelSite(read, journal, clips, labels)
        return RaterPage(site, journal, names, host=host, port=port, on_error=on_error)
    except BaseException:
        journal.close()
        raise
