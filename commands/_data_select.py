"""`cogvx data select`: which clips are trained on, and why the others are not."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import typer

from cogvx.errors import CogvxError, InputError, UsageError

from ._console import Console
from ._options import DryRun, Json, Overwrite, Quiet, Root, with_flags

if TYPE_CHECKING:
    from cogvx.data.select import SelectResult, Shard


@dataclass(frozen=True, kw_only=True)
class SelectFlags:
    """The flags of select beside its manifests and its condition."""

    top: Annotated[
        str | None,
        typer.Option(
            "--top",
            metavar="SHARE",
            show_default=False,
            help="Of those that --where takes, only the best: a share (20%) or a count (500).",
        ),
    ] = None
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="VALUE",
            show_default=False,
            help="What --top calls best: the greatest value of a column, or of a sum such as aesthetic + 2 * flow. "
            "Equal ones go by their order.",
        ),
    ] = None
    within: Annotated[
        str | None,
        typer.Option(
            "--within", metavar="COLUMN", show_default=False, help="Take --top of each group apart, such as each split."
        ),
    ] = None
    allow_missing: Annotated[
        Literal["keep", "reject"] | None,
        typer.Option(
            "--allow-missing",
            show_default=False,
            help="What becomes of entries that lack a column. Default: they are rejected, but more than 1 % of "
            "them is an error.",
        ),
    ] = None
    keep_only: Annotated[
        bool, typer.Option("--keep-only", help="Write only the entries that are kept.", show_default=False)
    ] = False
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="NAME",
            help="In front of each reason. A selection replaces the reasons of its own name and leaves the others.",
        ),
    ] = "select"
    root: Root = None
    overwrite: Overwrite = False
    dry_run: DryRun = False
    json: Json = False
    quiet: Quiet = False


@with_flags(SelectFlags)
def select(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST", help="A manifest (JSONL), a folder or quoted pattern of them, or - for stdin."
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", "--output-path", metavar="PATH", help="The manifest to write; a folder for several; -."
        ),
    ],
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="CONDITION", show_default=False, help="What an entry must fulfil (see above)."),
    ] = None,
    *,
    flags: SelectFlags,
) -> None:
    r"""Reject the entries of a manifest that do not fulfil a condition; they stay in it, with their reasons.

    A condition compares the manifest's columns (scores, labels, duration, num_frames, height, width, fps, start, end,
    caption_words, split) by < <= > >= == !=, joined by and, or, not. It may compute with + - * / and parentheses.
    q0.2 is the value that 20 % of the entries lie below. has(flow) and missing(flow) tell whether an entry has a
    column, `rejected` whether something else rejected it. A name that stands for two columns is written scores.x,
    labels.x, or entry.x. Quantiles and shares are of the entries that nothing else rejected.

    \b
    Examples:
      cogvx data select scored.jsonl -o chosen.jsonl --where "flow >= q0.2 and aesthetic >= 4.5 and text_area < 0.02"
      cogvx data select scored.jsonl -o best.jsonl --top 20% --by aesthetic --within split --name high-quality
      cogvx data select scored.jsonl -o - --where "2 <= duration < 20 and not (editing > 0.5)" --keep-only > kept.jsonl
    """
    import time

    from cogvx.data.select import Selector, make_options

    started = time.monotonic()
    console = Console(quiet=flags.quiet, json=flags.json, silent_stdout=output == "-" and not flags.dry_run)
    options = make_options(
        where,
        top=flags.top,
        by=flags.by,
        within=flags.within,
        missing=flags.allow_missing or "refuse",
        keep_only=flags.keep_only,
        name=flags.name,
    )

    def fail(place: str, error: CogvxError) -> None:
        console.failure(place, error, str(error))

    with _shards(source, output, flags) as shards, console.progress("select") as report:
        selector = Selector(options, shards, on_failure=fail)
        result = selector.look(report)
        if not result.total and not result.failed:
            raise InputError(f"{source}: no entries in it")
        _tell(console, result)
        if not flags.dry_run:
            selector.write(report, overwrite=flags.overwrite)
    if result.levels_up:
        console.note(f"its paths lead {result.levels_up} folders up: read it with --root {'../' * result.levels_up}")
    record = _record(result, output, time.monotonic() - started)
    text = f"{result.kept} of {result.total} entries would be kept" if flags.dry_run else output
    console.result(text, record | ({"dry_run": True} if flags.dry_run else {}))
    if result.failed:
        raise typer.Exit(3)


@contextlib.contextmanager
def _shards(source: str, output: str, flags: SelectFlags) -> "Iterator[list[Shard]]":
    """Give the manifests that are read, and where each goes; stdin is kept in a file, since it is read twice."""
    from cogvx.data.select import Shard

    if source == "-":
        with _spooled() as file:
            target = None if output == "-" else Path(output)
            yield [Shard(file, target, Path(), Path(flags.root or "."))]
        return
    found = []
    for part_source, part_target in _parts(source, output):
        path = Path(part_source)
        target = None if part_target == "-" else Path(part_target)
        if target is not None and not flags.dry_run:
            _check_target(target, path, overwrite=flags.overwrite)
        found.append(Shard(path, target, path.parent, Path(flags.root) if flags.root else path.parent))
    yield found


def _parts(source: str, output: str) -> list[tuple[str, str]]:
    """Return each manifest that is read, and where what becomes of it goes.

    Raises:
        InputError: The source names nothing.
        UsageError: The output does not fit it.
    """
    from cogvx.data.stages.source import parts_of

    if os.path.isfile(source) and os.path.isfile(output) and os.path.samefile(source, output):
        return [(source, output)]  # a selection, unlike other stages, may replace what it reads
    return [(part.source, part.target) for part in parts_of(source, output, None)]


def _check_target(target: Path, source: Path, *, overwrite: bool) -> None:
    """Refuse, before the work, a target that exists."""
    from cogvx.files import is_device

    if os.path.lexists(target) and not overwrite and not is_device(target):
        same = source.exists() and os.path.samefile(source, target)
        raise UsageError(f"{target} {'is what is read' if same else 'exists'}; pass --overwrite to replace it")


@contextlib.contextmanager
def _spooled() -> "Iterator[IO[bytes]]":
    """Give standard input as a file that can go back to its start, whose name is <stdin>."""
    import shutil
    import sys
    import tempfile

    class Spool:
        """A temporary file; the names of those without a folder entry are numbers."""

        name = "<stdin>"

        def __init__(self, file: Any) -> None:
            self.readline, self.seek, self.fileno = file.readline, file.seek, file.fileno

    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield Spool(file)  # type: ignore[misc]


def _tell(console: Console, result: "SelectResult") -> None:
    """Say what was decided, condition by condition."""
    before = f", {result.before:,} were rejected before" if result.before else ""
    console.note(f"{result.kept:,} of {result.total:,} entries kept, {result.rejected:,} rejected{before}")
    for condition, count in result.reasons.items():
        console.note(f"{count:,} do not fulfil {condition}")


def _record(result: "SelectResult", output: str, seconds: float) -> dict[str, Any]:
    import math

    thresholds = {name: None if math.isnan(cut) else cut for name, cut in result.thresholds.items()}
    record: dict[str, Any] = {"output": output, "count": result.total, "kept": result.kept}
    record |= {"rejected": result.rejected, "rejected_before": result.before, "failed": result.failed}
    return record | {"not_fulfilled": result.reasons, "quantiles": thresholds, "seconds": round(seconds, 2)}
