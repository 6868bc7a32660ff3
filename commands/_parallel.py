"""Work on many things in a few threads, with the results in the order of the things."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> "Iterator[tuple[Item, Future[Result]]]":
    """Yield each item with the future of its result, in order; no more than a few are ahead.

    The threads are daemons: after Ctrl-C nobody waits for an endpoint that hangs.

    Args:
        work: Called in the threads.
        items: Read as they are needed.
        workers: Threads; 0: the work is done in this one, which native code that computes for long wants.
    """
    if workers == 0:
        for item in items:
            future = Future[Result]()
            try:
                future.set_result(work(item))
            except Exception as error:
                future.set_exception(error)
            yield item, future
        return
    tasks: queue.SimpleQueue[tuple[Item, Future[Result]] | None] = queue.SimpleQueue()

    def run() -> None:
        while (task := tasks.get()) is not None:
            item, future = task
            try:
                future.set_result(work(item))
            except BaseException as error:
                future.set_exception(error)

    for _ in range(workers):
        threading.Thread(target=run, daemon=True).start()
    ahead: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            task = (item, Future[Result]())
            tasks.put(task)
            ahead.append(task)
            if len(ahead) >= 2 * workers:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()
    finally:
        while not tasks.empty():
            tasks.get()
        for _ in range(workers):
            tasks.put(None)
