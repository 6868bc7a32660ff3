"""Stages over a Ray cluster: Ray Data carries items to actors, each of which has one of our worker processes.

So an item that hangs, or kills its process, costs what it costs on one machine, and the rows are the same.
"""

import contextlib
import json
import logging
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from cogvx.data.stages.engine import Job, Stopping, checked
from cogvx.data.stages.local import LocalEngine
from cogvx.data.stages.stage import Failure, Item, Outcome, Stage
from cogvx.errors import CogvxError, MissingError

_JOBS = 8192  # that one execution of Ray Data gets; actors are started anew for each
_BLOCK = 16  # most items that go to an actor at a time
_STORE = 256 << 20  # bytes of shared memory of a Ray that is started here
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name))


class RayEngine:
    """Runs a stage in actors of a Ray cluster; the files must be at the same paths on all of its machines.

    A stage may have a number `num_gpus`: what each actor needs of a GPU.

    Args:
        stage: Not opened.
        workers: Actors, at least 1; each takes a processor.
        seconds: Longest time for one item.
        address: Of a cluster; None starts a Ray on this machine, which ends with the engine.

    Raises:
        MissingError: Ray is not installed.
    """

    def __init__(self, stage: Stage, *, workers: int, seconds: float, address: str | None = None) -> None:
        try:
            import ray.data  # noqa: F401
        except ImportError as error:
            raise MissingError('--engine ray needs Ray: pip install "cogvx[ray]"') from error
        self._stage, self._workers, self._seconds, self._address = stage, workers, seconds, address
        self._blob = pickle.dumps(stage)
        self._started = False

    def run(self, jobs: Iterator[Job], base: Path, stopping: Stopping) -> Iterator[tuple[Job, Outcome]]:
        """Yield each job with its outcome, in order (see Engine). What has begun is given up when it is to stop."""
        while chunk := list(islice(jobs, _JOBS)):
            todo = [_packed(job.item) for job in chunk if job.lines is None]
            outcomes = self._outcomes(todo, base) if todo else iter(())
            for job in chunk:
                yield job, next(outcomes) if job.lines is None else Outcome(job.lines)
                if stopping():
                    return

    def close(self) -> None:
        """End the Ray that was started here."""
        if self._started:
            import ray

            ray.shutdown()
            self._started = False

    def _outcomes(self, todo: list[str], base: Path) -> Iterator[Outcome]:
        import ray

        self._start()
        block = max(1, min(_BLOCK, len(todo) // (4 * self._workers)))
        items: Any = ray.data.from_items([{"item": text} for text in todo], override_num_blocks=-(-len(todo) // block))
        results = items.map(
            Actor,
            fn_constructor_args=[self._blob, os.path.realpath(base), self._seconds, sys.path, os.getcwd()],
            compute=ray.data.ActorPoolStrategy(size=min(self._workers, items.num_blocks())),
            num_cpus=1,
            num_gpus=getattr(self._stage, "num_gpus", None),
        )
        try:
            for row in results.iter_rows():
                failure = json.loads(row["failure"])
                yield checked(Outcome(row["lines"], None if failure is None else Failure(**failure)))
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or ["no message"]
            raise MissingError(f"Ray cannot go on: {lines[-1]}; what is done is kept") from error

    def _start(self) -> None:
        import ray

        # Ray would take the GPUs away from actors that ask for none, and count who uses it.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it writes on stderr past all of Python's settings
        if not ray.is_initialized():
            quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
            own: dict[str, Any] = {"num_cpus": self._workers, "include_dashboard": False, "object_store_memory": _STORE}
            before = {number: signal.getsignal(number) for number in _SIGNALS}
            try:
                with _silent():
                    ray.init(address=self._address or "local", **quiet, **({} if self._address else own))
            except (ConnectionError, RuntimeError, ValueError) as error:
                lines = str(error).strip().splitlines() or ["no message"]
                raise MissingError(f"Ray does not start: {lines[0]}") from error
            finally:
                _restore(before)
            self._started = True
        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # It ends what brings nothing for half an hour; our own clock is the one that counts.
        context.execution_no_progress_timeout_s = max(1800, round(2 * self._seconds))
        context.execution_options.preserve_order = True


class Actor:
    """One actor: a stage in a worker process of its own, which it replaces when that dies.

    Args:
        blob: The stage, pickled.
        base: Folder that the results' paths are relative to.
        seconds: Longest time for one item.
        path: Where modules are found.
        folder: Where the run was started.
    """

    def __init__(self, blob: bytes, base: str, seconds: float, path: list[str], folder: str) -> None:
        sys.path += [entry for entry in path if entry not in sys.path]
        if os.path.isdir(folder):
            os.chdir(folder)
        self._engine = LocalEngine(pickle.loads(blob), workers=1, seconds=seconds)
        self._base = Path(base)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Process one item."""
        content = json.loads(row["item"])
        path = content.pop("path")
        job = Job(Item(**content, path=None if path is None else Path(path)), "")
        try:
            _, outcome = next(self._engine.run(iter([job]), self._base, lambda: False))
        except CogvxError as error:  # Ray would try again and again
            outcome = Outcome(b"", Failure(str(error), error.exit_code, fatal=True))
        failure = None if outcome.failure is None else vars(outcome.failure)
        return {"lines": outcome.lines, "failure": json.dumps(failure)}


def _packed(item: Item) -> str:
    return json.dumps(vars(item) | {"path": None if item.path is None else str(item.path)})


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Let nobody write on stderr for the block, not even a library's C++; errors come as exceptions."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _restore(before: dict[int, Any]) -> None:
    """Give signals their handlers back, which Ray replaces."""
    try:
        for number, handler in before.items():
            signal.signal(number, handler)
    except ValueError:  # not in the main thread, where Ray replaces none
        pass
