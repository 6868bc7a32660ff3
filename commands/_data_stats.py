"""`cogvx data stats`: what is in a manifest, in numbers."""

from typing import TYPE_CHECKING, Annotated

import typer

from cogvx.errors import CogvxError, InputError, UsageError

from ._console import Console
from ._options import Json, Overwrite, Quiet
from ._stages import SOURCE_HELP

if TYPE_CHECKING:
    from cogvx.curation.stats import ManifestStats

_MOST_ROWS = 15
_TITLES = {"size": "width x height", "errors": "errors of"}


def stats(
    source: Annotated[str, typer.Argument(metavar="MANIFEST", help=SOURCE_HELP)],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            "--output-path",
            metavar="DIR",
            show_default=False,
            help="Write a histogram of each column there (PNG).",
        ),
    ] = None,
    kept: Annotated[bool, typer.Option("--kept", help="Leave out entries that are rejected.")] = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    r"""Print what is in a manifest: how many, how long, which sizes, and the spread of every score and label.

    Standard deviations divide by n. `same entry` are entries whose file and part stand there already, `same content`
    those whose sha256 and part do. It reads the manifest alone, in one pass.

    \b
    Examples:
      cogvx data stats scored.jsonl
      cogvx data stats shards/ --kept -o histograms
      cogvx data stats scored.jsonl --json | jq .columns
    """
    from pathlib import Path

    from cogvx.curation.stats import ManifestStats
    from cogvx.data.manifest import iter_manifest
    from cogvx.data.stages.source import parts_of

    console = Console(quiet=quiet, json=json)
    if output == "-":
        raise UsageError("-o - cannot hold pictures; name a folder")
    failures = 0

    def bad_line(error: CogvxError) -> None:
        nonlocal failures
        failures += 1
        console.failure(source, error, str(error))

    found = ManifestStats()
    for part in parts_of(source, "-", None):
        for _, entry in iter_manifest(part.source, on_error=bad_line):
            if not (kept and entry.get("rejected")):
                found.add(entry)
    if not found.count and not failures:
        raise InputError(f"{source}: no entries{' that are kept' if kept else ''} in it")
    files: list[Path] = []
    if output is not None:
        from cogvx.curation.histograms import write_histograms

        files = write_histograms(found.columns(), Path(output), overwrite=overwrite)
    if json:
        paths = {"files": [str(path) for path in files]} if output is not None else {}
        console.result("", {"input": source, **found.to_dict(), **paths})
    else:
        _print(console, found)
    if files:
        console.note(f"{len(files)} histograms in {output}")
    if failures:
        raise typer.Exit(3)


def _print(console: Console, found: "ManifestStats") -> None:
    counts = found.counts()
    rows = [[name.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:.2f}"]
            for name, value in counts.items() if value or name in ("entries", "rejected")]  # fmt: skip
    console.table(rows, header=["", "count"])
    columns = [(column.name, column.summary()) for column in found.columns()]
    if columns:
        typer.echo()
        names = list(columns[0][1])
        console.table([[name, *(_number(values[key]) for key in names)] for name, values in columns],
                      header=["column", *names])  # fmt: skip
    for title, table in found.tables().items():
        typer.echo()
        rows = [[name, f"{count:,}", f"{100 * count / found.count:.1f} %"] for name, count in table.items()]
        more = len(rows) - _MOST_ROWS
        if more > 1:
            rest = sum(list(table.values())[_MOST_ROWS:])
            rows = [*rows[:_MOST_ROWS], [f"({more} more)", f"{rest:,}", f"{100 * rest / found.count:.1f} %"]]
        console.table(rows, header=[_TITLES.get(title, title), "count", "share"])


def _number(value: float) -> str:
    """Return a number in at most nine letters, unless it is a count."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.3e}"
