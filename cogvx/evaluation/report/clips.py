"""Clips to play: found beside results or given, made small, and kept in the page as far as it may grow."""

import base64
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogvx.data.video import probe
from cogvx.errors import CogvxError, InputError
from cogvx.evaluation.report.sources import Source
from cogvx.files import safe_join, sha256_file
from cogvx.serving.playable import PlayableClips

SUFFIXES = (".mp4", ".m4v", ".webm", ".mkv", ".mov", ".avi", ".gif", ".webp")
FOLDER = "clips"
_MOST_LOOKED_AT = 2000
_LONGEST_TEXT = 600


@dataclass(frozen=True)
class Wanted:
    """A clip that could be shown.

    Attributes:
        system: Whose it is.
        path: Its file.
        text: What it should show; "" if nothing says it.
        start: Where it begins in its file, in seconds.
        end: Where it ends.
    """

    system: str
    path: Path
    text: str = ""
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Shown:
    """A clip on the page.

    Attributes:
        system: Whose it is.
        name: Its file's name.
        text: What it should show.
        url: A data URI, or the path of its file from the page.
        data: What is written there; None for a data URI.
    """

    system: str
    name: str
    text: str
    url: str
    data: bytes | None = None


def beside_results(sources: Sequence[Source], root: Path | None = None) -> list[Wanted]:
    """Return the clips that results name, as far as they lie in the folder of their result, or in another one.

    A result may come from a stranger, so what it names elsewhere is not looked at.

    Args:
        sources: The results.
        root: The other folder.
    """
    found: dict[tuple[str, str], Wanted] = {}
    for source in sources:
        own = _at_work(root or source.path.parent)
        looked = 0
        for row in source.result.per_video:
            if not isinstance(row, dict) or not isinstance(row.get("input"), str):
                continue
            looked += 1
            if looked > _MOST_LOOKED_AT:
                break
            path = own(row["input"])
            system = row.get("system") if isinstance(row.get("system"), str) else source.system
            key = (str(system), os.path.realpath(path)) if path is not None else None
            if path is None or key is None:
                continue
            text = next((row[name] for name in ("text", "prompt") if isinstance(row.get(name), str)), "")
            if key not in found or (text and not found[key].text):
                found[key] = Wanted(key[0], path, text)
    return list(found.values())


def choose(wanted: Sequence[Wanted], most: int) -> list[list[Wanted]]:
    """Return the clips to show in groups of what they should show: those first that most systems have.

    Args:
        wanted: All clips.
        most: Of each system.
    """
    groups: dict[str, list[Wanted]] = {}
    counts: dict[str, int] = {}
    for one in wanted:
        counts[one.system] = counts.get(one.system, 0) + 1
        # Clips without a text go together by their names.
        groups.setdefault(one.text or f"\0{one.path.stem}", []).append(one)
    ranked = sorted(groups.values(), key=lambda group: -len({one.system for one in group}))
    left = dict.fromkeys(counts, most)
    chosen: list[list[Wanted]] = []
    for group in ranked:
        kept = []
        for one in group:
            if left[one.system] > 0:
                left[one.system] -= 1
                kept.append(one)
        if kept:
            chosen.append(kept)
    return chosen


def with_text(one: Wanted) -> Wanted:
    """Return a clip with the prompt in its comment tag, if nothing else says what it should show."""
    if one.text:
        return one
    try:
        record = json.loads(probe(one.path).comment or "{}")
    except (CogvxError, ValueError, RecursionError):
        return one  # what cannot be read is told when it is made playable
    text = record.get("prompt") if isinstance(record, dict) else None
    return Wanted(one.system, one.path, text if isinstance(text, str) else "", one.start, one.end)


def playable(
    groups: Sequence[Sequence[Wanted]],
    *,
    inline_bytes: int,
    on_failure: Callable[[Path, CogvxError], None],
    report: Callable[[int, int], None] | None = None,
) -> list[list[Shown]]:
    """Make clips that browsers play: H.264, at most 640 pixels and two minutes, without tags.

    Args:
        groups: What to show.
        inline_bytes: Clips are put into the page until together they are so large; further ones get files.
        on_failure: Called with a clip that cannot be read.
        report: Called with clips done and all.
    """
    total, done, used = sum(map(len, groups)), 0, 0
    shown: list[list[Shown]] = []
    names: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="cogvx-report-") as folder:
        clips = PlayableClips(Path(folder))
        for group in groups:
            kept = []
            for one in group:
                if report is not None:
                    report(done, total)
                done += 1
                try:
                    path = clips.clip(one.path, one.start, one.end, made=True).path
                except CogvxError as error:
                    if not isinstance(error, InputError):
                        raise
                    on_failure(one.path, error)
                    continue
                data = path.read_bytes()
                inline = used + len(data) <= inline_bytes
                used += len(data) if inline else 0
                name = f"{sha256_file(path)[:16]}.mp4"
                url = f"data:video/mp4;base64,{base64.b64encode(data).decode()}" if inline else f"{FOLDER}/{name}"
                own = None if inline or name in names else data
                if not inline:
                    names.add(name)
                kept.append(Shown(one.system, one.path.name, one.text[:_LONGEST_TEXT], url, own))
            if kept:
                shown.append(kept)
    return shown


def written(groups: Sequence[Sequence[Shown]]) -> Iterator[tuple[str, bytes]]:
    """Yield the clips that are not in the page: where they go, from the page's folder, and what they are."""
    for group in groups:
        for one in group:
            if one.data is not None:
                yield one.url, one.data


def _at_work(folder: Path) -> Callable[[str], Path | None]:
    """Return what finds a clip in a folder by its path, or by its name alone; None where there is no clip."""

    def find(name: str) -> Path | None:
        for one in dict.fromkeys((name, _last(name))):
            if Path(one).suffix.lower() not in SUFFIXES:
                continue
            try:
                path = safe_join(folder, one)
            except CogvxError:
                continue
            if path.is_file():
                return path
        return None

    return find


def _last(name: str) -> Any:
    return name.replace("\\", "/").rsplit("/", 1)[-1]
