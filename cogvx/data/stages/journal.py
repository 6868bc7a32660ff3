"""The journal of a run: what is done so far, in order, so that a run that was killed goes on where it was.

It lies beside the result. Each item is its rows, as they will stand in the result, and then a line that begins with
"#" and commits them, all in one write. The first line says what the run does. What follows the last committing line was
torn by a kill, and is cut off.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cogvx.data.stages.stage import Failure
from cogvx.errors import MissingError, UsageError
from cogvx.files import atomic_path, clean, disk_errors

SUFFIX = ".journal"
_FORMAT = "cogvx.journal/1"
_SYNC_SECONDS = 5.0


@dataclass(frozen=True)
class Record:
    """One item that is done.

    Attributes:
        digest: Of its entry.
        rows: How many rows it has given.
        failure: Why it could not be used.
        start: Byte where it begins.
    """

    digest: str
    rows: int
    failure: Failure | None
    start: int


class Journal:
    """The journal beside a result; a second run for the same result is refused as long as the first one lives.

    Args:
        target: The result.
        stage: Name of the stage.
        settings: Its settings.
        overwrite: Whether the run makes everything anew: then the journal of another kind of run is discarded.

    Raises:
        UsageError: Another run works on the result, or it is the journal of a run with other settings.
        MissingError: The disk is full.
    """

    def __init__(self, target: Path, *, stage: str, settings: dict[str, Any], overwrite: bool) -> None:
        self.target = target
        self.path = target.with_name(target.name + SUFFIX)
        self._end = self._first = 0
        self._file = self._open()
        try:
            self._lock()
            header = {"format": _FORMAT, "stage": stage, "settings": settings, "overwrite": overwrite}
            self._begin(json.loads(json.dumps(header)))
        except BaseException:
            self._file.close()
            raise
        self._synced = time.monotonic()

    def records(self) -> Iterator[Record]:
        """Yield what is done, in order; what is torn at the end is cut off."""
        position = start = self._end
        rows = 0
        with open(self.path, "rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                position += len(line)
                if not line.startswith(b"#"):
                    rows += 1
                    continue
                try:
                    content = json.loads(line[1:])
                    failure = Failure(**content["failure"]) if content.get("failure") else None
                    record = Record(str(content["input"]), rows, failure, start)
                except (ValueError, KeyError, TypeError):
                    break
                yield record
                self._end = start = position
                rows = 0
        self.cut(start)

    def cut(self, position: int) -> None:
        """Forget what is done from a byte on."""
        self._file.truncate(position)
        self._end = position

    def append(self, digest: str, lines: bytes, failure: Failure | None) -> Record:
        """Add an item that is done, in one write.

        Raises:
            MissingError: The disk is full.
        """
        content: dict[str, Any] = {"input": digest}
        if failure is not None:
            content["failure"] = {"error": failure.error, "exit_code": failure.exit_code}
        data = lines + b"#" + json.dumps(content).encode() + b"\n"
        start = self._end
        with disk_errors(self.path):
            self._file.seek(start)
            self._write(data)
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        return Record(digest, lines.count(b"\n"), failure, start)

    def finish(self) -> None:
        """Make the result of all rows, whole or not at all, and remove the journal.

        Raises:
            UsageError: The result cannot be written.
            MissingError: The disk is full.
        """
        with atomic_path(self.target) as temporary, open(self.path, "rb") as rows, open(temporary, "wb") as result:
            for line in rows:
                if not line.startswith(b"#"):
                    result.write(line)
        self.discard()

    def discard(self) -> None:
        """Remove the journal."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self._file.close()

    def close(self) -> None:
        """Keep the journal for the next run, if anything is in it."""
        if self._file.closed:
            return
        if self._end <= self._first:
            self.discard()
        else:
            with contextlib.suppress(OSError):
                os.fsync(self._file.fileno())
            self._file.close()

    def _open(self) -> IO[bytes]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot write {clean(str(self.path))}: {why}") from error
        return open(descriptor, "r+b", buffering=0)

    def _lock(self) -> None:
        """Keep other runs away; the system ends the lock with the process, however that ends."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another run is writing {clean(str(self.target))}; wait for it, or name another file"
            ) from error
        except OSError:  # some network file systems have no locks
            pass

    def _begin(self, header: dict[str, Any]) -> None:
        """Compare the first line with what this run does, or write it."""
        first = b"#" + json.dumps(header).encode() + b"\n"
        with open(self.path, "rb") as file:
            line = file.readline()
        if line.endswith(b"\n"):
            before = self._header(line)
            if before is not None and self._goes_on(before, header):
                self._end = self._first = len(line)
                return
        elif line and not line.startswith(b"#") and not first.startswith(line):
            raise UsageError(f"{clean(str(self.path))} is no journal; move it away")
        self.cut(0)
        with disk_errors(self.path):
            self._file.seek(0)
            self._write(first)
        self._first = self._end

    def _header(self, line: bytes) -> dict[str, Any]:
        try:
            header = json.loads(line[1:]) if line.startswith(b"#") else None
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise UsageError(f"{clean(str(self.path))} is no journal of this version; move it away")
        return header

    def _goes_on(self, before: dict[str, Any], header: dict[str, Any]) -> bool:
        """Whether an unfinished run is this one; false if it is to be discarded.

        Raises:
            UsageError: It is another one, and its work would be lost.
        """
        differ = [name for name in ("stage", "settings") if before.get(name) != header[name]]
        if not differ and (before.get("overwrite") or not header["overwrite"]):
            return True
        if header["overwrite"]:
            return False
        was, now = before.get("settings") or {}, header["settings"]
        if "stage" in differ:
            how = f"of another stage ({clean(str(before.get('stage')))[:40]})"
        else:
            names = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
            how = f"with other settings ({', '.join(clean(name) for name in names)[:200]})"
        name = clean(str(self.path))
        raise UsageError(f"{name} holds an unfinished run {how}; go on with those, or pass --overwrite to discard it")

    def _write(self, data: bytes) -> None:
        written = self._file.write(data)
        if written is None or written < len(data):  # the disk filled up within it
            self._file.truncate(self._end)
            raise MissingError(f"disk full: cannot write {clean(str(self.path))}")
        self._end += len(data)
