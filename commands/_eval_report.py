"""The work of `cogvx eval report`: results, runs and clips in; a page, tables and charts out."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cogvx.errors import CogvxError, InputError, UsageError

from ._options import Json, Overwrite, Quiet, Verbose

if TYPE_CHECKING:
    from cogvx.evaluation.report import Run, Source, Wanted

    from ._console import Console

_METRICS, _FILTER_METRICS = "metrics.jsonl", "metrics.json"
_MOST_METRICS = 256 << 20  # bytes of a run's metrics


@dataclass(frozen=True, kw_only=True)
class ReportFlags:
    """The flags of eval report."""

    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            "--output-path",
            metavar="DIR",
            rich_help_panel="Output",
            help="Folder of the page (index.html), the tables (report.md) and the charts (PNG).",
        ),
    ] = "report"
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="Of the page.")] = "Evaluation report"
    rank: Annotated[
        bool,
        typer.Option(
            "--rank/--no-rank",
            help="Rank the systems by each number; refused where protocols differ. Without, they stand side by side.",
        ),
    ] = True
    paper: Annotated[
        Literal["beside", "all", "none"],
        typer.Option("--paper", help="The paper's tables: beside numbers of their kind, all of them, or none."),
    ] = "beside"
    clips: Annotated[
        list[str] | None,
        typer.Option(
            "--clips",
            metavar="[NAME=]MANIFEST|DIR",
            show_default=False,
            help="Clips to play, of a system; repeatable. Default: those that lie in the folders of the results.",
        ),
    ] = None
    max_clips: Annotated[
        int, typer.Option("--max-clips", metavar="N", min=0, max=500, help="Clips of each system; 0 shows none.")
    ] = 8
    inline_mb: Annotated[
        float,
        typer.Option(
            "--inline-mb",
            metavar="MB",
            min=0,
            max=200,
            help="Clips are part of the page up to this size together; further ones lie beside it, in clips/.",
        ),
    ] = 12.0
    png: Annotated[bool, typer.Option("--png/--no-png", help="Write each chart as PNG, too (needs matplotlib).")] = True
    root: Annotated[
        str | None,
        typer.Option(
            "--root",
            metavar="DIR",
            show_default=False,
            help="Where clips lie that results or manifests name. Default: the folder of each.",
        ),
    ] = None
    overwrite: Overwrite = False
    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False


class _Session:
    """What has been read so far, and what failed.

    Attributes:
        console: Where words go.
        sources: Results.
        runs: Training runs.
        failed: What could not be used.
    """

    def __init__(self, console: "Console") -> None:
        self.console = console
        self.sources: list[Source] = []
        self.runs: list[Run] = []
        self.failed: list[str] = []

    def fail(self, path: Path | str, error: CogvxError) -> None:
        if error.exit_code not in (3, 5):
            raise error
        self.failed.append(f"{path}: {error}" if str(path) not in str(error) else str(error))
        self.console.failure(str(path), error, str(error))


def write(inputs: list[str], flags: ReportFlags) -> None:
    """Write a report.

    Raises:
        typer.Exit: With 3, when some inputs or clips could not be used.
        UsageError: Flags or names do not fit, or results would be ranked whose protocols differ.
        InputError: No input could be used.
    """
    from cogvx.evaluation.report import build_report, check_folder, check_plotting, write_report

    from ._console import Console, quiet_libraries

    console = Console(flags.quiet, flags.verbose, flags.json)
    quiet_libraries(flags.verbose)
    folder = Path(flags.output)
    if flags.output == "-":
        raise UsageError("-o -: a report is a folder; pass -o DIR")
    check_folder(folder, overwrite=flags.overwrite)
    if flags.png:
        check_plotting()
    session = _Session(console)
    for text in inputs:
        _read(text, session)
    if not session.sources and not session.runs:
        raise InputError("no input could be used, so there is nothing to report")
    report = build_report(session.sources, session.runs, title=flags.title, rank=flags.rank, papers=flags.paper)
    for line in dict.fromkeys(line for table in report.tables for line in table.differences()):
        console.warn(line)
    clips = _clips(session, flags) if flags.max_clips else []
    report = replace(report, clips=clips, remarks=[f"not in this report: {line}" for line in session.failed])
    done = write_report(report, folder, png=flags.png, overwrite=flags.overwrite)
    for kind, paths in (("page", [done.page]), ("markdown", [done.markdown]), ("chart", done.charts)):
        for path in paths:
            console.result(path, {"output": str(path), "kind": kind})
    console.note(
        f"{len(session.sources)} results of {len(report.systems)} systems, {len(session.runs)} runs, "
        f"{sum(map(len, clips))} clips ({len(done.clips)} beside the page); open {done.page} in a browser"
    )
    if session.failed:
        raise typer.Exit(3)


def _read(text: str, session: _Session) -> None:
    """Read one argument: a result, a folder of results, or a run folder."""
    from cogvx.evaluation.report import FILTER, folder_name, is_result, read_source, result_files, split_name

    name, path = split_name(text)

    def result(file: Path) -> None:
        try:
            source = read_source(file, system=name, number=len(session.sources) + 1)
            session.sources.append(_whole(source))
        except CogvxError as error:
            session.fail(file, error)

    if path.suffix.lower() == ".jsonl" and path.name != _METRICS:
        raise UsageError(f"{text}: a manifest of clips is passed as --clips [NAME=]{path.name}")
    if not path.is_dir():
        if path.name == _METRICS:
            _run(path, name or folder_name(path.parent), session)
        else:
            result(path)
        return
    table = path / _FILTER_METRICS
    if (path / _METRICS).is_file():
        if table.is_file():
            source = None
            try:
                source = read_source(table, system=name or folder_name(path), number=len(session.sources) + 1)
            except CogvxError as error:
                session.fail(table, error)
            if source is not None and source.result.metric == FILTER:
                session.sources.append(source)
                return
        _run(path, name or folder_name(path), session)
        return
    files = result_files(path)
    own = [file for file in files if is_result(file)]
    for file in files:
        if file not in own:
            session.console.note(f"{file}: no result of `cogvx eval`, left out")
    if not own:
        session.fail(path, InputError(f"{path}: no results of `cogvx eval` in it, and no {_METRICS}"))
    for file in own:
        result(file)


def _whole(source: "Source") -> "Source":
    """Return a result whose numbers can all be used.

    Raises:
        InputError: Some cannot.
    """
    from cogvx.evaluation.report.numbers import numbers_of

    if not numbers_of(source):
        raise InputError(f"{source.path}: there is no number in it")
    return source


def _run(path: Path, name: str, session: _Session) -> None:
    """Read the curves of a training run."""
    from cogvx.evaluation.report import make_run
    from cogvx.training.plot import curves, read_metrics, smooth

    try:
        file = path / _METRICS if path.is_dir() else path
        if file.is_file() and file.stat().st_size > _MOST_METRICS:
            raise InputError(f"{file}: more than {_MOST_METRICS >> 20} MiB of metrics are too many for a report")
        taken = {run.name for run in session.runs}
        own = name if name not in taken else f"{name} ({path})"
        session.runs.append(make_run(own, curves(read_metrics(path)), smooth=smooth))
    except InputError as error:
        session.fail(path, error)
    except (OverflowError, RecursionError) as error:
        session.fail(path, InputError(f"{path}: not metrics of a run: {error}"))


def _clips(session: _Session, flags: ReportFlags) -> list[Any]:
    """Return the clips to play, as given, else as results name them."""
    from cogvx.evaluation.report import beside_results, choose, playable, with_text

    if flags.clips:
        wanted = [one for text in flags.clips for one in _given(text, session, flags)]
    else:
        wanted = beside_results(session.sources, Path(flags.root) if flags.root is not None else None)
        if session.sources and not wanted:
            session.console.note("no clips lie beside the results; --clips [NAME=]MANIFEST|DIR shows some")
    chosen = choose(wanted, flags.max_clips)
    chosen = choose([with_text(one) for group in chosen for one in group], flags.max_clips)
    with session.console.progress("eval report") as report:
        return playable(
            chosen,
            inline_bytes=int(flags.inline_mb * 1e6 * 3 / 4),  # as text a clip is a third longer
            on_failure=session.fail,
            report=lambda done, total: report("clip", done, total),
        )


def _given(text: str, session: _Session, flags: ReportFlags) -> "list[Wanted]":
    """Return the clips of one --clips."""
    from cogvx.evaluation.report import Wanted, folder_name, split_name

    from ._eval_clips import ResultFlags, Session, find_clips

    name, path = split_name(text)
    system = name or folder_name(path if path.is_dir() else path.parent)
    looking = Session(session.console, ResultFlags(root=flags.root))
    try:
        found = find_clips(str(path), looking)
    except CogvxError as error:
        session.fail(path, error)
        return []
    session.failed += [f"{one['input']}: {one['error']}" for one in looking.failed]
    return [
        Wanted(
            system,
            clip.path,
            next((t for key in ("prompt", "caption") if isinstance(t := (clip.entry or {}).get(key), str)), ""),
            clip.span["start"],
            clip.span["end"],
        )
        for clip in found
    ]
