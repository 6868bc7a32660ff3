"""Stages over processes of this machine: an item that kills its process, or hangs, costs that item only."""

import pickle
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from cogvx.data.stages.engine import Job, Stopping, checked
from cogvx.data.stages.stage import Failure, Outcome, Stage, failed
from cogvx.data.stages.worker import Worker, WorkerDied, start_error

_AHEAD = 32  # jobs in memory for each worker: one slow item does not hold up the others for long
_STARTS = 3  # workers that may die in a row before one is ready
_TICK = 0.5  # seconds between looks at the clock


@dataclass(eq=False)
class _Slot:
    """A job in its place in the order.

    Attributes:
        job: The job.
        outcome: Once it is known.
        given_up: Whether it is left because the run stops.
    """

    job: Job
    outcome: Outcome | None = None
    given_up: bool = False


class LocalEngine:
    """Runs a stage in processes of this machine.

    Args:
        stage: Not opened.
        workers: Processes, at least 1.
        seconds: Longest time for one item.
    """

    def __init__(self, stage: Stage, *, workers: int, seconds: float) -> None:
        self._stage, self._most, self._seconds = stage, workers, seconds
        self._blob = pickle.dumps(stage)
        self._base = Path()
        self._workers: dict[Worker, _Slot | None] = {}
        self._deaths = 0

    def run(self, jobs: Iterator[Job], base: Path, stopping: Stopping) -> Iterator[tuple[Job, Outcome]]:
        """Yield each job with its outcome, in order (see Engine)."""
        if base != self._base:  # workers know the folder of the results
            self.close()
            self._base = base
        window: deque[_Slot] = deque()
        more = True
        while more or window:
            while window and window[0].outcome is not None:
                slot = window.popleft()
                assert slot.outcome is not None
                yield slot.job, slot.outcome
            if stopping():
                more = False
                self._give_up()
            if window and window[0].given_up:
                return
            if more and len(window) < _AHEAD * self._most and (idle := self._idle()):
                job = next(jobs, None)
                if job is None:
                    more = False
                elif job.lines is not None:
                    window.append(_Slot(job, Outcome(job.lines)))
                else:
                    window.append(_Slot(job))
                    self._give(window[-1], None if idle is True else idle)
                self._collect(0.0)
            elif window and window[0].outcome is None:
                self._collect(_TICK)

    def close(self) -> None:
        """End all processes."""
        for worker, slot in self._workers.items():
            if slot is None:
                worker.close()
            else:
                worker.kill()
        self._workers.clear()

    def _idle(self) -> "Worker | bool":
        """Return a worker that has nothing to do; true if one more may be started, else false."""
        for worker, slot in list(self._workers.items()):
            if slot is None and worker.alive:
                return worker
            if slot is None:  # ended by something else: no item is to blame
                worker.kill()
                del self._workers[worker]
        return len(self._workers) < self._most

    def _give(self, slot: _Slot, worker: Worker | None = None) -> None:
        worker = worker or Worker(self._blob, self._base, seconds=self._seconds)
        self._workers[worker] = slot
        worker.give(slot.job.item)

    def _give_up(self) -> None:
        """Leave the items of workers that are not ready yet; those that have begun are ended."""
        for worker, slot in list(self._workers.items()):
            if not worker.ready:
                worker.kill()
                del self._workers[worker]
                if slot is not None:
                    slot.given_up = True

    def _collect(self, seconds: float) -> None:
        """Take what workers have sent within some time, and end those whose item takes too long."""
        busy = {worker.connection: worker for worker, slot in self._workers.items() if slot is not None}
        if not busy:
            return
        for connection in wait(list(busy), timeout=seconds):
            worker = busy.pop(connection)  # type: ignore[call-overload]
            slot = self._workers[worker]
            assert slot is not None
            try:
                answer = worker.answer()
            except WorkerDied as death:
                del self._workers[worker]
                self._deaths += 1
                if self._deaths >= _STARTS:
                    raise start_error(self._stage.name, str(death)) from None
                self._give(slot)
                continue
            if answer is None:
                self._deaths = 0
                continue
            self._settle(worker, slot, answer)
        for worker in busy.values():
            slot = self._workers[worker]
            if slot is not None and worker.left() < 0:
                self._settle(worker, slot, worker.too_slow())

    def _settle(self, worker: Worker, slot: _Slot, answer: Outcome | Failure) -> None:
        """Note what became of a worker's item; a Failure means that the worker is gone."""
        if isinstance(answer, Failure):
            del self._workers[worker]
            slot.outcome = failed(self._stage, slot.job.item, answer)
        else:
            self._workers[worker] = None
            slot.outcome = checked(answer)
