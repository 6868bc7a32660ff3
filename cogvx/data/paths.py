"""The paths in an entry, rewritten when the entry moves to a manifest in another folder."""

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from cogvx.data.manifest import PATH_FIELDS, Entry
from cogvx.files import safe_join

_FIELDS = (*PATH_FIELDS, "image_latents")


def relative_to(entry: Entry, base: Path) -> Entry:
    """Return an entry whose absolute paths have become relative to a folder; relative ones stay as they are."""
    inside = os.path.realpath(base)

    def relative(path: str) -> str:
        return Path(os.path.relpath(path, inside)).as_posix() if os.path.isabs(path) else path

    return _mapped(entry, relative)


def absolute(path: Path | str) -> str:
    """Return an absolute path without links but for the last name, so that it can be made relative to any folder."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(_real(folder), name)


def checked_absolute(entry: Entry, *, folder: Path, root: Path) -> Entry:
    """Return an entry whose paths, relative to a folder, have become absolute.

    Args:
        entry: Of a manifest.
        folder: Of the manifest.
        root: What the paths must stay inside.

    Raises:
        InputError: A path is no text.
        RefusedError: A path leaves the root, is absolute, or is no possible path.
    """
    return _mapped(entry, lambda path: absolute(safe_join(root, path, base=folder)))


def levels_up(entry: Entry) -> int:
    """Return how many folders up the paths of an entry lead at most; 0 if they stay inside."""
    most = 0

    def look(path: str) -> str:
        nonlocal most
        parts = path.split("/")
        most = max(most, next((i for i, part in enumerate(parts) if part != ".."), len(parts)))
        return path

    _mapped(entry, look)
    return most


def _mapped(entry: Entry, change: Callable[[str], str]) -> Entry:
    """Return an entry with another text for each path in it."""
    row = dict(entry)
    for name in _FIELDS:
        if name in row:
            row[name] = change(row[name])
    if isinstance(row.get("texts"), dict):
        row["texts"] = {name: change(path) for name, path in row["texts"].items()}
    return row


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)
