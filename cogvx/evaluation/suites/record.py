"""What of a run is done: a log in its folder, with each step's command, version and the hashes of its files."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cogvx import __version__
from cogvx.data.manifest import iter_manifest
from cogvx.errors import CogvxError, UsageError
from cogvx.evaluation.suites.plan import MANIFEST, Step
from cogvx.files import clean, disk_errors, safe_join, sha256_file, sweep

LOG = "run.jsonl"
_LOCK = ".lock"
_WAIT = 10.0  # seconds that the steps of a killed run may need to end


class Hashes:
    """Hashes of files and folders, each file read once as long as its size and time stay."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], str] = {}

    def files(self, path: Path | str) -> dict[str, str]:
        """Return relative path -> sha256 of the files of a folder, hidden ones left out; of a file {"": its own}.

        Nothing is there: nothing is returned.
        """
        path = Path(path)
        if not path.is_dir():
            return {"": self._file(path)} if path.is_file() else {}
        found = {}
        for folder, inner, names in os.walk(path):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in names:
                file = Path(folder, name)
                if not name.startswith(".") and file.is_file():
                    found[file.relative_to(path).as_posix()] = self._file(file)
        return dict(sorted(found.items()))

    def one(self, path: Path | str) -> str:
        """Return one hash of a file or of a folder with all that is in it; "" if nothing is there."""
        return _digest(self.files(path))

    def clips(self, path: Path | str) -> str:
        """Return one hash of clips to measure: those of a folder, or a manifest and the files that it names."""
        path = Path(path)
        if path.suffix.lower() not in (".jsonl", ".ndjson") or not path.is_file():
            return self.one(path)
        found = self.files(path)
        for _, entry in iter_manifest(path, on_error=lambda error: None):
            for name in (entry.get("video"), entry.get("image")):
                if isinstance(name, str):
                    with contextlib.suppress(CogvxError):
                        found[name] = self.one(safe_join(path.parent, name))
        return _digest(found)

    def _file(self, path: Path) -> str:
        about = path.stat()
        key = (str(path), about.st_size, about.st_mtime_ns)
        if key not in self._known:
            self._known[key] = sha256_file(path)
        return self._known[key]


@dataclass
class Done:
    """What the log knows of a step.

    Attributes:
        command: Arguments, the run's folder written as "{run}".
        version: Of cogvx.
        inputs: Path -> hash, as they were when it began.
        code: Its exit code; None: it never ended.
        made: Relative path -> sha256 of what it made; empty if it never ended.
    """

    command: list[str]
    version: str
    inputs: dict[str, str]
    code: int | None = None
    made: dict[str, str] = field(default_factory=dict)


class RunLog:
    """The log of a run: lines of JSON, each appended whole; a torn last one is cut off.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes = Hashes()
        self.steps: dict[str, Done] = {}
        self._path = folder / LOG
        for line in _whole_lines(self._path):
            self._take(line)

    def start(self, about: Mapping[str, Any]) -> None:
        """Note that a run begins here."""
        kept = sum(len(line) for line in _raw_lines(self._path))
        if self._path.exists() and self._path.stat().st_size > kept:
            os.truncate(self._path, kept)
        self._write({"event": "run", "version": __version__, **about})

    def begin(self, step: Step) -> None:
        """Note that a step begins."""
        done = Done(self._command(step), __version__, self._inputs(step))
        self.steps[step.name] = done
        record = {"step": step.name, "command": done.command, "version": done.version, "inputs": done.inputs}
        self._write({"event": "begin", **record})

    def end(self, step: Step, code: int, seconds: float) -> None:
        """Note that a step has ended."""
        done = self.steps[step.name]
        done.code, done.made = code, self._made(step)
        self._write({"event": "end", "step": step.name, "code": code, "seconds": round(seconds, 3), "made": done.made})

    def is_done(self, step: Step) -> bool:
        """Tell whether a step ended well, as it would run now, and all that it made is as it was."""
        done = self.steps.get(step.name)
        if done is None or done.code != 0 or self.changed(step) or not done.made:
            return False
        return done.inputs == self._inputs(step) and done.made == self._made(step)

    def changed(self, step: Step) -> str:
        """Return what about a step's command is not as it was when it last began; "" if all is, or it never did."""
        done = self.steps.get(step.name)
        if done is None:
            return ""
        if done.version != __version__:
            return f"it was made by cogvx {clean(done.version)}, this is {__version__}"
        now = self._command(step)
        if done.command == now:
            return ""
        before, after = ([one for one in a if one not in b] for a, b in ((done.command, now), (now, done.command)))
        said = " ".join(clean(one) for one in before), " ".join(after)
        return f"its command has changed: {said[0] or 'nothing'} became {said[1] or 'nothing'}"[:300]

    def stale(self, step: Step) -> str:
        """Return why what a step has made so far cannot stay: its command or its inputs changed; "" if it can."""
        done = self.steps.get(step.name)
        if done is None:
            return ""
        if why := self.changed(step):
            return why
        now = self._inputs(step)
        differ = sorted(name for name in {*now, *done.inputs} if now.get(name) != done.inputs.get(name))
        return f"what it reads has changed: {', '.join(map(clean, differ))}" if differ else ""

    def altered(self, step: Step) -> list[str]:
        """Return the files that a step made and that are there with another content now."""
        done, now = self.steps.get(step.name), self._made(step)
        return [name for name, digest in (done.made if done else {}).items() if now.get(name, digest) != digest]

    def _inputs(self, step: Step) -> dict[str, str]:
        found = {}
        for name in step.reads:
            # Those that make prompts or clips read a manifest's words, the others its clips too.
            read = self.hashes.clips if step.kind == "metric" else self.hashes.one
            path = Path(name)
            if step.kind == "prompts" and path.is_dir():
                path = path / MANIFEST
            found[self._short(name)] = read(path)
        return found

    def _made(self, step: Step) -> dict[str, str]:
        found = self.hashes.files(step.makes)
        if step.kind == "clips" and step.system:
            found.pop(MANIFEST, None)  # the work of another step
        return found

    def _command(self, step: Step) -> list[str]:
        return [self._short(one) for one in step.arguments]

    def _short(self, text: str) -> str:
        """Return a text with the run's folder as "{run}", so that the folder may be named otherwise next time."""
        folder = str(self.folder)
        inside = text.startswith(folder) and text[len(folder) : len(folder) + 1] in ("", "/", os.sep)
        return "{run}" + text[len(folder) :] if inside else text.replace(f"={folder}/", "={run}/")

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            if record["event"] == "begin":
                self.steps[record["step"]] = Done(
                    list(record["command"]), str(record["version"]), dict(record["inputs"])
                )
            elif record["event"] == "end" and record["step"] in self.steps:
                done = self.steps[record["step"]]
                done.code, done.made = int(record["code"]), dict(record["made"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self._path}: a line of it is damaged; remove the file to begin anew (clips that are there are kept)"
            ) from error

    def _write(self, record: Mapping[str, Any]) -> None:
        stamp = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        line = json.dumps({**record, **stamp}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with disk_errors(self._path):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(28, "No space left on device")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Make a run's folder and keep other runs out of it; yields the descriptor of the lock.

    A process that inherits the descriptor holds the lock too: so a step that outlives its run, as on systems where it
    cannot be ended with it, keeps the next run waiting instead of working beside it.

    Raises:
        UsageError: Another run works there, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UsageError(f"cannot write to {clean(str(folder))}: {error.strerror}") from error
    try:
        _take(descriptor, folder)
        sweep(folder, older_than=0.0)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    end = time.monotonic() + _WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            if _is_alive(owner) or time.monotonic() > end:
                raise UsageError(f"{clean(str(folder))} is in use by the run of process {clean(owner)}") from error
            time.sleep(0.1)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _digest(files: Mapping[str, str]) -> str:
    if list(files) == [""]:
        return files[""]
    text = "".join(f"{digest} {name}\n" for name, digest in files.items())
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if files else ""


def _is_alive(owner: str) -> bool:
    try:
        os.kill(int(owner), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _raw_lines(path: Path) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return [line for line in file if line.endswith(b"\n")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot read {clean(str(path))}: {error.strerror}") from error


def _whole_lines(path: Path) -> list[bytes]:
    return [line for line in _raw_lines(path) if line.strip()]
