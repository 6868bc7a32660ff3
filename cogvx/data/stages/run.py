"""Running a stage over manifests: in order, in bounded memory, and never twice for the same entry."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Literal

from cogvx.data.manifest import format_entry
from cogvx.data.paths import levels_up
from cogvx.data.stages.engine import Engine, InProcess, Job
from cogvx.data.stages.former import Former
from cogvx.data.stages.journal import Journal
from cogvx.data.stages.source import STREAM, OnBad, Part, count_entries, iter_items, parts_of
from cogvx.data.stages.stage import Failure, Item, Outcome, Stage, digest, has_failed
from cogvx.data.stages.stopping import Stop, stop_between_items
from cogvx.errors import CogvxError, InputError, MissingError, RefusedError, UsageError
from cogvx.files import clean, is_device

Report = Callable[[int, int], None]
OnFailure = Callable[[Item, CogvxError], None]

_PEEK = 1000  # entries of a stream that are looked at before a file is replaced
_MISSING_IN_A_ROW = 8  # items that lack something: then it is missing for all of them


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a stage is run.

    Attributes:
        engine: Processes of this machine, or Ray.
        workers: How many processes; local: 0 works in this one.
        ray_address: Of a Ray cluster (default: a Ray that is started here).
        item_seconds: A worker that needs longer for an item is ended, and the item has failed.
        shard: Only the i-th of every n shards, or entries of a single manifest; i from 1.
        overwrite: Whether everything is done anew and the result replaced, whatever it is.
    """

    engine: Literal["local", "ray"] = "local"
    workers: int = 1
    ray_address: str | None = None
    item_seconds: float = 600
    shard: tuple[int, int] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.workers < 0 or (self.engine == "ray" and self.workers < 1):
            raise UsageError(f"{self.workers} workers cannot work")
        if not self.item_seconds > 0:
            raise UsageError(f"an item needs time: {self.item_seconds:g} s is none")


@dataclass(frozen=True)
class RunResult:
    """What a run has done.

    Attributes:
        done: Entries that were processed.
        kept: Entries that there was nothing to do for: they were complete, or a former result had them.
        failed: Entries, and lines of manifests, that could not be used.
        seconds: How long it took.
        target: The manifest, the folder of shards, or "-".
        exit_code: 0, or 3 if there were failures; 5 if something was refused, 1 if there was a fault of cogvx.
        levels_up: How many folders up from the result its paths lead; 0 if they stay inside.
    """

    done: int
    kept: int
    failed: int
    seconds: float
    target: str
    exit_code: int = 0
    levels_up: int = 0


@dataclass(frozen=True)
class Work:
    """Items, and the manifest to make of them.

    Attributes:
        target: A path, or "-".
        items: Gives the items; it is told what to do with lines that are none.
        total: How many there are; 0 if unknown.
        again: Whether items can be called more than once.
    """

    target: str
    items: Callable[[OnBad], Iterator[Item]]
    total: int = 0
    again: bool = True


def run_stage(
    stage: Stage,
    source: str,
    target: str,
    *,
    options: RunOptions,
    root: str | None = None,
    report: Report | None = None,
    on_failure: OnFailure | None = None,
    on_stop: Callable[[], None] = lambda: None,
) -> RunResult:
    """Run a stage over a manifest, or over a folder of them.

    The order stays. What a former result at the target has, made with the same settings, is taken over; what failed is
    tried again. A run that was killed goes on where it was. SIGINT and SIGTERM let the running items end first.

    Args:
        stage: Not opened.
        source: A manifest, "-" for standard input, or a folder or pattern of shards (*.jsonl).
        target: A manifest, "-" for standard output; for shards a folder or "-".
        options: How to run it.
        root: What the paths of the source must stay inside (default: its folder).
        report: Told how many entries are done, of how many (0: unknown).
        on_failure: Told each item that cannot be used; a broken line is an item without an entry.
        on_stop: Called when a signal asks to stop.

    Raises:
        InputError: The source cannot be read, or holds nothing.
        UsageError: The target is the source, another run's, or something that would be lost.
        MissingError: The disk is full, or something that the stage needs is missing.
    """
    works = [
        Work(part.target, _items_of(part, root), count_entries(part), part.source != STREAM)
        for part in parts_of(source, target, options.shard)
    ]
    result = run_works(stage, works, target, options=options, report=report, on_failure=on_failure, on_stop=on_stop)
    if works and not (result.done or result.kept or result.failed):
        raise InputError(f"{'stdin' if source == STREAM else clean(source)}: no entries in it")
    return result


def run_works(
    stage: Stage,
    works: list[Work],
    target: str,
    *,
    options: RunOptions,
    report: Report | None = None,
    on_failure: OnFailure | None = None,
    on_stop: Callable[[], None] = lambda: None,
) -> RunResult:
    """Run a stage over items of any origin (see run_stage)."""
    started = time.monotonic()
    engine = _engine(stage, options)
    total = sum(work.total for work in works) if all(work.total for work in works) else 0
    with stop_between_items(on_stop) as stop:
        run = _Run(stage, engine, stop, options, total, report, on_failure)
        try:
            for work in works:
                run.work(work)
                if stop():
                    break
        finally:
            engine.close()
    return run.result(target, time.monotonic() - started)


@dataclass(frozen=True)
class Plan:
    """What a run would do: how many entries are to be done, to be kept, and cannot be used."""

    todo: int
    kept: int
    failed: int


def plan_stage(
    stage: Stage,
    source: str,
    target: str,
    *,
    options: RunOptions,
    root: str | None = None,
    on_failure: OnFailure | None = None,
) -> Plan:
    """Return what run_stage would do; nothing is written. Arguments and errors are those of run_stage."""
    todo = kept = 0
    bad: list[str] = []

    def on_bad(place: str, error: CogvxError) -> None:
        bad.append(place)
        if on_failure is not None:
            on_failure(Item(place, {}, None, place), error)

    for part in parts_of(source, target, options.shard):
        items = _items_of(part, root)
        work = Work(part.target, items, again=part.source != STREAM)
        with contextlib.ExitStack() as stack:
            found = items(on_bad)
            former = None
            if part.target != STREAM:
                former, found = _former(stage, work, found, options)
                if former is not None:
                    stack.callback(former.close)
            for item in found:
                done = _ready(stage, item, former, options) is not None
                kept, todo = kept + done, todo + (not done)
    return Plan(todo, kept, len(bad))


class _Run:
    """One run: its counts, and where they are told."""

    def __init__(
        self,
        stage: Stage,
        engine: Engine,
        stop: Stop,
        options: RunOptions,
        total: int,
        report: Report | None,
        on_failure: OnFailure | None,
    ) -> None:
        self._stage, self._engine, self._stop, self._options, self._total = stage, engine, stop, options, total
        self._report = report or (lambda done, total: None)
        self._on_failure = on_failure or (lambda item, error: None)
        self._done = self._kept = self._failed = self._levels = 0
        self._codes: set[int] = set()
        self._missing, self._missing_from = 0, 0

    def work(self, work: Work) -> None:
        """Make one manifest."""
        base = Path() if work.target == STREAM else Path(work.target).parent
        if work.target == STREAM:
            self._to_stream(work, base, sys.stdout.buffer)
        elif is_device(Path(work.target)):
            with open(work.target, "wb", buffering=0) as file:
                self._to_stream(work, base, file)
        else:
            self._to_file(work, base)

    def result(self, target: str, seconds: float) -> RunResult:
        """Return what has been done."""
        code = 0 if not self._failed else next((code for code in (1, RefusedError.exit_code) if code in self._codes), 3)
        return RunResult(self._done, self._kept, self._failed, seconds, target, code, self._levels)

    def _to_stream(self, work: Work, base: Path, stream: IO[bytes]) -> None:
        jobs = self._jobs(self._stop.read(work.items(self._bad)), None, None)
        for job, outcome in self._engine.run(jobs, base, self._stop):
            stream.write(outcome.lines)
            stream.flush()  # the next command in the pipe may start on it
            self._note(job, outcome, None)

    def _to_file(self, work: Work, base: Path) -> None:
        target, stage, options = Path(work.target), self._stage, self._options
        if target.is_dir():
            raise UsageError(f"{clean(str(target))} is a folder; name a file")
        rows = 0
        with contextlib.ExitStack() as stack:
            former, items = _former(stage, work, work.items(self._bad), options)
            if former is not None:
                stack.callback(former.close)
            journal = Journal(target, stage=stage.name, settings=stage.settings(), overwrite=options.overwrite)
            stack.callback(journal.close)
            resumed: list[int] = [0]
            jobs = self._jobs(self._stop.read(items), journal, former, resumed)
            for job, outcome in self._engine.run(jobs, base, self._stop):
                record = journal.append(job.digest, outcome.lines, outcome.failure)
                rows += record.rows
                self._note(job, outcome, journal, record.start)
            if self._stop():
                return
            if rows or resumed[0]:
                journal.finish()
            else:
                journal.discard()

    def _jobs(
        self, items: Iterator[Item], journal: Journal | None, former: Former | None, resumed: list[int] | None = None
    ) -> Iterator[Job]:
        """Yield what is not in the journal yet, whose end is cut off if it is of other items."""
        records = iter(()) if journal is None else journal.records()
        record = next(records, None)
        for item in items:
            self._levels = max(self._levels, levels_up(item.entry))
            mark = digest(item)
            if record is not None and record.digest == mark:
                if resumed is not None:
                    resumed[0] += record.rows
                self._resumed(item, record.failure)
                record = next(records, None)
                continue
            if record is not None and journal is not None:
                journal.cut(record.start)
                record = None
            rows = _ready(self._stage, item, former, self._options)
            yield Job(item, mark, None if rows is None else b"".join(map(format_entry, rows)))
        if record is not None and journal is not None and not self._stop():
            journal.cut(record.start)

    def _resumed(self, item: Item, failure: Failure | None) -> None:
        if failure is None:
            self._kept += 1
        else:
            self._fail(item, failure.exception(), failure.exit_code)
        self._tell()

    def _note(self, job: Job, outcome: Outcome, journal: Journal | None, start: int = 0) -> None:
        """Count a job that is done; stop if what it lacks is missing for every one."""
        failure = outcome.failure
        if failure is None:
            self._kept += job.lines is not None
            self._done += job.lines is None
            self._missing = 0 if job.lines is None else self._missing
        else:
            self._fail(job.item, failure.exception(), failure.exit_code)
            if failure.exit_code != MissingError.exit_code:
                self._missing = 0
            else:
                self._missing_from = start if not self._missing else self._missing_from
                self._missing += 1
        self._tell()
        if self._missing >= _MISSING_IN_A_ROW and failure is not None:
            if journal is not None:
                journal.cut(self._missing_from)  # the next run is to try them again
            raise failure.exception()

    def _bad(self, place: str, error: CogvxError) -> None:
        self._fail(Item(place, {}, None, place), error, error.exit_code)
        self._tell()

    def _fail(self, item: Item, error: CogvxError, exit_code: int) -> None:
        self._failed += 1
        self._codes.add(exit_code)
        self._on_failure(item, error)

    def _tell(self) -> None:
        self._report(self._done + self._kept + self._failed, self._total)


def _items_of(part: Part, root: str | None) -> Callable[[OnBad], Iterator[Item]]:
    return lambda on_bad: iter_items(part, root, on_bad)


def _engine(stage: Stage, options: RunOptions) -> Engine:
    if options.engine == "ray":
        from cogvx.data.stages.ray_data import RayEngine

        return RayEngine(stage, workers=options.workers, seconds=options.item_seconds, address=options.ray_address)
    if options.workers == 0:
        return InProcess(stage)
    from cogvx.data.stages.local import LocalEngine

    return LocalEngine(stage, workers=options.workers, seconds=options.item_seconds)


def _former(
    stage: Stage, work: Work, items: Iterator[Item], options: RunOptions
) -> tuple[Former | None, Iterator[Item]]:
    """Return the former result at a target, if there is one to continue, and the items that are to be read.

    Raises:
        UsageError: What is there is something else.
    """
    target = Path(work.target)
    if options.overwrite or not target.is_file() or is_device(target):
        return None, items
    former = Former(target, stage)
    try:
        if work.again:
            former.check(work.items(lambda place, error: None))
        else:
            first = list(islice(items, _PEEK))
            items = chain(first, items)
            former.check(first)
    except BaseException:
        former.close()
        raise
    return former, items


def _ready(stage: Stage, item: Item, former: Former | None, options: RunOptions) -> list[dict] | None:
    """Return an item's rows if nothing is to be done for it, else None."""
    if options.overwrite:
        return None
    if not stage.wanted(item.entry) and not has_failed(item.entry, stage):
        return [item.entry]
    return None if former is None else former.taken_over(item)
