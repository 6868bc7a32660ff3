"""Where encoded clips and prompts are kept: named by what they were made from, shared by runs and processes.

    latents/ab/<key>.safetensors        posterior of a clip: latents and std (cogvx.data.latents)
    first_frames/ab/<key>.safetensors   the same of its first frame with noise, several times, one after another in time
    text/ab/<key>.safetensors           text embeddings of a prompt (cogvx.data.text_embeds)
    .locks/<key>                        held while somebody makes that file

A file appears whole or not at all and never changes, so reading needs no lock.
"""

import contextlib
import functools
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from cogvx.data.buckets import Shape
from cogvx.errors import InputError
from cogvx.files import clean, disk_errors, sha256_file, sweep

_FORMAT = "cogvx.encode/1"  # changes whenever the way from a file to what is stored does
KINDS = ("latents", "first_frames", "text")
_LOCKS = ".locks"


@dataclass(frozen=True)
class EncodedCache:
    """A folder of encoded clips and prompts, and the models that encode them.

    Attributes:
        folder: The folder, which need not exist yet.
        vae: What tells the VAE, its precision and its tiling from all others (see cogvx.training.encode.open_cache).
        text_encoder: The same of the text encoder.
    """

    folder: Path
    vae: str
    text_encoder: str

    def latents(
        self, sha256: str, shape: Shape, *, fps: float, start: float | None = None, end: float | None = None
    ) -> Path:
        """Return the path of the latents of a clip.

        Args:
            sha256: Of the clip's file (see content_sha256).
            shape: Size, and the longest length.
            fps: Frames per second.
            start: Seconds in the file.
            end: Seconds in the file.
        """
        return self._path("latents", self.vae, _span(sha256, shape, fps, start, end))

    def first_frames(self, sha256: str, shape: Shape, *, count: int, start: float | None = None) -> Path:
        """Return the path of the latents of a clip's first frame, to which noise was added `count` times anew."""
        first = Shape(1, shape.height, shape.width)
        return self._path("first_frames", self.vae, [*_span(sha256, first, 0.0, start, None), count])

    def text(self, prompt: str) -> Path:
        """Return the path of the embeddings of a prompt."""
        return self._path("text", self.text_encoder, [prompt])

    def sweep(self) -> int:
        """Remove what processes that were killed a day ago or earlier left behind, and return how many things."""
        count = sum(sweep(folder) for kind in KINDS for folder in (self.folder / kind).glob("??"))
        for lock in (self.folder / _LOCKS).glob("*"):
            with contextlib.suppress(OSError):
                if time.time() - lock.stat().st_mtime > 86400:
                    right = claim(self.folder / "text" / "--" / f"{lock.name}.safetensors")
                    if right is not None:  # nobody holds it: releasing it removes it
                        right.release()
                        count += 1
        return count

    def _path(self, kind: str, model: str, made_from: list[object]) -> Path:
        text = json.dumps([_FORMAT, kind, model, *made_from], separators=(",", ":"))
        key = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / kind / key[:2] / f"{key}.safetensors"


class Claim:
    """The right to make one file of a cache. It ends with release, or with the process that has it."""

    def __init__(self, lock: Path, descriptor: int | None) -> None:
        self._lock, self._descriptor = lock, descriptor

    def release(self) -> None:
        """Give the right back; the lock's file goes away."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        with contextlib.suppress(OSError):
            os.unlink(self._lock)  # while it is still locked: who waits for it sees that it is gone, and begins anew
        os.close(descriptor)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def claim(path: Path, *, wait: bool = False) -> Claim | None:
    """Claim a file of a cache for this process; None if another one has it, unless it is waited for.

    Where the file system has no locks everybody gets the claim: the same file is then made twice, and is as good.

    Args:
        path: What is to be made, <cache>/<kind>/<two letters>/<key>.safetensors.
        wait: Whether to wait until the other process is done, or has been killed.

    Raises:
        MissingError: The disk is full.
    """
    lock = path.parents[2] / _LOCKS / path.stem
    with disk_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        return Claim(lock, None)
    while True:
        with disk_errors(lock):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            return Claim(lock, None)
        except BaseException:  # interrupted while it waits
            os.close(descriptor)
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
                return Claim(lock, descriptor)
        os.close(descriptor)  # its holder was done and removed it


def content_sha256(path: Path) -> str:
    """Return the sha256 of a file, or of the names and the content of a folder's files, in hexadecimal.

    Hashed once a process, as long as size and time of change stay the same.

    Raises:
        InputError: It cannot be read.
    """
    try:
        if not path.is_dir():
            return _file_sha256(path)
        files = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot read {clean(str(path))}: {error.strerror}") from error
    lines = [f"{_file_sha256(one)}  {one.name}\n" for one in files]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def _file_sha256(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"cannot read {clean(str(path))}: {error.strerror}") from error
    return _hashed(str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _hashed(path: str, size: int, changed: int) -> str:
    return sha256_file(path)


def _span(sha256: str, shape: Shape, fps: float, start: float | None, end: float | None) -> list[object]:
    """Return what of a file is encoded; of a single frame neither the rate nor the end matters."""
    still = shape.num_frames == 1
    rest: list[object] = [None, None] if still else [float(fps), None if end is None else float(end)]
    return [sha256, shape.num_frames, shape.height, shape.width, float(start or 0.0), *rest]
