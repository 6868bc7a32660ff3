"""Hashes of weights, for the record of how a clip was made."""

import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from cogvx.checkpoints.weights import weight_files
from cogvx.files import sha256_file


def weights_sha256(path: Path) -> str:
    """Return one hash of a component's weights: of a file, or of all weight files of a folder.

    For a folder it is the sha256 of lines "<sha256 of file>  <name>", by name: what `sha256sum *.safetensors |
    sha256sum` prints. Files are hashed once a process, as long as size and time of change stay the same.

    Raises:
        InputError: A file cannot be read.
    """
    if path.is_file():
        return _sha256(path)
    return combined(weight_files(path))


def combined(files: Iterable[Path]) -> str:
    """Return one hash of several files, as weights_sha256 does for a folder."""
    lines = [f"{_sha256(path)}  {path.name}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    # The Hugging Face cache stores large files under their own sha256, and checks it when it downloads them.
    real = path.resolve()
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name):
        return real.name
    status = real.stat()
    return _cached(str(real), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _cached(path: str, size: int, changed: int) -> str:
    return sha256_file(path)
