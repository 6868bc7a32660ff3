"""One line for every error, and the exit code that goes with it."""

import difflib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import typer

from cogvx.errors import CogvxError, MissingError, UsageError

NO_SPACE = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
INTERRUPTED, TERMINATED, PIPE_CLOSED = 130, 143, 141


class Terminated(BaseException):
    """SIGTERM or SIGHUP came; unwinds the stack so that temporary files are removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the program through its `finally` blocks, as Ctrl-C does."""

    def stop(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
        raise Terminated(number)

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:
            signal.signal(getattr(signal, name), stop)


def unknown(kind: str, name: str, known: Iterable[str], *, more: str = "") -> UsageError:
    """An error for a name that is not known, with the nearest ones that are."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else more
    return UsageError(f"no such {kind}: {name}{f'; {hint}' if hint else ''}")


def run(body: Callable[[], None]) -> int:
    """Run a command line; print what went wrong on stderr, and return the exit code."""
    try:
        body()
        sys.stdout.flush()
        return 0
    except typer.Exit as leave:
        return _flushed(leave.exit_code)
    except KeyboardInterrupt:
        print("cogvx: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Terminated as stop:
        print("cogvx: terminated", file=sys.stderr)
        return stop.exit_code
    except BrokenPipeError:
        return _close_quietly()
    except Exception as error:
        return _report(error)


def _report(error: Exception) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a subcommand: its help is the answer
        print(getattr(error, "format_message", lambda: "")())
        return 0
    code, message = describe(error)
    if message is None:
        traceback.print_exception(error)
        _say("cogvx: error: this is a fault of cogvx; please report it with the lines above and `cogvx doctor --json`")
        return code
    if os.environ.get("COGVX_DEBUG") == "1":
        traceback.print_exception(error)
    _say(f"cogvx: error: {message}")
    return code


def describe(error: Exception) -> tuple[int, str | None]:
    """The exit code of an error and the line that explains it; None when it is a fault of cogvx."""
    if isinstance(error, CogvxError):
        return error.exit_code, str(error)
    if hasattr(error, "format_message"):  # typer's own: a bad flag, a missing argument
        return _describe_usage(error)
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        where = f" ({error.filename})" if error.filename else ""
        return 4, f"no space left on the device{where}; free some, or write elsewhere with --output"
    if isinstance(error, OSError) and error.filename and isinstance(error, (PermissionError, FileNotFoundError)):
        return 3, f"{error.filename}: {error.strerror}"
    if _is_out_of_memory(error):
        return 4, "not enough memory; try --memory model or layer, --vae-tiling on, or fewer frames or pixels"
    if isinstance(error, EOFError):
        return 2, "the input ended before an answer"
    return 1, None


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error says that a disk is full, which the next file would meet too."""
    return (isinstance(error, OSError) and error.errno in NO_SPACE) or (
        isinstance(error, MissingError) and isinstance(error.__cause__, OSError)
    )


def _describe_usage(error: Any) -> tuple[int, str]:
    message = error.format_message().rstrip(".").replace("Value error, ", "")
    known = getattr(error, "possibilities", None)  # of a flag that is not known
    if known:
        near = difflib.get_close_matches(error.option_name, known, n=2, cutoff=0.7) or list(known)[:2]
        message = f"{error.message}; did you mean {' or '.join(near)}?"
    context = getattr(error, "ctx", None)
    help_line = f" (see `{context.command_path} --help`)" if context is not None else ""
    first = message[:1].lower() + message[1:]
    return error.exit_code, first + help_line


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text))
    )


def _say(message: str) -> None:
    from cogvx.files import clean

    print(clean(message), file=sys.stderr)


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _close_quietly()
    return code


def _close_quietly() -> int:
    # The reader went away (`| head -1`): nothing to say, and nothing to flush at exit either.
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
    return PIPE_CLOSED
