"""A process that works on items for another one, one at a time; it may die of them without harm to that one."""

import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path

from cogvx.data.stages.stage import Failure, Item, Outcome, Stage, process_item
from cogvx.errors import CogvxError, InputError, MissingError

READY, DONE, BROKEN = b"R", b"D", b"B"
_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Worker:
    """A working process, seen from the one that started it.

    Args:
        blob: The stage, pickled.
        base: Folder that the results' paths are relative to.
        seconds: Longest time for one item.
    """

    def __init__(self, blob: bytes, base: Path, *, seconds: float) -> None:
        self._seconds, self._started = seconds, 0.0
        self.ready = False
        self.item: Item | None = None
        # A fresh process: a fork would inherit threads' locks, and half of what PyTorch has set up.
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, blob, str(base)), name="cogvx-worker")
        self._process.start()
        other.close()

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def give(self, item: Item) -> None:
        """Give the worker its next item; it must have answered the one before."""
        self.item, self._started = item, time.monotonic()
        if self.ready:
            self._send()

    def answer(self) -> Outcome | Failure | None:
        """Take what the worker has sent, or find that it has ended.

        Returns:
            What has become of its item, or why; None if it is only ready now.

        Raises:
            CogvxError: The stage cannot be opened.
            WorkerDied: It has ended before it was ready.
        """
        try:
            message = self.connection.recv_bytes()
        except (EOFError, OSError):
            how = self._how_it_ended()
            if not self.ready:
                raise WorkerDied(how) from None
            return Failure(f"the process that worked on it {how}", InputError.exit_code)
        kind, content = message[:1], message[1:]
        if kind == READY:
            self.ready, self._started = True, time.monotonic()
            if self.item is not None:
                self._send()
            return None
        if kind == BROKEN:
            failure = Failure(**json.loads(content))
            if failure.trace:
                raise RuntimeError(f"a worker could not start\n{failure.trace}")
            raise failure.exception()
        header, _, lines = content.partition(b"\n")
        found = json.loads(header)
        return Outcome(lines, None if found is None else Failure(**found))

    def left(self) -> float:
        """Return the seconds that its item may still take; opening the stage may take any time."""
        return self._started + self._seconds - time.monotonic() if self.ready else float("inf")

    def too_slow(self) -> Failure:
        """End the worker because of its item, and say so."""
        self.kill()
        return Failure(f"it takes longer than {self._seconds:g} s", InputError.exit_code)

    def close(self) -> None:
        """Let the worker close its stage and end."""
        self.connection.close()
        self._process.join(timeout=5)
        self.kill()

    def kill(self) -> None:
        """End the worker, and all that it has started, at once."""
        if self._process.is_alive():
            try:
                os.killpg(self._process.pid or 0, signal.SIGKILL)
            except (AttributeError, OSError):  # Windows, or it has no group of its own yet
                self._process.kill()
        self._process.join()
        self.connection.close()

    def _send(self) -> None:
        item = self.item
        assert item is not None
        content = vars(item) | {"path": None if item.path is None else str(item.path)}
        try:
            self.connection.send_bytes(json.dumps(content).encode())
        except OSError:  # it has just died: answer() finds that
            pass

    def _how_it_ended(self) -> str:
        self._process.join(timeout=5)
        code = self._process.exitcode
        self.kill()
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return f"was ended by {name}{' (out of memory?)' if -code == 9 else ''}"
        return "broke off" if code is None else f"ended with exit status {code}"


class WorkerDied(Exception):
    """A worker has ended before it was ready; the text says how."""


def serve(connection: Connection, blob: bytes, base: str) -> None:
    """Open a stage and process items until the connection ends: the whole life of a worker."""
    _stand_alone()
    for name in _LIBRARIES:  # processes share the work, not threads; and the number of threads changes last bits
        os.environ.setdefault(name, "1")
    try:
        stage: Stage = pickle.loads(blob)
        stage.open()
    except CogvxError as error:
        _send(connection, BROKEN, vars(Failure(str(error), error.exit_code)))
        return
    except Exception as error:
        _send(connection, BROKEN, vars(Failure(str(error), 1, trace=traceback.format_exc())))
        return
    try:
        _send(connection, READY, None)
        while True:
            content = json.loads(connection.recv_bytes())
            path = content.pop("path")
            item = Item(**content, path=None if path is None else Path(path))
            outcome = process_item(stage, item, Path(base))
            failure = None if outcome.failure is None else vars(outcome.failure)
            _send(connection, DONE, failure, outcome.lines)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        stage.close()


def start_error(name: str, how: str) -> MissingError:
    """Return the error for a stage whose workers die again and again before they are ready."""
    return MissingError(f"{name}: a worker {how} while it started; is there enough memory for so many --workers?")


def _send(connection: Connection, kind: bytes, header: object, lines: bytes = b"") -> None:
    connection.send_bytes(kind + json.dumps(header).encode() + (b"\n" + lines if kind == DONE else b""))


def _stand_alone() -> None:
    """Have nothing of the parent's but the connection: not its terminal, its pipes, or a life after it."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for the parent, which lets the running items end
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)  # what a library prints must not stand between the rows
    sys.stdout = sys.stderr
    for name in ("SIGTERM", "SIGHUP", "SIGINT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process, and all that it has started, when its parent has ended, however that was."""
    wait([sentinel])
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
