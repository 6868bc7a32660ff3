"""Decoding in a process of its own: whatever a file does to the decoder, here it is one InputError.

The process starts with the first clip, serves all later ones (see cogvx.data.decode_server), and ends with this one.
"""

import atexit
import contextlib
import dataclasses
import json
import math
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from cogvx.data.decode import decode
from cogvx.data.decode_motion import motion_shape
from cogvx.data.media import DEFAULT_LIMITS, WHOLE, Limits, Span, VideoInfo, check_bytes, check_size
from cogvx.errors import InputError, MissingError

_ENTRY = "import sys; sys.path.insert(0, {root!r}); from cogvx.data import decode_server; decode_server.serve({number})"
_ROOT = str(Path(__file__).resolve().parents[2])
_MAX_TEXT = 64 << 20  # bytes of one message that is no frame
_HEADER = struct.Struct(">cQ")
_TIME = struct.Struct(">d")


class DecodeServer:
    """The decoding process, seen from here.

    Args:
        entry: Python code that serves on the socket {number}, with {root} on its path.
    """

    def __init__(self, entry: str = _ENTRY) -> None:
        self._lock = threading.Lock()
        self._connection, other = socket.socketpair()
        # One thread per library in the fork; FFmpeg starts its own.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
        with tempfile.TemporaryFile() as errors, other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", entry.format(root=_ROOT, number=other.fileno())],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the parent, which then closes the socket
            )
            other.close()
            if self._connection.recv(1) != b"R":
                self._process.wait()
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
                self._connection.close()
                raise MissingError(f"the video decoder does not start: {lines[-1]}")

    def request(self, message: dict[str, object], descriptors: list[int]) -> int:
        """Send one request and return the number that answers it.

        Raises:
            ConnectionError: The process has ended.
        """
        with self._lock:
            try:
                socket.send_fds(self._connection, [json.dumps(message).encode()], descriptors)
                reply = self._connection.recv(4, socket.MSG_WAITALL)
            except OSError as error:
                raise ConnectionError(str(error)) from error
            except BaseException:  # interrupted: the answer would be taken for that of the next request
                self._connection.close()
                raise
        if len(reply) < 4:
            raise ConnectionError("the video decoder has ended")
        return int(struct.unpack(">i", reply)[0])

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """Leave the process to the parent that started it: this is a fork of that parent."""
        self._connection.close()
        self._process.returncode = 0  # not ours to wait for


_server: DecodeServer | None = None
_server_lock = threading.Lock()


@contextlib.contextmanager
def decode_isolated(
    source: Path | IO[bytes],
    *,
    span: Span = WHOLE,
    limits: Limits = DEFAULT_LIMITS,
    server: DecodeServer | None = None,
    times: list[float] | None = None,
    motion: bool = False,
) -> Iterator[tuple[VideoInfo, Iterator[np.ndarray]]]:
    """Decode a clip in a process of its own; otherwise as cogvx.data.decode.decode.

    Args:
        source: An open file with a descriptor, or the path of a folder of images.
        span: Which frames.
        limits: What may be decoded, and what the process may use for it.
        server: The process (default: the one that all share).
        times: Gets the time of each frame in seconds; only for a span without a rate.
        motion: Give lengths of motion vectors, float32 (r c), instead of frames.

    Raises:
        InputError: It cannot be decoded, or the process died of it.
        MissingError: The process cannot be started.
    """
    if not hasattr(os, "fork"):  # Windows: no isolation there
        yield decode(source, span=span, limits=limits, times=times, motion=motion)
        return
    message: dict[str, object] = {
        "folder": str(source.absolute()) if isinstance(source, Path) else None,
        "span": dataclasses.asdict(span),
        "limits": dataclasses.asdict(limits),
        "timed": times is not None,
        "motion": motion,
    }
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as pipe:
        try:
            descriptors = [writing] if isinstance(source, Path) else [writing, source.fileno()]
            server, pid = _start(server, message, descriptors)
        finally:
            os.close(writing)
        work = _Work(pipe, server, pid, span=span, limits=limits)
        try:
            yield work.info(motion=motion), work.frames(times)
        finally:
            work.close()


class _Work:
    """One clip that is being decoded; nothing that comes through the pipe is trusted."""

    def __init__(self, pipe: IO[bytes], server: DecodeServer, pid: int, *, span: Span, limits: Limits) -> None:
        self._pipe, self._server, self._pid, self._span, self._limits = pipe, server, pid, span, limits
        self._shape: tuple[int, ...] = (0, 0, 3)
        self._size = (0, 0)
        self._dtype: np.dtype[Any] = np.dtype(np.uint8)

    def info(self, *, motion: bool = False) -> VideoInfo:
        kind, length = self._header()
        if kind != b"I":
            raise InputError("the decoder broke off")
        info = VideoInfo(**json.loads(self._text(length)))
        check_size(info.width, info.height, self._limits)
        self._size = (info.height, info.width)
        self._shape = motion_shape(*self._size) if motion else (*self._size, 3)
        self._dtype = np.dtype(np.float32 if motion else np.uint8)
        return info

    def frames(self, times: list[float] | None = None) -> Iterator[np.ndarray]:
        height, width = self._size
        count = 0
        while True:
            kind, length = self._header()
            if kind == b"Z":
                return
            if times is not None:
                times.append(self._time(kind, length))
                kind, length = self._header()
            count += 1
            check_bytes(count, width, height, self._limits)
            frame = np.empty(self._shape, dtype=self._dtype)
            if kind != b"F" or length != frame.nbytes:
                raise InputError("the decoder broke off")
            self._fill(frame.reshape(-1).view(np.uint8).data)
            yield frame

    def close(self) -> None:
        """End the process, whether it is done or not."""
        if self._pid:
            self._reap()

    def _header(self) -> tuple[bytes, int]:
        """Read the start of a message; an error's message is raised."""
        header = bytearray(_HEADER.size)
        self._fill(memoryview(header))
        kind, length = _HEADER.unpack(header)
        if kind == b"E":
            raise InputError(self._text(length))
        return kind, length

    def _time(self, kind: bytes, length: int) -> float:
        content = bytearray(_TIME.size)
        if kind != b"T" or length != len(content):
            raise InputError("the decoder broke off")
        self._fill(memoryview(content))
        (time,) = _TIME.unpack(content)
        if not math.isfinite(time):
            raise InputError("a frame without a time")
        return float(time)

    def _text(self, length: int) -> str:
        if length > _MAX_TEXT:
            raise InputError("its metadata is too large")
        text = bytearray(length)
        self._fill(memoryview(text))
        return text.decode()

    def _fill(self, view: memoryview) -> None:
        while view:
            if not select.select([self._pipe], [], [], self._limits.stall_seconds)[0]:
                raise InputError(f"no new frame for {self._limits.stall_seconds:g} s")
            count = self._pipe.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise InputError(_death(self._reap(kill=False), self._limits))
            view = view[count:]

    def _reap(self, *, kill: bool = True) -> int:
        """Return how the process ended. Until then its number cannot be another's, so it is safe to kill."""
        pid, self._pid = self._pid, 0
        if kill:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            return self._server.request({"reap": pid}, [])
        except ConnectionError:
            return signal.SIGKILL


def _death(status: int, limits: Limits) -> str:
    """Say what ended the process."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    reasons = {
        int(signal.SIGALRM): f"decoding takes longer than {limits.wall_seconds:g} s",
        int(signal.SIGXCPU): f"decoding takes more than {limits.cpu_seconds} s of processor time",
        int(signal.SIGKILL): "the decoder was killed (out of memory?)",
    }
    name = signal.Signals(number).name if number else f"exit status {os.waitstatus_to_exitcode(status)}"
    return reasons.get(number, f"damaged: it crashes the decoder ({name})")


def _start(server: DecodeServer | None, message: dict[str, object], descriptors: list[int]) -> tuple[DecodeServer, int]:
    """Give the work to the server that all share, started anew if it has ended."""
    global _server
    if server is not None:
        return server, server.request(message, descriptors)
    for attempt in (1, 2):
        with _server_lock:
            shared = _server = _server or DecodeServer()
        try:
            return shared, shared.request(message, descriptors)
        except ConnectionError as error:
            with _server_lock:
                if _server is shared:
                    _server = None
            shared.close()
            if attempt == 2:
                raise MissingError("the video decoder ends again and again; is there enough memory?") from error
    raise AssertionError


def _close() -> None:
    if _server is not None:
        _server.close()


def _after_fork() -> None:
    """Give a fork of this process (a data loader's worker) a server of its own."""
    global _server, _server_lock
    _server_lock = threading.Lock()
    if _server is not None:
        _server.forget()
        _server = None


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
