"""What runs a stage over many items: the contract of engines, and the simplest of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cogvx.data.stages.stage import Item, Outcome, Stage, process_item

Stopping = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Job:
    """One item, and what becomes of it if that is known already.

    Attributes:
        item: The item.
        digest: Of its entry.
        lines: Its rows, taken over from a former result; None if it is to be processed.
    """

    item: Item
    digest: str
    lines: bytes | None = None


class Engine(Protocol):
    """Runs a stage. It may run several times, one after the other, and starts its processes only when it must."""

    def run(self, jobs: Iterator[Job], base: Path, stopping: Stopping) -> Iterator[tuple[Job, Outcome]]:
        """Yield each job with its outcome, in order.

        Args:
            jobs: Taken only as far as needed: a bounded number is in memory.
            base: Folder that the results' paths are relative to.
            stopping: When it turns true, no more is begun and the rest is left; what has begun is ended if that can be.

        Raises:
            CogvxError: The stage cannot be opened, or an outcome says that all others would fail too.
        """

    def close(self) -> None:
        """End all processes."""


def checked(outcome: Outcome) -> Outcome:
    """Return an outcome; raise its error if every other item would meet it too."""
    if outcome.failure is not None and outcome.failure.fatal:
        raise outcome.failure.exception()
    return outcome


class InProcess:
    """Works in this process: nothing to start, but an item that crashes takes all with it, and none is too slow."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._opened = stage, False

    def run(self, jobs: Iterator[Job], base: Path, stopping: Stopping) -> Iterator[tuple[Job, Outcome]]:
        """Yield each job with its outcome, in order (see Engine)."""
        for job in jobs:
            if job.lines is not None:
                yield job, Outcome(job.lines)
                continue
            if not self._opened:
                self._stage.open()
                self._opened = True
            yield job, checked(process_item(self._stage, job.item, base))
            if stopping():
                return

    def close(self) -> None:
        """Close the stage."""
        if self._opened:
            self._stage.close()
            self._opened = False
