"""Clips and captions listed in a file: metadata.csv, .json or .jsonl, manifests, and a pair of text files."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from cogvx.data.manifest import Entry, iter_manifest, parse_entry
from cogvx.data.scan.files import field_of
from cogvx.errors import CogvxError, InputError
from cogvx.files import clean

PATHS = ("file_name", "file_path", "video_path", "path", "filename", "filepath")
CAPTIONS = ("text", "caption", "prompt", "cap")
VIDEO_LIST = "videos.txt"
PROMPT_LISTS = ("prompts.txt", "prompt.txt")
_MAX_FIELD = 16 << 20  # characters of one cell
_MAX_JSON = 2 << 30  # bytes of a .json file, which is read as a whole
_NUMBERS = ("start", "end", "fps", "duration", "num_frames", "height", "width")

OnBad = Callable[[str, CogvxError], None]
Rows = Iterator[tuple[str, Entry]]


def read_table(path: Path, on_bad: OnBad) -> Rows:
    """Yield the place and the entry of each row of a table, chosen by its suffix; columns that we do not know are kept.

    Args:
        path: A .csv, .json, .jsonl or .ndjson file.
        on_bad: Told the place and error of each row that is none; it is left out.

    Raises:
        InputError: It cannot be read.
    """
    kind = path.suffix.lower()
    rows = _csv(path, on_bad) if kind == ".csv" else _json(path, on_bad) if kind == ".json" else _jsonl(path, on_bad)
    for place, row in rows:
        try:
            yield place, _checked(_entry(row))
        except InputError as error:
            on_bad(place, InputError(f"{place}: {error}"))


def read_lists(folder: Path, on_bad: OnBad) -> Rows:
    """Yield the place and the entry of each line of videos.txt, with the prompt of the same line in prompts.txt.

    Raises:
        InputError: They have different numbers of lines, or cannot be read.
    """
    videos = folder / VIDEO_LIST
    prompts = next((folder / name for name in PROMPT_LISTS if (folder / name).is_file()), None)
    if prompts is not None:
        counts = sum(1 for _ in _lines(videos)), sum(1 for _ in _lines(prompts))
        if counts[0] != counts[1]:
            raise InputError(
                f"{clean(str(videos))} names {counts[0]} clips, but {clean(str(prompts))} has {counts[1]} prompts: "
                "line i of one belongs to line i of the other"
            )
    pairs = zip_longest(_lines(videos), iter(()) if prompts is None else _lines(prompts))
    for number, (video, prompt) in enumerate(pairs, start=1):
        place = f"{clean(str(videos))}:{number}"
        try:
            for name, text in ((videos, video), (prompts, prompt)):
                if not _is_utf8(text or ""):
                    raise InputError(f"line {number} of {clean(str(name))} is not UTF-8")
            if not video:
                raise InputError("the line is empty")
            yield place, {field_of(video): video, **({"caption": prompt} if prompt else {})}
        except InputError as error:
            on_bad(place, InputError(f"{place}: {error}"))


def _entry(row: dict[str, Any]) -> Entry:
    """Return a row under our names: its path as "video" or "image", its text as "caption".

    Raises:
        InputError: It names no file, or a field holds something else.
    """
    rest = {key: value for key, value in row.items() if value not in (None, "")}
    entry: Entry = {}
    if "video" in rest or "image" in rest:
        entry = {key: rest.pop(key) for key in ("video", "image") if key in rest}
        if str(rest.get("text", "")).endswith(".safetensors"):  # of a manifest: embeddings, not words
            entry["text"] = rest.pop("text")
    else:
        name = next((name for name in PATHS if name in rest), None)
        if name is None:
            known = ", ".join(("video", "image", *PATHS))
            raise InputError(f"it names no file: none of {known} (it has {', '.join(map(clean, row))[:100]})")
        value = rest.pop(name)
        if not isinstance(value, str):
            raise InputError(f"{name!r} must be text")
        entry = {field_of(value): value}
    name = "caption" if "caption" in rest else next((name for name in CAPTIONS if name in rest), None)
    if name is not None:
        texts = rest.pop(name)
        texts = texts if isinstance(texts, list) else [texts]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{name!r} must be text")
        entry["caption"] = texts[0]
        if len(texts) > 1:
            more = {f"{name}_{number}": text for number, text in enumerate(texts[1:], start=2)}
            captions = rest.pop("captions", {})
            entry["captions"] = (captions if isinstance(captions, dict) else {}) | more
    rest.pop("text", None)  # a second caption; there it would be taken for a path
    return entry | rest


def _checked(entry: Entry) -> Entry:
    """Return an entry whose known fields have their types; what an earlier scan has noted is left out."""
    checked = parse_entry(json.dumps(entry))
    made = checked.get("made")
    if isinstance(made, dict) and "scan" in made:
        checked["made"] = {name: value for name, value in made.items() if name != "scan"}
        if not checked["made"]:
            del checked["made"]
    return checked


def _csv(path: Path, on_bad: OnBad) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(_MAX_FIELD)
    name = clean(str(path))
    with _opened(path) as file:
        reader = csv.DictReader(file, restkey="")
        while True:
            place = name
            try:
                row = next(reader, None)
                place = f"{name}:{reader.line_num}"
                if row is None:
                    return
                if "" in row:
                    raise InputError("it has more cells than the header")
                cells = {key.strip(): value for key, value in row.items() if value}
                if not all(map(_is_utf8, (*cells, *cells.values()))):
                    raise InputError("not UTF-8")
                yield place, {key: _number(key, value) for key, value in cells.items()}
            except csv.Error as error:
                place = f"{name}:{reader.line_num}"
                on_bad(place, InputError(f"{place}: {error}"))
            except InputError as error:
                on_bad(place, InputError(f"{place}: {error}"))


def _json(path: Path, on_bad: OnBad) -> Iterator[tuple[str, dict[str, Any]]]:
    name = clean(str(path))
    try:
        if path.stat().st_size > _MAX_JSON:
            raise InputError(f"{name}: longer than {_MAX_JSON >> 30} GiB; write it as .jsonl, one object a line")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not JSON: {clean(str(error))}") from error
    if isinstance(content, dict):  # path -> caption, or path -> what is known of it
        content = [
            {"path": key, **(value if isinstance(value, dict) else {"caption": value})}
            for key, value in content.items()
        ]
    if not isinstance(content, list):
        raise InputError(f"{name}: a list of objects is needed")
    for number, row in enumerate(content, start=1):
        place = f"{name}:{number}"
        if isinstance(row, dict):
            yield place, row
        else:
            on_bad(place, InputError(f"{place}: an object is needed"))


def _jsonl(path: Path, on_bad: OnBad) -> Iterator[tuple[str, dict[str, Any]]]:
    def bad(error: CogvxError) -> None:
        found = re.match(r".*?:\d+(?=: )", str(error))
        on_bad(found[0] if found else clean(str(path)), error)

    yield from iter_manifest(path, on_error=bad)


def _is_utf8(text: str) -> bool:
    return not re.search("[\ud800-\udfff]", text)


def _number(key: str, text: str) -> Any:
    """Return a cell of a column that holds numbers as one."""
    if key not in _NUMBERS:
        return text
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{key!r} must be a number, got {clean(text)[:40]!r}") from None
    return int(value) if value.is_integer() else value


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file; empty ones at its end are none."""
    empty = 0
    with _opened(path) as file:
        for line in file:
            if not line.strip():
                empty += 1
                continue
            yield from [""] * empty
            empty = 0
            yield line.strip()


def _opened(path: Path) -> Any:
    """Open a text file of UTF-8; bytes that are none become half surrogate pairs."""
    try:
        return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="" if path.suffix == ".csv" else None)
    except OSError as error:
        raise InputError(f"cannot read {clean(str(path))}: {error.strerror}") from error
