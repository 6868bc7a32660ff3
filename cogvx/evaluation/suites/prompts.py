"""Rows that are two things: prompts to make clips from, and the manifest of the clips once they are made."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cogvx.data.manifest import iter_manifest
from cogvx.errors import InputError
from cogvx.files import MAX_SLUG_BYTES, clean, output_name, safe_join

SEEDS_A_PROMPT = 100  # as the suite of VBench has it
# What a manifest says of its own clips; a new clip has its own.
_OF_THE_CLIP = {
    *("image", "start", "end", "fps", "num_frames", "height", "width", "duration", "sha256", "scores", "labels"),
    *("captions", "latents", "text", "rejected", "errors", "made", "num_videos"),
}


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """How rows are made.

    Attributes:
        seed: Clip i of prompt k gets seed + 100 k + i, unless its row has a seed (then that + i).
        videos: Clips a prompt.
        limit: Take the first prompts only; 0: all.
        caption: The stage of a manifest's `captions` that is the prompt; empty: `prompt`, else `caption`, else `text`.
        suffix: Of the clips' names.
    """

    seed: int = 0
    videos: int = 1
    limit: int = 0
    caption: str = ""
    suffix: str = ".mp4"


def prompt_rows(path: Path | str, options: RowOptions) -> Iterator[dict[str, Any]]:
    """Yield the rows of a list of prompts: one a line (.txt), or objects (.jsonl), which may be a manifest's entries.

    A row has "prompt", "seed", "output" and "video", its clip's file, which keeps the name of the entry's own clip; and
    what else the object says, but for what it says of a clip that is there already.

    Raises:
        InputError: The file cannot be read, has no prompts, or an object has none.
        RefusedError: A clip's name leaves the folder.
    """
    seen: dict[str, str] = {}
    number = -1
    for number, (place, entry) in enumerate(_entries(Path(path))):
        if options.limit and number >= options.limit:
            break
        for row in _rows(entry, number, place, options):
            before = seen.setdefault(row["video"].casefold(), place)
            if before != place:
                raise InputError(f"{place}: the clip would be called {clean(row['video'])}, as that of {before}")
            yield row
    if number < 0:
        raise InputError(f"{path}: no prompts in it")


def _entries(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    if path.is_dir():
        path = path / "manifest.jsonl"
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return ((place, dict(entry)) for place, entry in iter_manifest(path))
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})") from error
    return ((f"{path}:{n}", {"prompt": line.strip()}) for n, line in enumerate(lines, start=1) if line.strip())


def _rows(entry: dict[str, Any], number: int, place: str, options: RowOptions) -> Iterator[dict[str, Any]]:
    prompt = _prompt(entry, options.caption, place)
    seed = entry.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise InputError(f"{place}: seed: expected a whole number of 0 or more, got {seed!r:.80}")
    first = seed if seed is not None else options.seed + SEEDS_A_PROMPT * number
    # An entry with a clip, or with a truth, describes that clip; a row with neither is a list of wishes.
    described = isinstance(entry.get("video"), str) and entry.get("output") is None
    kept = {key: value for key, value in entry.items() if not (described and key in _OF_THE_CLIP)}
    for key in ("caption", "text"):
        kept.pop(key, None)
    for index in range(options.videos):
        name = _name(entry, prompt, number, index, options)
        safe_join(Path(), name)
        yield {**kept, "prompt": prompt, "seed": first + index, "output": name, "video": name}


def _prompt(entry: dict[str, Any], stage: str, place: str) -> str:
    captions = entry.get("captions")
    if stage:
        found = captions.get(stage) if isinstance(captions, dict) else None
    else:
        found = next((entry[key] for key in ("prompt", "caption", "text") if entry.get(key) is not None), None)
    if not isinstance(found, str) or not found.strip():
        wanted = f"captions.{stage}" if stage else "prompt"
        raise InputError(f"{place}: no text under {wanted!r} (has {', '.join(sorted(entry))[:200]})")
    return found


def _name(entry: dict[str, Any], prompt: str, number: int, index: int, options: RowOptions) -> str:
    """Return the file name of a clip: the row's own, else that of the entry's clip, else its number and prompt."""
    own = entry.get("output")
    if isinstance(own, str) and own:
        path = PurePosixPath(own)
        return own if options.videos == 1 else str(path.with_name(f"{path.stem}-{index}{path.suffix}"))
    stem = PurePosixPath(str(entry["video"])).stem if isinstance(entry.get("video"), str) else ""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", stem) or len(stem) > MAX_SLUG_BYTES:
        stem = f"{number:04d}-{output_name(prompt, 0, '')[:-9][:40].rstrip('-')}"
    return f"{stem}{f'-{index}' if options.videos > 1 else ''}{options.suffix}"
