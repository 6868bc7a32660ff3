"""The page of `cogvx data label --serve` on which people label clips, and what `--export` makes of their answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from cogvx.errors import CogvxError, UsageError

from ._console import Console
from ._rater_page import names_of, serve_until_closed, warner

_PAGE = "Page"


@dataclass(frozen=True, kw_only=True)
class PageFlags:
    """The flags of the page; inherit from it beside a command's other flags."""

    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            rich_help_panel=_PAGE,
            show_default=False,
            help="Serve a page on which people judge the clips. Ctrl-C ends it; the same command goes on.",
        ),
    ] = False
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="DB",
            rich_help_panel=_PAGE,
            show_default=False,
            help="Write what people answered there into the labels of MANIFEST: the mean over them.",
        ),
    ] = None
    database: Annotated[
        Path | None,
        typer.Option(
            "--db",
            "--database",
            metavar="FILE",
            rich_help_panel=_PAGE,
            show_default=False,
            help="With --serve: SQLite file of the answers. Default: labels.sqlite beside MANIFEST.",
        ),
    ] = None
    raters: Annotated[
        str,
        typer.Option(
            "--raters",
            metavar="LIST",
            rich_help_panel=_PAGE,
            help="With --serve: names of those who label, a,b; each gets an address of their own.",
        ),
    ] = "rater"
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            rich_help_panel=_PAGE,
            help="With --serve: where to listen; 0.0.0.0 lets other machines in, unencrypted.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, rich_help_panel=_PAGE, help="With --serve: 0 takes a free one."
        ),
    ] = 8420


class _Flags(Protocol):
    """What serve_page and export_page read of the flags of their command."""

    @property
    def export(self) -> Path | None: ...
    @property
    def database(self) -> Path | None: ...
    @property
    def raters(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def output(self) -> str: ...
    @property
    def root(self) -> str | None: ...
    @property
    def overwrite(self) -> bool: ...
    @property
    def json(self) -> bool: ...
    @property
    def quiet(self) -> bool: ...


def serve_page(source: str, flags: _Flags, *, labels: tuple[str, ...] = ()) -> None:
    """Serve the page until Ctrl-C; its addresses are the result.

    Args:
        source: The manifest.
        flags: Of the command.
        labels: Names of the labels; empty: the paper's six.
    """
    from cogvx.curation.labelling import open_label_page
    from cogvx.data.labels import NEGATIVE_LABELS

    if source == "-":
        raise UsageError("--serve needs a manifest in a file: its clips are read again and again")
    console = Console(quiet=flags.quiet, json=flags.json)
    database = flags.database if flags.database is not None else Path(source).with_name("labels.sqlite")
    page = open_label_page(
        source,
        database,
        raters=names_of(flags.raters),
        labels=labels or NEGATIVE_LABELS,
        host=flags.host,
        port=flags.port,
        root=flags.root,
        on_error=warner(console),
        on_bad_line=lambda error: console.warn(str(error)),
    )
    after = f"`cogvx data label --export {database} {source} -o FILE` writes the labels"
    serve_until_closed(page, console, done_word="labelled", after=after)


def export_page(source: str, flags: _Flags) -> None:
    """Write a manifest with the labels that people gave.

    Raises:
        typer.Exit: A line of the manifest is no entry; the others are written.
    """
    from dataclasses import asdict

    from cogvx.curation.labelling import export_labels

    assert flags.export is not None
    console = Console(quiet=flags.quiet, json=flags.json, silent_stdout=flags.output == "-")
    failures: list[CogvxError] = []

    def fail(error: CogvxError) -> None:
        failures.append(error)
        console.failure(str(error).partition(": ")[0], error, str(error))

    result = export_labels(
        flags.export, source, flags.output, root=flags.root, overwrite=flags.overwrite, on_bad_line=fail
    )
    console.note(f"{result.labelled} of {result.total} clips labelled by {result.raters} people")
    for label, count in result.positive.items():
        agreed = f"; two people agree in {result.agreement[label]:.0%}" if label in result.agreement else ""
        console.note(f"{label}: {count} clips{agreed}")
    if result.strangers:
        console.note(f"{result.strangers} clips that were labelled are not in {source}")
    record: dict[str, Any] = {"output": flags.output, **asdict(result), "failed": len(failures)}
    console.result(flags.output, record)
    if failures:
        raise typer.Exit(3)
