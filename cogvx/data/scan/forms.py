"""The forms that datasets come in: which one a folder has, and its rows."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cogvx.data.manifest import Entry
from cogvx.data.scan.files import field_of, is_frames_folder, read_text, walk
from cogvx.data.scan.tables import PROMPT_LISTS, VIDEO_LIST, read_lists, read_table
from cogvx.errors import CogvxError, InputError, RefusedError, UsageError
from cogvx.files import clean, safe_join

Form = Literal["plain", "manifest", "metadata", "lists", "labels"]
FORMS: dict[Form, str] = {
    "plain": "clips and images in folders, each perhaps with a .txt of its name beside it",
    "manifest": "manifest.jsonl, or any .jsonl whose lines have video or image",
    "metadata": "metadata.csv, .json or .jsonl with file_name, file_path, video_path or path, and text, caption, "
    "prompt or cap",
    "lists": "videos.txt with a path a line, and prompts.txt or prompt.txt with the caption of each",
    "labels": "videos/ with clips and labels/ with a .txt of the same name for each",
}
assert tuple(FORMS) == get_args(Form)
_TABLES = (".csv", ".json", ".jsonl", ".ndjson")
_METADATA = tuple(f"metadata{suffix}" for suffix in _TABLES[:3])
_MANIFEST = "manifest.jsonl"

OnBad = Callable[[str, CogvxError], None]
Rows = Iterator[tuple[str, Entry]]


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        form: Its form.
        folder: What the paths in its rows are relative to.
        root: What they must stay inside.
        rows: Yields the place and the entry of each clip; told what to do with those that cannot be used.
    """

    form: Form
    folder: Path
    root: Path
    rows: Callable[[OnBad], Rows]


def list_source(
    source: str, *, form: Form | None = None, root: str | None = None, target: str | None = None
) -> Listing:
    """Find out in which form clips are listed.

    Args:
        source: A folder, a table (.csv, .json, .jsonl), or a clip.
        form: Takes this form instead of the one that it seems to have.
        root: What paths must stay inside (default: the folder, that of the table; of a clip its own).
        target: Where the result goes; a former one in the folder is no list of its clips.

    Raises:
        InputError: There is nothing of that name, or not that form.
        UsageError: A folder has several forms, or the target is the source.
    """
    path = Path(source)
    name = clean(source)
    if path.is_dir():
        return _list_folder(path, form=form, root=root, target=target)
    if not os.path.lexists(path):
        raise InputError(f"cannot read {name}: no such file or folder")
    if _same(path, target):
        raise UsageError(f"{name} is what is to be written; name another file")
    if path.suffix.lower() in _TABLES:
        found: Form = "manifest" if path.name == _MANIFEST or path.suffix.lower() in _TABLES[2:] else "metadata"
        if form not in (None, "manifest", "metadata"):
            raise UsageError(f"{name} is a table; --form {form} is for folders")
        return Listing(form or found, path.parent, Path(root or path.parent), lambda on_bad: read_table(path, on_bad))
    if form not in (None, "plain"):
        raise UsageError(f"{name} is a file; --form {form} is for a folder or a table")
    return _one_file(path, root)


def _list_folder(folder: Path, *, form: Form | None, root: str | None, target: str | None) -> Listing:
    name = clean(str(folder))
    try:
        names = {one for one in os.listdir(folder) if not one.startswith(".")}
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    if form is None and is_frames_folder(names):
        return _one_file(folder, root)
    names = {one for one in names if not (one in (_MANIFEST, *_METADATA) and _same(folder / one, target))}
    return _list_dataset(folder, names, form=form, root=Path(root) if root is not None else folder)


def _list_dataset(folder: Path, names: set[str], *, form: Form | None, root: Path) -> Listing:
    name = clean(str(folder))
    tables = {"manifest": [_MANIFEST], "metadata": list(_METADATA), "lists": [VIDEO_LIST]}
    present: dict[str, list[str]] = {kind: [one for one in known if one in names] for kind, known in tables.items()}
    fits: dict[Form, bool] = {
        "manifest": bool(present["manifest"]),
        "metadata": bool(present["metadata"]),
        "lists": bool(present["lists"]),
        "labels": (folder / "videos").is_dir() and (folder / "labels").is_dir(),
        "plain": True,
    }
    if form is None:
        found = [kind for kind, fit in fits.items() if fit and kind != "plain"]
        if len(found) > 1:
            raise UsageError(f"{name} has several forms; choose one with --form: {', '.join(found)}, plain")
        form = found[0] if found else "plain"
    if not fits[form]:
        raise InputError(f"{name} has not the form {form} ({FORMS[form]})")
    if form == "plain":
        return Listing(form, folder, root, lambda on_bad: _plain(folder, root, on_bad))
    if form == "labels":
        return Listing(form, folder, root, lambda on_bad: _labels(folder, root, on_bad))
    if len(present[form]) > 1:
        raise UsageError(f"{name} has {' and '.join(present[form])}; name the file that counts")
    safe_join(root, present[form][0], base=folder)  # a list may be a link, too
    if form == "lists":
        for one in PROMPT_LISTS:
            safe_join(root, one, base=folder)
        return Listing(form, folder, root, lambda on_bad: read_lists(folder, on_bad))
    table = folder / present[form][0]
    return Listing(form, folder, root, lambda on_bad: read_table(table, on_bad))


def _same(path: Path, target: str | None) -> bool:
    return target not in (None, "-") and os.path.realpath(path) == os.path.realpath(str(target))


def _one_file(path: Path, root: str | None) -> Listing:
    """Return the listing of a clip that was named: a link may lead anywhere, unless there is a root."""
    path = Path(os.path.abspath(path))

    def rows(on_bad: OnBad) -> Rows:
        yield clean(str(path)), {field_of(path.name): path.name}

    inside = Path(root) if root is not None else Path(path.resolve().anchor)
    return Listing("plain", path.parent, inside, rows)


def _plain(folder: Path, root: Path, on_bad: OnBad) -> Rows:
    """Yield each clip of a folder, with the text beside it as its caption."""
    for relative, texts in walk(folder, on_bad):
        stem = relative.rpartition("/")[2].rpartition(".")[0]
        place = clean(str(folder / relative))
        entry = {field_of(relative): relative}
        if f"{stem}.txt" in texts:
            _add_caption(entry, place, on_bad, root, f"{relative.rpartition('.')[0]}.txt", base=folder)
        yield place, entry


def _labels(folder: Path, root: Path, on_bad: OnBad) -> Rows:
    """Yield each clip of videos/ with the first line of its text in labels/.

    Source: zai-org/CogVideo sat/data_video.py, which reads that line only.
    """
    for relative, _ in walk(folder, on_bad, "videos/"):
        place = clean(str(folder / relative))
        entry = {field_of(relative): relative}
        text = f"labels/{relative.removeprefix('videos/').rpartition('.')[0]}.txt"
        if os.path.lexists(folder / text):
            _add_caption(entry, place, on_bad, root, text, base=folder, first_line=True)
        yield place, entry


def _add_caption(
    entry: Entry, place: str, on_bad: OnBad, root: Path, text: str, *, base: Path, first_line: bool = False
) -> None:
    """Read a caption into an entry; without one the clip still counts."""
    try:
        caption = read_text(root, text, base=base, first_line=first_line)
        if caption:
            entry["caption"] = caption
    except (InputError, RefusedError) as error:
        on_bad(place, type(error)(f"{place}: its caption: {error}"))
