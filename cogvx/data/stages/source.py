"""What a stage reads and where its results go: a manifest, standard input, or a folder of shards."""

import glob
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cogvx.data.manifest import Entry, entry_id, iter_manifest
from cogvx.data.paths import checked_absolute, relative_to
from cogvx.data.stages.stage import Item
from cogvx.errors import CogvxError, InputError, RefusedError, UsageError
from cogvx.files import clean

STREAM = "-"
_COUNT_BYTES = 1 << 28  # of longer manifests the number of entries is estimated
_BLOCK = 1 << 20

OnBad = Callable[[str, CogvxError], None]


@dataclass(frozen=True)
class Part:
    """One manifest to read, and the one to make of it.

    Attributes:
        source: A path, or "-".
        target: A path, or "-".
        shard: Which of its entries: the i-th of every n, i from 1.
    """

    source: str
    target: str
    shard: tuple[int, int] = (1, 1)

    @property
    def base(self) -> Path:
        """The folder that the result's paths are relative to."""
        return Path() if self.target == STREAM else Path(self.target).parent


def parts_of(source: str, target: str, shard: tuple[int, int] | None) -> list[Part]:
    """Return the manifests that a source names, and where the result of each goes.

    Args:
        source: A manifest, "-", or a folder or pattern of shards (*.jsonl).
        target: A manifest or "-"; of shards a folder or "-".
        shard: Which part of the work: the i-th of every n shards, or entries of a single manifest; i from 1.

    Raises:
        InputError: The source names nothing.
        UsageError: The target is the source, or of the wrong kind; the shard is impossible.
    """
    index, count = shard or (1, 1)
    if not 1 <= index <= count:
        raise UsageError(f"shard {index}/{count}: the first number must be from 1 to the second")
    if target == "":
        raise UsageError("the output has no name")
    found = _shards(source)
    if found is None:
        name = os.path.join(target, Path(source).name) if _is_folder(target) and source != STREAM else target
        parts = [Part(source, name, (index, count))]
    else:
        if target != STREAM and os.path.exists(target) and not os.path.isdir(target):
            raise UsageError(f"{clean(target)} is a file; the results of shards go into a folder")
        chosen = found[index - 1 :: count]
        parts = [Part(path, STREAM if target == STREAM else os.path.join(target, Path(path).name)) for path in chosen]
        if len({part.target for part in parts}) < len(parts) and target != STREAM:
            raise UsageError(f"{clean(source)}: two shards have the same name, and so would their results")
    for part in parts:
        if STREAM not in (part.source, part.target) and os.path.exists(part.target):
            if os.path.exists(part.source) and os.path.samefile(part.source, part.target):
                raise UsageError(f"{clean(part.target)} is the manifest that is read; name another file")
    return parts


def iter_items(part: Part, root: str | None, on_bad: OnBad) -> Iterator[Item]:
    """Yield the items of a manifest as they are read.

    Args:
        part: The manifest; its paths become relative to the result's folder.
        root: What its paths must stay inside (default: its folder).
        on_bad: Told the place and error of each line that is no entry, or names a path outside; it is left out.

    Raises:
        InputError: It cannot be read.
    """
    index, count = part.shard
    folder = Path() if part.source == STREAM else Path(part.source).parent
    inside = Path(root) if root is not None else folder
    same = os.path.realpath(folder) == os.path.realpath(part.base)

    def bad_line(error: CogvxError) -> None:
        if index == 1:  # the others read the same lines
            on_bad(_place_of(error), error)

    for number, (place, entry) in enumerate(iter_manifest(part.source, on_error=bad_line)):
        if number % count != index - 1:
            continue
        try:
            yield _item(entry, place, folder=folder, root=inside, base=None if same else part.base)
        except (InputError, RefusedError) as error:
            on_bad(place, type(error)(f"{place}: {error}"))


def make_item(entry: Entry, path: Path | None, place: str, *, stamp: str = "") -> Item:
    """Return an item for an entry whose paths are relative to the result's folder."""
    try:
        name = entry_id(entry)
    except InputError:
        name = place
    return Item(name, entry, path, place, stamp)


def count_entries(part: Part) -> int:
    """Return how many entries a part has, about that if it is long; 0 if nobody can know."""
    if part.source == STREAM:
        return 0
    size, seen, lines = 0, 0, 0
    try:
        with open(part.source, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            while seen < _COUNT_BYTES and (block := file.read(_BLOCK)):
                seen += len(block)
                lines += block.count(b"\n")
            if seen == size and seen:
                file.seek(-1, os.SEEK_END)
                lines += file.read(1) != b"\n"
    except OSError:  # found out when it is read
        return 0
    if seen < size:
        lines = round(lines * size / seen)
    index, count = part.shard
    return (lines - index) // count + 1 if lines >= index else 0


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts clip2 before clip10."""
    return [(0, int(text), text) if text.isdecimal() else (1, 0, text) for text in re.split(r"(\d+)", name) if text]


def _item(entry: Entry, place: str, *, folder: Path, root: Path, base: Path | None) -> Item:
    """Return an entry as an item; base is None if the result's folder is the manifest's."""
    absolute = checked_absolute(entry, folder=folder, root=root)
    name = absolute.get("video") or absolute.get("image")
    row = entry if base is None else relative_to(absolute, base)
    return make_item(row, None if name is None else Path(name), place)


def _shards(source: str) -> list[str] | None:
    """Return the shards that a folder or pattern names; None if the source is a single manifest."""
    if source == STREAM or os.path.isfile(source):
        return None
    if os.path.isdir(source):
        found = glob.glob(os.path.join(glob.escape(source), "*.jsonl"))
        what = f"{clean(source)}: no *.jsonl in this folder"
    elif glob.has_magic(source):
        found = [path for path in glob.glob(source) if os.path.isfile(path)]
        what = f"{clean(source)}: no file has such a name"
    else:
        return None
    if not found:
        raise InputError(what)
    return sorted(found, key=natural)


def _is_folder(target: str) -> bool:
    return target != STREAM and (os.path.isdir(target) or target.endswith(("/", os.sep)))


def _place_of(error: CogvxError) -> str:
    """Return the "file:line" that an error of a manifest begins with."""
    found = re.match(r".*?:\d+(?=: )", str(error))
    return found[0] if found else str(error)
