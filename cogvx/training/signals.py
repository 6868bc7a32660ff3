"""Stopping between two steps when a signal asks for it."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

# In the order in which they are told to the other ranks.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# Seconds that Python has to obey a second signal; it does not while PyTorch computes.
_GRACE = 1.0


class Stop:
    """Whether a signal came, and which; a second one ends the program at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}
        self._over = threading.Event()

    def caught(self) -> list[float]:
        """Return one 0 or 1 for each of SIGNALS, so that ranks can add theirs up."""
        return [float(self.number == number) for number in SIGNALS]

    def again(self, number: int) -> None:
        """Do what the signal does outside of training: by now everything is saved."""
        self._restore()
        signal.raise_signal(number)
        raise KeyboardInterrupt  # only reached where the signal is ignored

    def _take_over(self) -> None:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                self._before[number] = handler
                signal.signal(number, self._handle)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _watch(self, source: int, ours: frozenset[int]) -> None:
        """Say at once that a signal came, and end the program if Python cannot obey a second one."""
        count = 0
        while data := os.read(source, 1):
            if data[0] not in ours:
                continue
            count += 1
            if count == 1:
                again = "; Ctrl-C again aborts" if data[0] == signal.SIGINT else ""
                name = signal.Signals(data[0]).name
                with contextlib.suppress(OSError):
                    os.write(2, f"\ncogvx: {name}: stopping after this step, with a checkpoint{again}\n".encode())
            elif not self._over.wait(_GRACE):
                os._exit(128 + data[0])
        os.close(source)


@contextlib.contextmanager
def stop_between_steps() -> Iterator[Stop]:
    """Give what tells whether to stop; while the block runs, signals no longer interrupt it.

    Signals that were ignored stay so. Outside the main thread no signal can be caught.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # The system's handler writes to a pipe, whose reader speaks while the main thread may be deep in a backward pass.
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    before = signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    stop._take_over()
    watch = threading.Thread(target=stop._watch, args=(source, frozenset(stop._before)), daemon=True)
    watch.start()
    try:
        yield stop
    finally:
        stop._over.set()
        stop._restore()
        signal.set_wakeup_fd(before)
        os.close(sink)
        watch.join(timeout=_GRACE)
