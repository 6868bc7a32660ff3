"""The work of `cogvx eval run`: read a suite, check all of it, run its steps one after another, say what came out."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogvx.errors import CogvxError, MissingError, UsageError

from ._console import Console, quiet_libraries
from ._options import DryRun, Json, Overwrite, Quiet, Verbose

if TYPE_CHECKING:
    from cogvx.evaluation.suites import Plan, Step, Suite
    from cogvx.evaluation.suites.record import RunLog

SUITE, LOGS = "suite.toml", "logs"
_FAULT, _PARTLY, _MISSING = 1, 3, 4


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """The flags of eval run."""

    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            "--output-path",
            metavar="DIR",
            rich_help_panel="Output",
            show_default=False,
            help="Folder of the run. Default: the suite's `output`, else evals/NAME.",
        ),
    ] = None
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            show_default=False,
            help="Set a field of the suite, such as systems.0.model=5b or prompts.0.limit=10; repeatable.",
        ),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that is there; an error where none is.")
    ] = False
    overwrite: Overwrite = False
    dry_run: DryRun = False
    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False


@dataclass
class Outcome:
    """What became of the steps.

    Attributes:
        codes: Step -> exit code, of those that ran or were found done.
        not_run: Step -> why it was not run.
        left_out: Step -> what an optional one lacks.
        seconds: Step -> how long it ran.
    """

    codes: dict[str, int] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def run(source: str, flags: RunFlags) -> None:
    """Run a suite, or with --dry-run print its commands.

    Raises:
        typer.Exit: With 3 when steps failed or clips could not be used, with 1 after a fault of cogvx.
        UsageError: The suite is not sound, or what is in the folder was made by another one.
        MissingError: Something that it needs is not here.
    """
    quiet_libraries(flags.verbose)
    console = Console(flags.quiet, flags.verbose, flags.json)
    suite, place, name = _read(source, flags)
    own = Path(source) if source != "-" and Path(source).is_dir() else None  # the folder of a run: it goes on there
    folder = flags.output or own or Path(suite.output or f"evals/{name}")
    plan, values = _plan(suite, folder, place)
    if flags.resume and not (folder / "run.jsonl").is_file():
        raise UsageError(f"--resume: there is no run in {folder}")
    if flags.dry_run:
        _print_plan(plan, console)
    console.note(f"{folder}: {len(plan.steps)} steps; looking whether all that they need is here")
    plan, left_out = _checked(plan, values, console, offline=flags.dry_run)
    if not flags.dry_run:
        _run_all(suite, plan, left_out, flags, console)


def _read(source: str, flags: RunFlags) -> "tuple[Suite, Callable[[str], str], str]":
    """Return a suite, what tells the places of its keys, and its name."""
    from cogvx.evaluation.suites import Suite, check_suite
    from cogvx.training.options_toml import parse_placed, read_text

    path = Path(source) / SUITE if source != "-" and Path(source).is_dir() else Path(source)
    text, called = read_text(path)
    suite, place = parse_placed(Suite, text, name=called, changes=flags.changes or [])
    check_suite(suite, place)
    name = path.resolve().parent.name if path.name == SUITE else path.stem
    return suite, place, name if source != "-" else "suite"


def _plan(suite: "Suite", folder: Path, place: Callable[[str], str]) -> "tuple[Plan, dict[str, dict[str, Any]]]":
    """Return the plan, and what the command line makes of each step's arguments.

    Raises:
        UsageError: A flag is wrong, or nothing would be measured.
    """
    from cogvx.evaluation.suites import make_plan

    from ._eval_ready import parse_step

    if str(folder).startswith("-"):
        folder = Path("./") / folder
    plan = make_plan(suite, folder)
    measured = {step.key for step in plan.steps if step.kind == "metric"}
    for i, metric in enumerate(suite.metrics):
        if f"metrics.{i}" not in measured:
            raise UsageError(f"{place(f'metrics.{i}')}: metrics.{i}: no system has what {metric.title} measures")
    active = {step.system for step in plan.steps}
    for i, system in enumerate(suite.systems):
        if system.name not in active:
            raise UsageError(
                f"{place(f'systems.{i}')}: systems.{i}: {system.name} has no clips, and no prompts for any"
            )
    return plan, {step.name: parse_step(step, place) for step in plan.steps}


def _print_plan(plan: "Plan", console: Console) -> None:
    for step in plan.steps:
        record = {"step": step.name, "kind": step.kind, "command": ["cogvx", *step.arguments]}
        console.result(step.command, record | {"makes": step.makes, "optional": step.optional})


def _checked(
    plan: "Plan", values: dict[str, dict[str, Any]], console: Console, *, offline: bool
) -> "tuple[Plan, dict[str, str]]":
    """Return the plan without the optional steps that lack something, and what these lack.

    Raises:
        CogvxError: Something that a step needs is not here; all such things stand on stderr.
    """
    from ._eval_clips import quiet_bars
    from ._eval_ready import find_problems

    quiet_bars()
    problems = list(find_problems(plan, values, offline=offline))
    left_out = {one.step.name: str(one.error) for one in problems if one.step.optional}
    for name, why in left_out.items():
        console.warn(f"{name} is left out: {why}")
    hard = [one for one in problems if not one.step.optional]
    said: set[str] = set()
    for one in hard:
        if str(one.error) not in said:
            console.failure(one.step.name, one.error, f"{one.step.name}: {one.error}")
        said.add(str(one.error))
    if hard:
        error = hard[0].error
        kind = type(error) if isinstance(error, CogvxError) else MissingError
        raise kind(f"{len(hard)} of {len(plan.steps)} steps cannot run, so nothing was begun")
    console.note(f"all of it is here{f', but for {len(left_out)} steps that are left out' if left_out else ''}")
    return plan.without(left_out), left_out


def _run_all(suite: "Suite", plan: "Plan", left_out: dict[str, str], flags: RunFlags, console: Console) -> None:
    from cogvx.evaluation.suites.record import RunLog, locked
    from cogvx.files import write_text
    from cogvx.training.options_toml import dump_options

    with locked(plan.folder) as lock:
        log = RunLog(plan.folder)
        _refuse_changes(plan, log, overwrite=flags.overwrite)
        log.start({"suite": suite.title, "set": flags.changes or []})
        write_text(plan.folder / SUITE, dump_options(suite))
        outcome = Outcome(left_out=left_out)
        began = time.monotonic()
        for number, step in enumerate(plan.steps, start=1):
            _one(_Turn(step, number, len(plan.steps), lock), log, outcome, flags, console)
        _say_end(plan, outcome, time.monotonic() - began, console)
    code = _exit_code(outcome)
    if code:
        raise typer.Exit(code)


def _refuse_changes(plan: "Plan", log: "RunLog", *, overwrite: bool) -> None:
    """Refuse to mix clips of two commands in one folder, before any work.

    Raises:
        UsageError: Which, and what to do.
    """
    for step in plan.steps:
        if step.kind == "clips" and not overwrite and (why := log.changed(step)):
            raise UsageError(_stale(step, why))


def _stale(step: "Step", why: str) -> str:
    return f"{step.makes}: {why}; --overwrite makes these clips again, another -o keeps them"


@dataclass(frozen=True)
class _Turn:
    """A step whose turn has come: its number among all, and the run's lock."""

    step: "Step"
    number: int
    total: int
    lock: int


def _one(turn: _Turn, log: "RunLog", outcome: Outcome, flags: RunFlags, console: Console) -> None:
    """Run one step unless it is done, or what it needs is not."""
    from cogvx.evaluation.suites.plan import report_without

    from ._eval_steps import Place, run_step

    step, place = turn.step, Place(turn.number, turn.total, turn.step.name)
    arguments = step.arguments
    if step.kind == "report":
        arguments = report_without(step, _absent(step))
        if not any(Path(one).is_file() for one in step.reads):
            outcome.not_run[step.name] = "there is no result to report"
            console.warn(f"{place}: not run: {outcome.not_run[step.name]}")
            return
    else:
        lost = [name for name in step.needs if not _usable(name, log, outcome)]
        if lost:
            outcome.not_run[step.name] = f"it needs {', '.join(lost)}"
            console.warn(f"{place}: not run: {outcome.not_run[step.name]}")
            return
    if log.is_done(step):
        outcome.codes[step.name] = 0
        console.note(f"{place}: done before{_value(step)}")
        _print(step, 0, None, console, skipped=True)
        return
    try:
        _make_room(step, log, overwrite=flags.overwrite)
    except UsageError as error:
        outcome.codes[step.name] = error.exit_code
        console.failure(step.name, error, str(error))
        return
    console.note(f"{place}: {step.command}" if flags.verbose else f"{place} ...")
    began = time.monotonic()
    log.begin(step)
    code = run_step(
        arguments, log.folder / LOGS / f"{step.name.replace(' ', '-')}.log", place, console, keep_open=turn.lock
    )
    seconds = time.monotonic() - began
    if code in (-2, 130):  # Ctrl-C is for all of the terminal
        raise KeyboardInterrupt
    log.end(step, code, seconds)
    outcome.codes[step.name], outcome.seconds[step.name] = code, seconds
    if code == 0:
        console.note(f"{place}: {seconds:.1f} s{_value(step)}")
    else:
        what = f"ended with {code}" if code >= 0 else f"was killed by signal {-code}"
        console.warn(f"{place}: {what} after {seconds:.1f} s{_value(step)}; see {_log_of(step, log)}")
    _print(step, code, seconds, console, skipped=False)


def _usable(name: str, log: "RunLog", outcome: Outcome) -> bool:
    """Whether a step has made something: one that ended with 3 may have, of the inputs that could be used."""
    code = outcome.codes.get(name)
    return code == 0 or (code == _PARTLY and name in log.steps and bool(log.steps[name].made))


def _absent(step: "Step") -> set[str]:
    return {one for one in step.reads if not Path(one).exists()}


def _log_of(step: "Step", log: "RunLog") -> Path:
    return log.folder / LOGS / f"{step.name.replace(' ', '-')}.log"


def _make_room(step: "Step", log: "RunLog", *, overwrite: bool) -> None:
    """Remove what an earlier run of a step has left, where it cannot be gone on with.

    Raises:
        UsageError: These are clips, which are not removed unasked; or files that no run has made.
    """
    target = Path(step.makes)
    if step.name not in log.steps:
        own = {target / "manifest.jsonl"} if step.kind == "clips" and step.system else set()
        if target.is_file() or (target.is_dir() and set(target.iterdir()) - own):
            if not overwrite:
                raise UsageError(f"{target} exists, and no run made it; --overwrite replaces it")
            _clear(step)
        return
    if step.kind != "clips":
        _remove(target)
        return
    why = log.stale(step)
    altered = log.altered(step)
    if not why and altered:
        why = f"{altered[0]} is not the file that was made"
    if why and not overwrite:
        raise UsageError(_stale(step, why))
    if why:
        _clear(step)


def _clear(step: "Step") -> None:
    """Remove what a step makes; in a folder of clips not their manifest, which the step before has made."""
    target = Path(step.makes)
    if step.kind != "clips" or not step.system or not target.is_dir():
        _remove(target)
        return
    for path in target.iterdir():
        if path.name != "manifest.jsonl":
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _value(step: "Step") -> str:
    """Return a result in some words."""
    if step.kind != "metric" or not Path(step.makes).is_file():
        return ""
    from cogvx.evaluation.result import read_result

    from ._eval_clips import cell

    try:
        result = read_result(step.makes)
    except CogvxError:
        return ""
    value = result.value if isinstance(result.value, dict) else {result.metric: result.value}
    shown = [f"{key} {cell(one)}" for key, one in value.items() if isinstance(one, int | float)]
    return f": {', '.join(shown[:4])}{', ...' if len(shown) > 4 else ''} ({result.n} clips)"


def _print(step: "Step", code: int, seconds: float | None, console: Console, *, skipped: bool) -> None:
    """Print what a step has made."""
    target = Path(step.makes)
    page = next(iter(sorted(target.glob("*.html"))), None) if step.kind == "report" and target.is_dir() else None
    record = {"step": step.name, "output": str(page or target), "exit_code": code, "skipped": skipped}
    record |= {} if seconds is None else {"seconds": round(seconds, 3)}
    if console.json:
        console.result("", record | {"command": ["cogvx", *step.arguments]})
    elif target.exists() and step.kind in ("metric", "report"):
        console.result(page or target, record)


def _say_end(plan: "Plan", outcome: Outcome, seconds: float, console: Console) -> None:
    failed = {name: code for name, code in outcome.codes.items() if code}
    ran = len(outcome.seconds)
    console.note(
        f"{ran} steps run in {seconds:.0f} s, {len(outcome.codes) - ran} done before"
        + (f", {len(outcome.left_out)} left out" if outcome.left_out else "")
    )
    for name, why in outcome.left_out.items():
        console.warn(f"left out: {name}: {why}")
    for name, code in failed.items():
        console.warn(f"failed: {name}: exit code {code}")
    for name, why in outcome.not_run.items():
        console.warn(f"not run: {name}: {why}")
    if failed or outcome.not_run:
        console.note("the same command does again what failed, and goes on")


def _exit_code(outcome: Outcome) -> int:
    codes = [code for code in outcome.codes.values() if code]
    if any(code == _FAULT or code < 0 for code in codes):
        return _FAULT
    return _PARTLY if codes or outcome.not_run else 0
