"""Stopping between items when a signal asks for it."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

T = TypeVar("T")


class Stop:
    """Whether a signal came; a second one does what it does elsewhere, at once.

    Args:
        on_stop: Called when the first one comes.
    """

    def __init__(self, on_stop: Callable[[], None] = lambda: None) -> None:
        self.number: int | None = None
        self._on_stop = on_stop
        self._reading = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether to begin nothing more."""
        return self.number is not None

    def read(self, source: Iterator[T]) -> Iterator[T]:
        """Yield what a source yields; a signal that comes while it is waited for ends it."""
        while not self():
            try:
                self._reading = True
                value = next(source)
                self._reading = False
            except (StopIteration, _Interrupted):
                return
            finally:
                self._reading = False
            yield value

    def take_over(self) -> None:
        """Catch the signals that are not ignored; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                self._before[number] = handler
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Let signals do again what they did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.restore()
        self._on_stop()
        if self._reading:
            raise _Interrupted


class _Interrupted(BaseException):
    """A signal came while the next item was waited for."""


@contextlib.contextmanager
def stop_between_items(on_stop: Callable[[], None] = lambda: None) -> Iterator[Stop]:
    """Give what tells whether to stop; at the end the signal that came does what it does elsewhere."""
    stop = Stop(on_stop)
    stop.take_over()
    try:
        yield stop
    finally:
        stop.restore()
    if stop.number is not None:
        signal.raise_signal(stop.number)
