"""Runs one step of a suite in a process of its own, shows how it goes, and keeps all that it says in a log."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ._console import Console

_PROGRESS = re.compile(r"cogvx: (?P<what>.*): (?P<stage>[\w -]+) (?P<done>\d+)/(?P<total>\d+)(?P<left>, .* left)?")
_KILL_AFTER = 10.0  # seconds that a step has to end once it is told to
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


@dataclass(frozen=True)
class Place:
    """Where a step stands in its plan.

    Attributes:
        number: From 1.
        total: Steps of the plan.
        name: Of the step.
    """

    number: int
    total: int
    name: str

    def __str__(self) -> str:
        return f"[{self.number}/{self.total}] {self.name}"


def run_step(arguments: tuple[str, ...], log: Path, place: Place, console: Console, *, keep_open: int) -> int:
    """Run `cogvx` with some arguments and return its exit code; that of a signal is -number.

    Its stdout goes to the log; its stderr too, and of that progress, warnings and errors are shown.

    Args:
        arguments: Of the command.
        log: File that is appended to.
        place: Of the step, for the lines that are shown.
        console: Where they go.
        keep_open: A descriptor that the process holds as long as it lives: the run's lock.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file, console.progress(str(place)) as report:
        file.write(f"$ cogvx {' '.join(arguments)}\n".encode("utf-8", "replace"))
        file.flush()
        with _process(arguments, file, keep_open) as process:
            assert process.stderr is not None
            show = _shower(place, console, report)
            for line in process.stderr:
                file.write(line)
                file.flush()
                show(line.decode("utf-8", "replace").rstrip("\n"))
        file.write(f"exit code {process.returncode}\n".encode())
    return process.returncode


@contextlib.contextmanager
def _process(arguments: tuple[str, ...], output: IO[bytes], keep_open: int) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a step and wait for it; where the block is left early, end it."""
    settings = {} if os.name == "nt" else {"pass_fds": (keep_open,), "preexec_fn": _dies_with(os.getpid())}
    process = subprocess.Popen(
        [sys.executable, "-m", "cogvx", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        **settings,  # type: ignore[call-overload]
    )
    try:
        yield process
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_KILL_AFTER)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stderr is not None:
            process.stderr.close()


def _dies_with(parent: int) -> Callable[[], None] | None:
    """Return what makes a new process end when the one that started it is killed, where the system can do that."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return None

    def bind() -> None:
        prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed before this line
            os._exit(1)

    return bind


def _shower(place: Place, console: Console, report: Callable[[str, int, int], None]) -> Callable[[str], None]:
    """Return what shows a line of a step's stderr: in the bar of a terminal, else as a line of its own."""
    bar = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def show(line: str) -> None:
        found = _PROGRESS.fullmatch(line)
        if found and bar:
            # Of a batch, its own count tells more than that of the item.
            batch = re.match(r"(\d+)/(\d+) ", found["what"])
            done, total = (batch[1], batch[2]) if batch else (found["done"], found["total"])
            report("clip" if batch else found["stage"], int(done) - bool(batch), int(total))
        elif found or console.verbose:
            console.note(f"{place}: {line.removeprefix('cogvx: ')}")
        elif line.startswith(("cogvx: warning: ", "cogvx: error: ")):
            console.warn(f"{place}: {line.removeprefix('cogvx: ').removeprefix('warning: ')}")

    return show
