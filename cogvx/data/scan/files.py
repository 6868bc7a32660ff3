"""The media files of a folder, in a natural order, and the texts that lie beside them."""

import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from cogvx.data.encode import METADATA_FILE
from cogvx.data.stages.source import natural
from cogvx.errors import InputError
from cogvx.files import clean, safe_join

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".avif")
# A .gif or .webp may be either: what is in it decides.
EITHER = (".gif", ".webp")
VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".asf", ".flv", ".f4v", ".ogv", ".3gp", ".3g2", ".mxf", ".y4m", ".vob", ".rm", ".rmvb", ".divx"),
)
MEDIA = frozenset((*IMAGES, *EITHER, *VIDEOS))
MAX_TEXT = 1 << 20  # bytes of one caption

OnBad = Callable[[str, InputError], None]


def field_of(path: str) -> str:
    """Return the field that a path belongs to by its name: "image" or "video"."""
    return "image" if os.path.splitext(path)[1].lower() in IMAGES else "video"


def walk(folder: Path, on_bad: OnBad, inside: str = "") -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the path of each clip below a folder, relative to it, with the names beside it that end in .txt.

    A folder of numbered frames with metadata.json is one clip. Hidden files are passed over, and links to folders are
    not followed: they may lead in a circle.

    Args:
        folder: Where to look.
        on_bad: Told of each folder that cannot be read, and of each name that no manifest can hold.
        inside: The part of it to look at, ending in "/".
    """
    try:
        with os.scandir(folder / inside) as entries:
            found = {one.name: one for one in entries if not one.name.startswith(".")}
    except OSError as error:
        name = clean(str(folder / inside))
        on_bad(name, InputError(f"cannot read {name}: {error.strerror}"))
        return
    if inside and is_frames_folder(found):
        yield inside.rstrip("/"), frozenset()
        return
    texts = frozenset(name for name in found if name.endswith(".txt"))
    for name in sorted(found, key=natural):
        one = found[name]
        if one.is_dir(follow_symlinks=False):
            yield from walk(folder, on_bad, f"{inside}{name}/")
        elif os.path.splitext(name)[1].lower() in MEDIA and (one.is_file() or one.is_symlink()):
            try:
                name.encode()
            except UnicodeEncodeError:
                place = clean(str(folder / inside / name))
                on_bad(place, InputError(f"{place}: its name is not UTF-8; rename it"))
                continue
            yield f"{inside}{name}", texts


def is_frames_folder(names: Collection[str]) -> bool:
    """Whether these are the files of a clip that was written as numbered PNGs."""
    rest = set(names) - {METADATA_FILE}
    return len(rest) < len(names) and bool(rest) and all(re.fullmatch(r"\d+\.png", name) for name in rest)


def read_text(root: Path, relative: str, *, base: Path, first_line: bool = False) -> str:
    """Return the caption in a text file; line breaks become spaces.

    Args:
        root: What the file must be inside.
        relative: Its path.
        base: What that is relative to.
        first_line: Whether only the first line counts.

    Raises:
        InputError: It cannot be read, is no UTF-8, or too long.
        RefusedError: It is a link that leaves the root.
    """
    path = safe_join(root, relative, base=base)
    name = clean(str(path))
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_TEXT + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 at byte {error.start + 1}") from error
    if len(data) > MAX_TEXT:
        raise InputError(f"{name}: longer than {MAX_TEXT >> 20} MiB")
    lines = text.split("\n")[:1] if first_line else text.split("\n")
    return " ".join(line.strip() for line in lines if line.strip())
