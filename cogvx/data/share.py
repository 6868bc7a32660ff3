"""Work on a cache that several processes share without knowing of each other: each file is made once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cogvx.data.cache import Claim, claim
from cogvx.errors import CogvxError, InputError, RefusedError


@dataclass(frozen=True, eq=False)
class Job:
    """One file to make.

    Attributes:
        path: The file, <cache>/<kind>/<two letters>/<key>.safetensors.
        check: Raises an InputError if the file is there but not whole.
        prepare: Reads what is needed, in a thread, while other files are made.
        make: Makes the file of what was read, in the caller's thread.
        owner: Number of the thing that the file is for.
    """

    path: Path
    check: Callable[[Path], object]
    prepare: Callable[[], Any]
    make: Callable[[Any], None]
    owner: int = 0


Outcome = Literal["written", "kept"] | CogvxError


def share(jobs: Iterable[Job], *, num_workers: int = 1, overwrite: bool = False) -> Iterator[tuple[Job, Outcome]]:
    """Make the files that are missing, and yield each job with what became of it, in the order in which they are done.

    Files that another process is making are left to it; at the end they are waited for, and made here if it was killed.

    Args:
        jobs: What is wanted; taken only as far as needed.
        num_workers: Threads that prepare.
        overwrite: Whether files that are there are made anew, once.

    Raises:
        MissingError: The disk is full. An InputError or RefusedError of one job is its outcome instead.
    """
    made: set[Path] = set()
    running: deque[tuple[Job, Claim, Future[Any]]] = deque()
    later: list[Job] = []
    pool = ThreadPoolExecutor(max(num_workers, 1), thread_name_prefix="prepare")

    def there(job: Job) -> bool:
        return (not overwrite or job.path in made) and _whole(job)

    def finish() -> tuple[Job, Outcome]:
        job, right, future = running.popleft()
        with right:
            try:
                job.make(future.result())
            except (InputError, RefusedError) as error:
                return job, error
            made.add(job.path)
            return job, "written"

    def begin(job: Job, right: Claim) -> bool:
        """Start a job; false if its file has been made before it was claimed."""
        if there(job):
            right.release()
            return False
        running.append((job, right, pool.submit(job.prepare)))
        return True

    try:
        for job in jobs:
            right = None if there(job) else claim(job.path)
            if right is None:
                if there(job):
                    yield job, "kept"
                else:
                    later.append(job)
            elif not begin(job, right):
                yield job, "kept"
            while len(running) > num_workers:
                yield finish()
        while running:
            yield finish()
        # Nothing is claimed here while others are waited for: two processes would wait for each other.
        for job in later:
            right = None if there(job) else claim(job.path, wait=True)
            yield finish() if right is not None and begin(job, right) else (job, "kept")
    finally:
        for _, right, future in running:
            future.cancel()
            right.release()
        pool.shutdown(wait=False, cancel_futures=True)


def _whole(job: Job) -> bool:
    """Whether a job's file is there, and as long as it should be."""
    if not job.path.exists():
        return False
    try:
        job.check(job.path)
    except InputError:
        return False
    return True
