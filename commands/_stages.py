"""What the commands share that run a stage over manifests: flags, progress, the summary."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cogvx.errors import UsageError

from ._console import SECONDS_BETWEEN_LINES, Console, _duration
from ._options import _MACHINE, _OUTPUT, Json, Quiet, Root

if TYPE_CHECKING:
    from cogvx.data.stages.run import RunOptions, RunResult
    from cogvx.data.stages.stage import Item, Stage
    from cogvx.errors import CogvxError

SOURCE_HELP = "A manifest (JSONL), a folder or pattern of shards, or - for stdin."
_RATE_SECONDS = 60.0  # of the past that the speed is taken from


@dataclass(frozen=True, kw_only=True)
class StageFlags:
    """The flags of every command that runs a stage."""

    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            "--output-path",
            metavar="MANIFEST|DIR",
            rich_help_panel=_OUTPUT,
            help="The manifest to write; a folder for shards; - for stdout. Entries that are in it already, made with "
            "the same settings, are kept; a run that was stopped goes on where it was.",
        ),
    ] = "-"
    root: Root = None
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", rich_help_panel=_MACHINE, help="Processes of this machine, or Ray Data."),
    ] = "local"
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=0,
            max=4096,
            rich_help_panel=_MACHINE,
            help="Processes, each with a thread and its own copy of what the stage loads; 0 works in this one.",
        ),
    ] = 1
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="ADDRESS",
            rich_help_panel=_MACHINE,
            show_default=False,
            help="Ray cluster to use, such as auto or ray://host:10001. Default: one is started here.",
        ),
    ] = None
    item_seconds: Annotated[
        float,
        typer.Option(
            "--item-seconds",
            metavar="X",
            min=0.01,
            rich_help_panel=_MACHINE,
            help="A clip that takes longer has failed.",
        ),
    ] = 600.0
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            rich_help_panel=_MACHINE,
            show_default=False,
            help="Only the I-th of every N shards (of a single manifest: entries); I from 1. For one job a machine.",
        ),
    ] = None
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", rich_help_panel=_OUTPUT, help="Do all anew and replace the output, whatever it is."
        ),
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=_OUTPUT, help="Say how much there is to do; write nothing.")
    ] = False
    json: Json = False
    quiet: Quiet = False

    def options(self) -> "RunOptions":
        """Return them as the library takes them.

        Raises:
            UsageError: They are impossible together.
        """
        from cogvx.data.stages.run import RunOptions

        if self.ray_address is not None and self.engine != "ray":
            raise UsageError("--ray-address needs --engine ray")
        return RunOptions(
            engine=self.engine,
            workers=self.workers,
            ray_address=self.ray_address,
            item_seconds=self.item_seconds,
            shard=None if self.shard is None else _shard(self.shard),
            overwrite=self.overwrite,
        )


def run_command(stage: "Stage", source: str, flags: StageFlags) -> None:
    """Run a stage over a manifest as the flags say, show how far it is, and print where the result is.

    Raises:
        typer.Exit: An entry could not be used; the others are done.
    """
    from cogvx.data.stages.run import plan_stage, run_stage

    options = flags.options()
    if source == "-" and sys.stdin.isatty():
        raise UsageError("- reads a manifest from stdin, which is a terminal; pipe it in, or name a file")
    if flags.dry_run:
        console = Console(quiet=flags.quiet, json=flags.json)
        failures = _Failures(console)
        plan = plan_stage(stage, source, flags.output, options=options, root=flags.root, on_failure=failures)
        record = {"output": flags.output, "todo": plan.todo, "kept": plan.kept, "failed": plan.failed}
        console.result(f"{flags.output}: {plan.todo} to do, {plan.kept} to keep", record)
        if plan.failed:
            raise typer.Exit(failures.exit_code)
        return

    def run(report: Callable[[int, int], None], failures: "_Failures", on_stop: Callable[[], None]) -> "RunResult":
        return run_stage(
            stage,
            source,
            flags.output,
            options=options,
            root=flags.root,
            report=report,
            on_failure=failures,
            on_stop=on_stop,
        )

    show_run(stage.name, flags, run)


def show_run(name: str, flags: StageFlags, run: Callable[..., "RunResult"]) -> None:
    """Call what runs a stage with functions that show it (report, on_failure, on_stop), then print the result.

    Raises:
        typer.Exit: An entry could not be used; the others are done.
    """
    console = Console(quiet=flags.quiet, json=flags.json, silent_stdout=flags.output == "-")
    failures = _Failures(console)

    def on_stop() -> None:
        console.note("stopping after the clips that have begun; what is done is kept; once more stops at once")

    with _progress(name, flags.quiet) as report:
        result = run(report, failures, on_stop)
    speed = result.done / result.seconds if result.seconds else 0.0
    console.note(
        f"{name}: {result.done} done, {result.kept} kept, {result.failed} failed in {result.seconds:.1f} s"
        + (f" ({speed:.2f} clips/s)" if result.done else "")
    )
    if result.levels_up:
        up = "/".join([".."] * result.levels_up)
        console.note(f"its paths lead out of its folder: read it with a --root that is {up} from there, or above")
    record: dict[str, Any] = {"output": result.target, "done": result.done, "kept": result.kept}
    record |= {"failed": result.failed, "seconds": round(result.seconds, 3), "clips_per_second": round(speed, 3)}
    console.result(result.target, record)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


class _Failures:
    """Prints each item that could not be used."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.exit_code = 0
        self._traced = False

    def __call__(self, item: "Item", error: "CogvxError") -> None:
        named = f"{item.place} ({item.id})" if item.entry else item.place
        self.exit_code = 5 if 5 in (error.exit_code, self.exit_code) else 3
        if getattr(error, "__notes__", None) and not self._traced:  # a fault: where it is stands there once
            self._traced = True
            print(_clean_lines(error.__notes__[0]), file=sys.stderr)
            self._console.warn(
                "this is a fault of cogvx; please report it with the lines above and `cogvx doctor --json`"
            )
        self._console.failure(named, error, str(error))


def _clean_lines(text: str) -> str:
    from cogvx.files import clean

    return clean(text, multiline=True)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UsageError(f"--shard {text}: expected I/N, such as 1/8, with I from 1 to N")
    return int(index), int(count)


@contextmanager
def _progress(name: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function `report(done, total)`: a bar on a terminal, elsewhere a line at most every five seconds."""
    import os

    speed = _Speed()
    if quiet:
        yield lambda done, total: None
        return
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        last = [time.monotonic()]

        def line(done: int, total: int) -> None:
            if time.monotonic() - last[0] >= SECONDS_BETWEEN_LINES:
                last[0] = time.monotonic()
                print(f"cogvx: {name}: {speed.text(done, total)}", file=sys.stderr, flush=True)
            else:
                speed.note(done)

        yield line
        return
    import rich.console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = [TextColumn(name), BarColumn(), TextColumn("{task.description}", markup=False)]
    with Progress(*columns, console=rich.console.Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        shown = [0.0]

        def show(done: int, total: int) -> None:
            if time.monotonic() - shown[0] > 0.2:
                shown[0] = time.monotonic()
                bar.update(task, completed=done, total=total or None, description=speed.text(done, total))

        yield show


class _Speed:
    """How fast it goes, by the last minute: entries that were kept pass in no time."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def note(self, done: int) -> None:
        """Remember how much is done now, about once a second."""
        now = time.monotonic()
        if now - self._past[-1][0] >= 1.0:
            self._past.append((now, done))
        while len(self._past) > 2 and now - self._past[0][0] > _RATE_SECONDS:
            self._past.popleft()

    def text(self, done: int, total: int) -> str:
        """Return how far it is, how fast it goes, and how long it takes."""
        self.note(done)
        since, before = self._past[0]
        passed = time.monotonic() - since
        speed = (done - before) / passed if passed > 0 else 0.0
        far = f"{done}/{total}" if total else f"{done}"
        left = f", {_duration((total - done) / speed)} left" if speed and total > done else ""
        return f"{far}, {speed:.1f} clips/s{left}"
