"""What a command prints: results on stdout, everything else on stderr, progress only where it is wanted."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class Console:
    """Where a command's words go.

    Attributes:
        quiet: Errors only on stderr.
        verbose: Details on stderr.
        json: Results as one JSON object a line.
        silent_stdout: stdout carries the bytes of a file (`-o -`), so no result is printed.
    """

    quiet: bool = False
    verbose: bool = False
    json: bool = False
    silent_stdout: bool = False

    def result(self, text: Any, record: dict[str, Any]) -> None:
        """Print one result: the text, or with --json the record."""
        if self.silent_stdout:
            return
        line = json.dumps(record, ensure_ascii=False, default=str) if self.json else _clean(str(text))
        sys.stdout.write(line + "\n")
        sys.stdout.flush()  # the next command in the pipe may start on it now

    def table(self, rows: list[list[str]], *, header: list[str]) -> None:
        """Print rows as aligned columns on stdout."""
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        for row in [header, *rows]:
            line = "  ".join(_clean(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
            sys.stdout.write(line.rstrip() + "\n")

    def failure(self, source: str, error: Exception, message: str) -> None:
        """Report an input that could not be used: on stderr, and with --json on stdout too."""
        known = source.split(" (")[0] in message
        _to_stderr(f"cogvx: error: {message if known else f'{source}: {message}'}")
        if self.json:
            self.result("", {"input": source, "error": message, "exit_code": getattr(error, "exit_code", 1)})

    def warn(self, text: str) -> None:
        """Say something that the user should know, even with --quiet."""
        _to_stderr(f"cogvx: warning: {text}")

    def note(self, text: str) -> None:
        """Say what happens."""
        if not self.quiet:
            _to_stderr(f"cogvx: {text}")

    def detail(self, text: str) -> None:
        """Say more, with --verbose."""
        if self.verbose:
            _to_stderr(f"cogvx: {text}")

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[str, int, int], None]]:
        """Give a function `report(stage, done, total)` for long work.

        On a terminal it moves a bar with the time left, elsewhere it prints a line at most every five seconds.
        """
        if self.quiet:
            yield lambda stage, done, total: None
        elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            with _bar(title) as report:
                yield report
        else:
            yield _lines(title)


@contextmanager
def _bar(title: str) -> Iterator[Callable[[str, int, int], None]]:
    import rich.console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    console = rich.console.Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    progress.remove_task(task)
                tasks.clear()
                tasks[stage] = progress.add_task(f"{_clean(title)[:40]} {stage}".strip(), total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report


def _lines(title: str) -> Callable[[str, int, int], None]:
    start: dict[str, float] = {}
    last = [time.monotonic()]

    def report(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        start.setdefault(stage, now)
        if now - last[0] < SECONDS_BETWEEN_LINES:
            return
        last[0] = now
        elapsed = now - start[stage]
        left = f", {_duration(elapsed / done * (total - done))} left" if done and elapsed else ""
        _to_stderr(f"cogvx: {title[:60]}: {stage} {done}/{total}{left}")

    return report


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _clean(text: str) -> str:
    from cogvx.files import clean

    return clean(text)


def _to_stderr(text: str) -> None:
    print(_clean(text), file=sys.stderr, flush=True)


def quiet_libraries(verbose: bool = False) -> None:
    """Keep transformers and huggingface_hub from writing bars and advice on stderr."""
    import logging
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if verbose:
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    for name in ("transformers", "huggingface_hub", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|transformers)\.")
