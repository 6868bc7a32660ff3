"""Where results go: one file, a folder of named files, or stdout."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from cogvx.errors import UsageError

CLIP_SUFFIXES = (".mp4", ".gif", ".webp", ".webm", ".mkv")
LATENT_SUFFIXES = (".safetensors",)


@dataclass(frozen=True)
class Place:
    """Where one result goes.

    Attributes:
        path: The file; None for stdout.
        suffix: Of the file, in lower case; "" for a folder of PNGs.
    """

    path: Path | None
    suffix: str

    @property
    def exists(self) -> bool:
        """Whether something that counts as a result is there already."""
        if self.path is None:
            return False
        return (
            is_frames_folder(self.path)
            if self.path.is_dir()
            else os.path.lexists(self.path) and not is_device(self.path)
        )


def is_frames_folder(path: Path) -> bool:
    """Tell whether a folder is a clip: PNG frames in it, and nothing else but their description."""
    names = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    return any(name.endswith(".png") for name in names) and all(name.endswith((".png", ".json")) for name in names)


def is_device(path: Path) -> bool:
    """Tell whether a path is /dev/null or the like, which may be written again and again."""
    return path.exists() and not path.is_file() and not path.is_dir()


def is_folder_of_results(output: str | None, *, many: bool) -> bool:
    """Tell whether --output is a folder that results are put into.

    Args:
        output: The value of --output.
        many: Whether several results may come, so that a name without suffix is such a folder too.
    """
    if output is None or output.endswith(("/", os.sep)):
        return True
    path = Path(output)
    if path.is_dir():
        return many or not is_frames_folder(path)
    return many and path.suffix.lower() not in (*CLIP_SUFFIXES, *LATENT_SUFFIXES) and not is_device(path)


def check_output(output: str | None, *, count: int) -> None:
    """Refuse several results for one file, or for stdout.

    Raises:
        UsageError: They are several.
    """
    if count > 1 and output == "-":
        raise UsageError(f"-o - takes one result, and this makes {count}; give a folder")
    if count > 1 and not is_folder_of_results(output, many=True):
        raise UsageError(f"{count} results do not fit into the one file {output}; give a folder")


def place(
    output: str | None,
    name: str,
    *,
    count: int,
    suffixes: tuple[str, ...],
    many: bool = False,
    own: str | None = None,
    plain: bool = True,
) -> Place:
    """Decide where a result goes.

    Args:
        output: The value of --output.
        name: File name without suffix, for results that have no name of their own.
        count: How many results the command makes.
        suffixes: What a file may end in; the first is the default.
        many: Whether the inputs came as a list, so that even one of them goes into a folder.
        own: A relative path that the result's row asks for.
        plain: Whether a name without suffix makes sense (a folder of PNGs).

    Raises:
        UsageError: Several results for one file, or a suffix that is not known.
        RefusedError: The row's path leaves the folder.
    """
    from cogvx.files import safe_join

    check_output(output, count=count)
    if output == "-":
        return Place(None, suffixes[0])
    if is_folder_of_results(output, many=many or count > 1):
        folder = Path(output or ".")
        path = folder / f"{name}{suffixes[0]}" if own is None else safe_join(folder, own)
    else:
        path = Path(str(output))
    suffix = path.suffix.lower()
    if is_device(path):
        return Place(path, suffixes[0])
    if suffix not in suffixes and not (plain and suffix == ""):
        known = ", ".join(suffixes)
        raise UsageError(
            f"{path}: the name must end in {known}{'; without a suffix it is a folder of PNGs' if plain else ''}"
        )
    _check_folder(path)
    return Place(path, suffix)


def _check_folder(path: Path) -> None:
    """Refuse a path that can never be written to, before the work is done."""
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise UsageError(f"cannot write {path}: {parent} is not a folder")
    if not os.access(parent, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission to write in {parent}")


def write_stdout(data: bytes) -> None:
    """Write the bytes of a file to stdout, and nothing else.

    Raises:
        UsageError: stdout is a terminal.
    """
    if sys.stdout.isatty():
        raise UsageError("-o - would write a file's bytes to the terminal; pipe it into a file or a program")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
