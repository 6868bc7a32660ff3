"""The process that decodes untrusted files: it forks once per file, and limits what the fork may use.

Started by cogvx.data.isolate, which it answers over a socket; frames go through a pipe that comes with each request.
Starting Python and loading FFmpeg costs 0.4 s, a fork of it a few milliseconds. A fork is used for one file only, so a
file that corrupts its memory, kills it or never ends harms no other.

    request   {"folder", "span", "limits", "timed", "motion"} with the pipe's end and, unless a folder is named, the
              file -> pid
              {"reap": pid}                                                                           -> exit status
    pipe      messages of one letter, eight bytes of length, content:
              I info as JSON · T the next frame's time, if asked for · F a frame's bytes, or those of its motion ·
              E an error's text · Z the end
"""

import json
import os
import resource
import signal
import socket
import struct
from pathlib import Path
from typing import Any

import numpy as np

from cogvx.data.decode import decode
from cogvx.data.decode_stream import Complaints
from cogvx.data.media import Limits, Span
from cogvx.errors import InputError

HEADER = struct.Struct(">cQ")
TIME = struct.Struct(">d")


def serve(descriptor: int) -> None:
    """Answer requests until the other side closes the socket."""
    _load()
    connection = socket.socket(fileno=descriptor)
    connection.sendall(b"R")
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 2)
        if not message:
            return
        request = json.loads(message)
        if "reap" in request:
            reply = os.waitpid(request["reap"], 0)[1]
        else:
            reply = os.fork()
            if reply == 0:
                connection.close()
                _work(request, descriptors)
                os._exit(0)
            for number in descriptors:
                os.close(number)
        connection.sendall(struct.pack(">i", reply))


def _load() -> None:
    """Load once what every fork needs."""
    import av
    import PIL.Image

    av.logging.restore_default_callback()  # to the standard error, without a detour through Python
    av.logging.set_libav_level(av.logging.ERROR)
    PIL.Image.init()


def _work(request: dict[str, Any], descriptors: list[int]) -> None:
    """Decode one file into the pipe."""
    limits = Limits(**request["limits"])
    _limit(limits)
    with open(descriptors[0], "wb", buffering=0) as pipe:
        try:
            source = Path(request["folder"]) if request["folder"] else open(descriptors[1], "rb")
            times: list[float] | None = [] if request.get("timed") else None
            span = Span(**request["span"])
            motion = bool(request.get("motion"))
            complaints = _catch_log()
            info, frames = decode(source, span=span, limits=limits, complaints=complaints, times=times, motion=motion)
            _send(pipe, b"I", json.dumps(info.to_dict()).encode())
            for index, frame in enumerate(frames):
                if times is not None:
                    _send(pipe, b"T", TIME.pack(times[index]))
                _send(pipe, b"F", np.ascontiguousarray(frame).reshape(-1).view(np.uint8).data)
            _send(pipe, b"Z", b"")
        except InputError as error:
            _send(pipe, b"E", str(error).encode("utf-8", "replace"))
        except MemoryError:
            _send(pipe, b"E", b"decoding needs more memory than the limit")
        except BrokenPipeError:
            pass  # nobody wants the rest
        except Exception as error:
            _send(pipe, b"E", f"{type(error).__name__}: {error}".encode("utf-8", "replace"))


def _limit(limits: Limits) -> None:
    """Let the system end this process when it takes more than it may."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.wall_seconds)
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_AS: limits.memory,
    }
    for kind, value in wanted.items():
        try:
            _, hard = resource.getrlimit(kind)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value + 1 if kind == resource.RLIMIT_CPU else value))
        except (ValueError, OSError):  # macOS refuses to limit the address space
            continue


def _catch_log() -> Complaints:
    """Turn the standard error into a pipe, and return a function that returns the lines written since its last call."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)  # what does not fit is lost: one line is enough
    os.dup2(writing, 2)
    os.close(writing)

    def lines() -> list[str]:
        try:
            return os.read(reading, 1 << 16).decode(errors="replace").splitlines()
        except BlockingIOError:
            return []

    return lines


def _send(pipe: Any, kind: bytes, content: bytes | memoryview) -> None:
    for part in (HEADER.pack(kind, len(content)), content):
        view = memoryview(part)
        while view:
            view = view[pipe.write(view) :]
