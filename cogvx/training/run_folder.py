"""The folder of a run: its lock, its metrics, and which of its checkpoints are whole."""

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from cogvx.distributed import World
from cogvx.errors import InputError, UsageError
from cogvx.files import TEMPORARY_PREFIX, clean, disk_errors, sha256_file, sweep, sync

T = TypeVar("T")
COMPLETE = "COMPLETE.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d{6,})")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def on_first_rank(world: World, body: Callable[[], T]) -> T:
    """Return on every rank what a function returns on rank 0; its error is raised on every rank."""
    answer: list[Any] = [None, None]
    if world.rank == 0:
        try:
            answer[0] = body()
        except Exception as error:
            if world.size == 1:
                raise
            answer[1] = error
    if world.size > 1:
        dist.broadcast_object_list(answer, src=0, device=world.device)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


@contextlib.contextmanager
def lock(folder: Path, world: World) -> Iterator[None]:
    """Make a run folder, and keep other runs out of it while the block runs.

    The system frees the lock when the process ends, however it ends. What killed runs left half made is removed.

    Raises:
        UsageError: Another run works there, or the folder cannot be made.
    """
    held: list[int] = []
    try:
        on_first_rank(world, lambda: held.append(_take_lock(folder)))
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint after so many steps lies."""
    return folder / f"checkpoint-{step:06d}"


def checkpoints(folder: Path) -> dict[int, Path]:
    """Return step -> path of the checkpoints of a run, whole or damaged, oldest first."""
    found = {}
    for path in folder.glob("checkpoint-*"):
        match = _CHECKPOINT.fullmatch(path.name)
        if match and path.is_dir() and not path.is_symlink() and (path / COMPLETE).is_file():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def check(path: Path, *, share: tuple[int, int] = (0, 1)) -> None:
    """Check the files of a checkpoint against their hashes.

    Args:
        path: The checkpoint.
        share: Which of how many shares of the files to look at.

    Raises:
        InputError: A file is missing, damaged, or was never part of it.
    """
    try:
        marker = json.loads((path / COMPLETE).read_bytes())
        files = {str(name): (int(record["size"]), str(record["sha256"])) for name, record in marker["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a whole checkpoint: {COMPLETE} cannot be read ({error})") from error
    strangers = {file.name for file in path.glob("state*")} - set(files)
    if strangers:
        raise InputError(f"{path}: {clean(min(strangers))} is not part of this checkpoint")
    for name in sorted(files)[share[0] :: share[1]]:
        size, digest = files[name]
        file = path / name
        if not _FILE.fullmatch(name) or not file.is_file():
            raise InputError(f"{path}: {clean(name)} is missing")
        if file.stat().st_size != size:
            raise InputError(f"{file}: damaged: {file.stat().st_size:,} bytes instead of {size:,}")
        if sha256_file(file) != digest:
            raise InputError(f"{file}: damaged: its content is not what was written")


def prune(folder: Path, *, keep: int) -> None:
    """Remove the oldest checkpoints; at least two stay, and nothing that is not a whole checkpoint is touched."""
    for path in list(checkpoints(folder).values())[: -max(2, keep)]:
        doomed = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}"
        os.rename(path, doomed)  # at no time is there half a checkpoint under its name
        shutil.rmtree(doomed, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Rename a checkpoint so that no run takes it, and return its new path."""
    for count in range(10_000):
        target = path.with_name(f"{path.name}.aside{f'-{count}' if count else ''}")
        if not target.exists():
            os.rename(path, target)
            return target
    raise UsageError(f"{path.parent}: too many checkpoints set aside; remove some")


def list_bad(folder: Path, name: str, error: Exception) -> None:
    """Note in `bad.jsonl` of a run folder that an entry could not be used: one line an entry, over ranks and resumes.

    Args:
        folder: The run folder, made if it is missing.
        name: Of the entry.
        error: What is wrong with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "bad.jsonl").open("a+", encoding="utf-8") as file:
        with contextlib.suppress(ImportError, OSError):  # no locks here: at worst an entry has two lines
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        key = json.dumps(name, ensure_ascii=False)
        if any(line.startswith(f'{{"entry": {key}, ') for line in text.split("\n")):
            return
        line = json.dumps({"entry": name, "error": str(error)}, ensure_ascii=False)
        # A process that was killed may have left half a line.
        file.write(f"{chr(10) if text and not text.endswith(chr(10)) else ''}{line}\n")


class Metrics:
    """A file of JSON lines that grows one whole line at a time, `metrics.jsonl`."""

    def __init__(self, path: Path, *, size: int = 0, step: int = 0) -> None:
        """Cut the file back to what it was at a checkpoint, and open it.

        Args:
            path: The file.
            size: Its bytes at the checkpoint.
            step: Steps done at the checkpoint; says which lines stay if the file is not that long any more.
        """
        self.path = path
        with disk_errors(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            os.ftruncate(self._file, self._kept(size, step))

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return os.fstat(self._file).st_size

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line, whole.

        Raises:
            MissingError: The disk is full.
        """
        line = json.dumps(record).encode() + b"\n"
        with disk_errors(self.path):
            if os.write(self._file, line) < len(line):
                os.write(self._file, line)  # says why
                raise OSError(28, "No space left on device")

    def close(self) -> None:
        """Flush the file to the disk and close it."""
        self.flush()
        os.close(self._file)

    def flush(self) -> None:
        """Flush the file to the disk."""
        os.fsync(self._file)

    def _kept(self, size: int, step: int) -> int:
        """How many bytes stay: those of the checkpoint, or else the whole lines up to its step."""
        with open(self.path, "rb") as file:
            if size == 0:
                return 0
            file.seek(size - 1)
            if file.read(1) == b"\n":
                return size
            file.seek(0)
            kept = 0
            for line in file:
                try:
                    if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                        break
                except (ValueError, KeyError, TypeError):
                    break
                kept += len(line)
            return kept


def _take_lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UsageError(f"cannot write to the run folder {clean(str(folder))}: {error.strerror}") from error
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        raise UsageError(f"the run folder {clean(str(folder))} is in use by process {clean(owner)}") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    sweep(folder, older_than=0.0)
    sync(folder)
    return descriptor
