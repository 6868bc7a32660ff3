"""Files that appear whole or not at all, hashes, and paths that stay where they belong."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from cogvx.errors import InputError, MissingError, RefusedError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY_PREFIX = ".cogvx-tmp-"
MAX_SLUG_BYTES = 100
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
# What safetensors and FFmpeg say when they report the system's error as text only.
_FULL_TEXT = re.compile(r"No space left on device|File too large|quota exceeded|os error (28|27|122)\b", re.IGNORECASE)
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_BAD_PATH = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EEXIST}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, whoever reports it, into a MissingError that names the path.

    Raises:
        MissingError: No space, quota used up, or file larger than allowed.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # A number that is not about space settles it; libraries without one are judged by their words.
        if number in _FULL or (number not in errno.errorcode and _FULL_TEXT.search(str(error))):
            raise MissingError(f"disk full: cannot write {path} ({free_bytes(path):,} bytes free there)") from error
        raise


@contextlib.contextmanager
def atomic_path(target: Path | str, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary path beside the target, which becomes the target if the block succeeds.

    The path has the target's name and lies in a hidden folder beside it, so that whatever a writer leaves next to its
    file goes away with it. The block writes a file there, or makes a folder. Then all of it is flushed to the disk and
    renamed. After an error, an interrupt included, the target is as it was and nothing else is left. Missing parent
    folders are made. A device such as /dev/null is written to instead of replaced; of a link, what it leads to is
    replaced.

    Args:
        target: The file or folder to make.
        overwrite: Whether a target that exists is replaced. A folder is replaced with everything that is in it: callers
            that take a folder's name from a user must first make sure that it is one of ours.

    Raises:
        UsageError: The target exists and overwrite is false, or its folder cannot be written to.
        MissingError: The disk is full.
    """
    target = Path(os.path.abspath(target))
    if not overwrite and os.path.lexists(target) and not _is_empty_folder(target) and not is_device(target):
        raise UsageError(f"{target} exists; pass --overwrite to replace it")
    if os.path.islink(target):
        target = Path(os.path.realpath(target))
    with _usage_errors(target), disk_errors(target):
        parent = Path(tempfile.gettempdir()) if is_device(target) else target.parent
        parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.lstat(target)  # a name that is too long shows now, not after the work
        workshop = parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}"
        workshop.mkdir()
    try:
        temporary = workshop / target.name
        with disk_errors(target):
            yield temporary
        with _usage_errors(target), disk_errors(target):
            _settle(temporary, _default_mode(workshop))
            _place(temporary, target, overwrite=overwrite)
            sync(parent)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def write_bytes(path: Path | str, data: bytes, *, overwrite: bool = True) -> None:
    """Write a file, whole or not at all (see atomic_path for the errors)."""
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str, *, overwrite: bool = True) -> None:
    """Write a text file as UTF-8 with the line ends as given, whole or not at all (see atomic_path for the errors)."""
    write_bytes(path, text.encode(), overwrite=overwrite)


def save_safetensors(
    tensors: Mapping[str, "Tensor"],
    path: Path | str,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = True,
) -> None:
    """Write tensors to a safetensors file, whole or not at all (see atomic_path for the errors)."""
    from safetensors.torch import save_file

    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path, overwrite=overwrite) as temporary:
        save_file(ready, str(temporary), metadata=dict(metadata) if metadata else None)


def sync(path: Path) -> None:
    """Flush one file or folder to the disk."""
    if os.name == "nt" and path.is_dir():  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def sweep(folder: Path, *, older_than: float = 86400.0) -> int:
    """Remove temporary folders that killed processes left in a folder, and return how many.

    Args:
        folder: Where to look, not recursively.
        older_than: Seconds since the last change; younger ones may belong to a process that still runs.
    """
    count = 0
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > older_than:
                shutil.rmtree(path)
                count += 1
    return count


def sha256_file(path: Path | str) -> str:
    """Return the sha256 of a file's bytes in hexadecimal.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {clean(str(path))}: {error.strerror}") from error


def safe_join(root: Path | str, relative: str, *, base: Path | str | None = None) -> Path:
    """Return the path of something that lies inside a folder, however hostile its name.

    Args:
        root: The folder that the path must stay inside, links followed.
        relative: A relative path from a file that was read. What it names need not exist.
        base: What the path is relative to (default: root).

    Raises:
        RefusedError: The path is absolute, leaves root by ".." or by a link, is no possible path, or names something
            that is neither a file nor a folder.
    """

    def refuse(why: str) -> RefusedError:
        return RefusedError(f"refused path {clean(relative)[:200]!r}: {why}")

    if not isinstance(relative, str):
        raise InputError(f"a path must be text, got {type(relative).__name__}")
    if not relative or relative != relative.strip("\r\n"):
        raise refuse("it is empty or ends in a line break")
    if "\0" in relative or re.search("[\ud800-\udfff]", relative):
        raise refuse("it contains a NUL or half a character")
    if Path(relative).is_absolute() or PureWindowsPath(relative).drive or relative[0] in "/\\":
        raise refuse("it must be relative")
    if "\\" in relative and ".." in PureWindowsPath(relative).parts:
        raise refuse(f"it leaves {root}")
    path = Path(base if base is not None else root) / relative
    try:
        inside = Path(os.path.realpath(path)).relative_to(os.path.realpath(root))
        if not inside.parts:
            raise refuse("it names the folder itself")
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise refuse("it is neither a file nor a folder")
    except FileNotFoundError:
        pass
    except ValueError as error:  # of relative_to
        raise refuse(f"it leaves {root}") from error
    except OSError as error:  # a loop of links, a name too long, a file used as a folder
        raise refuse(error.strerror or "it is no valid path") from error
    return path


def output_name(prompt: str, seed: int, suffix: str) -> str:
    """Return a file name made of a prompt: its words (at most 100 bytes), and 8 hex digits of (prompt, seed).

    The name has no separators, no leading "-" or ".", is no reserved word of any system, and letters of all scripts
    stay. The same prompt and seed give the same name.

    Args:
        prompt: Any text.
        seed: The seed, which distinguishes clips of one prompt.
        suffix: With its dot, such as ".mp4"; "" for a folder.
    """
    text = unicodedata.normalize("NFC", prompt.encode("utf-8", "replace").decode())
    kept = "".join(letter if unicodedata.category(letter)[0] in "LNM" else " " for letter in text.lower()[:1000])
    slug = "-".join(kept.split()).encode()[:MAX_SLUG_BYTES].decode(errors="ignore").strip("-")
    digest = hashlib.sha256(f"{seed}\0".encode() + prompt.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{slug or 'clip'}-{digest[:8]}{suffix}"


def free_bytes(path: Path | str) -> int:
    """Return the bytes free on the disk that holds a path, which need not exist yet."""
    path = Path(os.path.abspath(path))
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def is_device(path: Path) -> bool:
    """Whether a path names what is written to and never replaced: a device such as /dev/null, or a pipe."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or stat.S_ISBLK(mode)


def clean(text: str, *, multiline: bool = False) -> str:
    """Return a text that is safe to print on a terminal.

    Control characters (C0, C1, DEL) go, those that turn the writing direction too; line breaks and tabs become spaces.

    Args:
        text: Anything that came from outside: a prompt, a file name, a server's words.
        multiline: Whether line feeds stay.
    """
    text = text.encode("utf-8", "replace").decode()  # lone surrogates cannot be printed
    text = re.sub(r"[\t\r\v\f]+" if multiline else r"[\t\r\n\v\f\x85\u2028\u2029]+", " ", text)
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", text)


@contextlib.contextmanager
def _usage_errors(target: Path) -> Iterator[None]:
    """Turn a target that cannot be written to into a UsageError; a full disk passes through."""
    try:
        yield
    except OSError as error:
        if error.errno in _DENIED | _BAD_PATH:
            raise UsageError(f"cannot write {clean(str(target))}: {error.strerror}") from error
        raise
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"cannot write {clean(str(target))}: {error}") from error


def _is_empty_folder(path: Path) -> bool:
    return os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path)


def _default_mode(folder: Path) -> int:
    """Return the permissions that a new file gets here; asking the umask itself would change it for other threads."""
    probe = folder / ".mode"
    descriptor = os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        probe.unlink()


def _settle(temporary: Path, mode: int) -> None:
    """Give what was written its permissions and flush it to the disk."""
    if not temporary.is_dir():
        os.chmod(temporary, mode)
        sync(temporary)
        return
    for folder, _, names in os.walk(temporary):
        for name in names:
            os.chmod(Path(folder, name), mode)
            sync(Path(folder, name))
        sync(Path(folder))


def _place(temporary: Path, target: Path, *, overwrite: bool) -> None:
    """Move what was written to its place in one step where the system allows that."""
    if is_device(target):
        with open(temporary, "rb") as source, open(target, "wb") as device:
            shutil.copyfileobj(source, device)
        return
    if temporary.is_dir():
        old = temporary.parent / ".replaced"
        if overwrite and os.path.lexists(target):
            os.rename(target, old)  # a folder with content cannot be replaced in one step
        try:
            os.rename(temporary, target)
        except OSError as error:
            if os.path.lexists(old):
                os.rename(old, target)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise UsageError(f"{target} exists; pass --overwrite to replace it") from error
            raise
        return
    if target.is_dir():
        raise UsageError(f"cannot write the file {target}: there is a folder of that name")
    if overwrite:
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)  # unlike a rename, this fails when another process was faster
    except FileExistsError as error:
        raise UsageError(f"{target} exists; pass --overwrite to replace it") from error
    except OSError:  # no hard links on this file system
        os.replace(temporary, target)
