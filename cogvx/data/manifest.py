"""Manifests: one JSON object a line about a clip, read as strictly as what strangers send deserves.

The fields are those of the README; unknown ones are kept. A null is the same as a missing field.
"""

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from cogvx.errors import CogvxError, InputError, MissingError, RefusedError, UsageError
from cogvx.files import clean, disk_errors, safe_join, write_bytes

Entry = dict[str, Any]
PATH_FIELDS = ("video", "image", "latents", "text")
_TEXT_FIELDS = (*PATH_FIELDS, "caption", "split", "sha256")
_NUMBER_FIELDS = ("start", "end", "fps", "duration")
_COUNT_FIELDS = ("num_frames", "height", "width")
_MAX_LINE = 16 << 20  # bytes


@dataclass(frozen=True)
class Manifest:
    """The entries of a manifest and where their paths lead.

    Attributes:
        entries: In the order of the file.
        folder: What the paths are relative to.
        root: What the paths must stay inside.
    """

    entries: list[Entry]
    folder: Path
    root: Path

    def path(self, entry: Mapping[str, Any], field: str = "video") -> Path:
        """Return the path that a field of an entry names.

        Raises:
            InputError: The entry has no such field.
            RefusedError: The path leaves the root.
        """
        if field not in entry:
            raise InputError(f"an entry has no {field!r} (it has {', '.join(map(repr, entry))[:200]})")
        return safe_join(self.root, entry[field], base=self.folder)


def read_manifest(
    source: Path | str | IO[bytes],
    *,
    root: Path | str | None = None,
    torn: bool = False,
    on_error: Callable[[CogvxError], None] | None = None,
) -> Manifest:
    """Read a manifest.

    Args:
        source: A path, "-" for standard input, or an open file; its paths are relative to its folder, those of a stream
            to the current one.
        root: What its paths must stay inside (default: its folder).
        torn: Whether a broken last line without a line end is passed over: the writer was killed there.
        on_error: Called with the error of each bad line, which is then left out (default: the first one is raised).

    Raises:
        InputError: It is missing, or a line is no entry ("file:line: reason").
        RefusedError: A path leaves the root.
    """
    folder = Path(source).parent if isinstance(source, str | Path) and str(source) != "-" else Path()
    inside = Path(root) if root is not None else folder
    entries = []
    for place, entry in iter_manifest(source, torn=torn, on_error=on_error):
        try:
            for field in PATH_FIELDS:
                if field in entry:
                    safe_join(inside, entry[field], base=folder)
        except (RefusedError, InputError) as error:
            _report(type(error)(f"{place}: {error}"), on_error)
            continue
        entries.append(entry)
    return Manifest(entries, folder, inside)


def iter_manifest(
    source: Path | str | IO[bytes], *, torn: bool = False, on_error: Callable[[CogvxError], None] | None = None
) -> Iterator[tuple[str, Entry]]:
    """Yield each entry of a manifest with its place ("file:line") as it is read; its paths are not checked.

    Arguments and errors are those of read_manifest.
    """
    for place, line in iter_lines(source, on_error=on_error):
        try:
            entry = parse_entry(line)
        except InputError as error:
            if not (torn and not line.endswith(b"\n")):
                _report(InputError(f"{place}: {error}"), on_error)
            continue
        yield place, entry


def iter_lines(
    source: Path | str | IO[bytes], *, on_error: Callable[[CogvxError], None] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield each line of a manifest that is not empty, with its place ("file:line") and its line end, as it is read.

    Arguments and errors are those of read_manifest; what a line holds is not looked at.
    """
    with _opened(source) as (file, name):
        number = 0
        while line := file.readline(_MAX_LINE + 1):
            number += 1
            place = f"{name}:{number}"
            if len(line) > _MAX_LINE:
                _report(InputError(f"{place}: the line is longer than {_MAX_LINE >> 20} MiB"), on_error)
                while line and not line.endswith(b"\n"):
                    line = file.readline(_MAX_LINE)
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield place, line


def parse_entry(line: bytes | str) -> Entry:
    """Return the entry that one line holds.

    Raises:
        InputError: It is no JSON object, names a field twice, holds NaN, or a known field has another type.
    """
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        entry = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
        if "\\u" in text:
            json.dumps(entry, ensure_ascii=False).encode()  # half a surrogate pair is a character nobody can write
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start + 1}") from error
    except UnicodeEncodeError as error:
        raise InputError("it holds half a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise InputError("it is nested too deeply") from error
    if not isinstance(entry, dict):
        raise InputError(f"a JSON object is needed, got {_kind(entry)}")
    return _checked(entry)


def format_entry(entry: Mapping[str, Any]) -> bytes:
    """Return the line that holds an entry, with its line end.

    Raises:
        InputError: It holds something that JSON cannot: NaN, half a surrogate pair, an object.
    """
    try:
        text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
        # Readers that split at every line break of Unicode would split inside a caption.
        text = re.sub("[\x7f-\x9f\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)
        return text.encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise InputError(f"an entry cannot be written as JSON: {clean(str(error))}") from error


def write_manifest(path: Path | str, entries: Iterable[Mapping[str, Any]], *, overwrite: bool = False) -> None:
    """Write a manifest, whole or not at all.

    Raises:
        InputError: An entry holds something that JSON cannot.
        UsageError: The file exists.
        MissingError: The disk is full.
    """
    write_bytes(path, b"".join(map(format_entry, entries)), overwrite=overwrite)


class ManifestWriter:
    """Appends entries to a manifest, each in one write: others may append too, and a kill tears one line at most.

    A broken last line of an earlier run is cut off first.

    Args:
        path: The manifest, made if it is missing.

    Raises:
        MissingError: The disk is full.
        UsageError: The file cannot be written to.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise UsageError(f"cannot append to {clean(str(path))}: {error.strerror}") from error
        with disk_errors(self.path):
            self._mend()

    def append(self, entry: Mapping[str, Any]) -> None:
        """Append one entry.

        Raises:
            InputError: It holds something that JSON cannot.
            MissingError: The disk is full.
        """
        line = format_entry(entry)
        with disk_errors(self.path), self._locked():
            end = os.lseek(self._descriptor, 0, os.SEEK_END)
            written = os.write(self._descriptor, line)
            if written < len(line):  # the disk filled up within the line
                os.ftruncate(self._descriptor, end)
                raise MissingError(f"disk full: cannot append to {self.path}")

    def close(self) -> None:
        """Flush to the disk and close."""
        with disk_errors(self.path), contextlib.suppress(OSError):
            os.fsync(self._descriptor)
        os.close(self._descriptor)

    def __enter__(self) -> "ManifestWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _mend(self) -> None:
        """Cut off a last line that is torn; one that only lacks its line end gets it."""
        with self._locked():
            size = os.lseek(self._descriptor, 0, os.SEEK_END)
            tail, start = b"", size
            while start and b"\n" not in tail:
                step = min(start, 1 << 16)
                start -= step
                os.lseek(self._descriptor, start, os.SEEK_SET)
                tail = os.read(self._descriptor, step) + tail
            line = tail[tail.rfind(b"\n") + 1 :]
            if not line:
                return
            try:
                parse_entry(line)
                os.write(self._descriptor, b"\n")
            except InputError:
                os.ftruncate(self._descriptor, size - len(line))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other cogvx processes from writing meanwhile, where the system can."""
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def entry_id(entry: Mapping[str, Any]) -> str:
    """Return what tells an entry from all others: its file, and its part of the file if it is only one.

    Raises:
        InputError: The entry names no file.
    """
    name = next((entry[field] for field in PATH_FIELDS if entry.get(field)), None)
    if name is None:
        raise InputError("an entry names neither 'video' nor 'image'")
    part = [entry.get("start"), entry.get("end")]
    return str(name) if part == [None, None] else f"{name}#{json.dumps(part)}"


def done_ids(path: Path | str) -> set[str]:
    """Return the ids of the entries that a manifest already holds; none if it is missing. A torn last line is no entry.

    Raises:
        InputError: A line is no entry.
    """
    if not os.path.lexists(path):
        return set()
    return {entry_id(entry) for _, entry in iter_manifest(path, torn=True)}


@contextlib.contextmanager
def _opened(source: Path | str | IO[bytes]) -> Iterator[tuple[IO[bytes], str]]:
    if not isinstance(source, str | Path):
        yield source, clean(str(getattr(source, "name", "<stream>")))
        return
    if str(source) == "-":
        yield sys.stdin.buffer, "<stdin>"
        return
    name = clean(str(source))
    try:
        if not Path(source).is_file() and Path(source).exists():
            raise InputError(f"cannot read {name}: not a file")
        file = open(source, "rb")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
    with file:
        yield file, name


def _report(error: CogvxError, on_error: Callable[[CogvxError], None] | None) -> None:
    if on_error is None:
        raise error
    on_error(error)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InputError(f"the key {clean(twice)[:60]!r} stands there twice")
    return result


def _no_constant(name: str) -> NoReturn:
    raise InputError(f"{name} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InputError(f"the number {text[:40]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > 30:
        raise InputError(f"the number {text[:20]}… is too large")
    return int(text)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(entry: Entry) -> Entry:
    """Return an entry whose known fields have their types, nulls left out."""

    def wrong(field: str, wanted: str) -> InputError:
        return InputError(f"{field!r} must be {wanted}, got {clean(json.dumps(entry[field], ensure_ascii=False))[:60]}")

    known = {*_TEXT_FIELDS, *_NUMBER_FIELDS, *_COUNT_FIELDS, "scores", "labels", "captions", "rejected", "errors"}
    entry = {key: value for key, value in entry.items() if not (value is None and key in known)}
    for field in _TEXT_FIELDS:
        if field in entry and not isinstance(entry[field], str):
            raise wrong(field, "text")
    for field in _NUMBER_FIELDS:
        if field in entry and not (_is_number(entry[field]) and entry[field] >= 0):
            raise wrong(field, "a number, not negative")
    for field in _COUNT_FIELDS:
        if field in entry and not (_is_number(entry[field]) and entry[field] > 0 and entry[field] == int(entry[field])):
            raise wrong(field, "a whole number above zero")
    if "start" in entry and "end" in entry and not entry["start"] < entry["end"]:
        raise wrong("end", f"after 'start' ({entry['start']})")
    if "sha256" in entry and not re.fullmatch(r"[0-9a-fA-F]{64}", entry["sha256"]):
        raise wrong("sha256", "64 hexadecimal digits")
    for field, fits, wanted in (
        ("scores", _is_number, "an object of numbers"),
        ("labels", lambda value: _is_number(value) and 0 <= value <= 1, "an object of numbers from 0 to 1"),
        ("captions", lambda value: isinstance(value, str), "an object of texts"),
    ):
        if field in entry and not (isinstance(entry[field], dict) and all(map(fits, entry[field].values()))):
            raise wrong(field, wanted)
    for field in ("rejected", "errors"):
        if field in entry and not isinstance(entry[field], list):
            raise wrong(field, "a list")
    return entry
