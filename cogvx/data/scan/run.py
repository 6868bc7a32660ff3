"""Scanning: every clip that is listed is probed, in a process of its own, and becomes an entry."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogvx.data.cache import content_sha256
from cogvx.data.manifest import Entry
from cogvx.data.media import DEFAULT_LIMITS, Limits
from cogvx.data.paths import checked_absolute, relative_to
from cogvx.data.scan.files import EITHER
from cogvx.data.scan.forms import Form, Listing, list_source
from cogvx.data.stages.run import OnFailure, Report, RunOptions, RunResult, Work, run_works
from cogvx.data.stages.source import STREAM, OnBad, make_item
from cogvx.data.stages.stage import Item
from cogvx.data.video import probe
from cogvx.errors import InputError, RefusedError, UsageError
from cogvx.files import clean

_COUNT_SECONDS = 5.0  # to find out how many clips there are before the first one is done
_VERSION = 1


@dataclass(frozen=True)
class ProbeStage:
    """Adds what a clip is: sha256, num_frames, height, width, fps, duration.

    Attributes:
        hash: Whether to hash the bytes.
        limits: What decoding the first frame may cost.
    """

    hash: bool = True
    limits: Limits = DEFAULT_LIMITS
    name = "scan"

    def settings(self) -> dict[str, Any]:
        """Return all that changes its results."""
        return {"version": _VERSION, "hash": self.hash}

    def wanted(self, entry: Entry) -> bool:
        """Whether the entry has not been probed with these settings."""
        return entry.get("made", {}).get("scan") != self.settings()

    def open(self) -> None:
        """Nothing is needed ahead."""

    def process(self, item: Item) -> list[Entry]:
        """Return the entry with what its file is.

        Raises:
            InputError: It is missing, no clip, damaged at its start, or not what its sha256 says.
        """
        if item.path is None:
            raise InputError("it names neither 'video' nor 'image'")
        info = probe(item.path, limits=self.limits)
        row = dict(item.entry)
        if "video" in row and info.frames == 1 and item.path.suffix.lower() in EITHER:
            row = {"image" if key == "video" else key: value for key, value in row.items()}
        row |= {"height": info.height, "width": info.width}
        if "video" in row:
            row["fps"] = info.fps
            if "start" not in row and "end" not in row:  # what else is known is of the whole file
                row["duration"] = info.duration
                if info.frames:
                    row["num_frames"] = info.frames
        if self.hash:
            found = content_sha256(item.path)
            if row.get("sha256", found).lower() != found:
                raise InputError(f"{item.path}: its sha256 differs from that in the manifest: it has changed")
            row["sha256"] = found
        row["made"] = {**row.get("made", {}), "scan": self.settings()}
        return [row]

    def close(self) -> None:
        """Nothing is to be let go of."""


def scan(
    sources: list[str],
    target: str,
    *,
    stage: ProbeStage,
    options: RunOptions,
    form: Form | None = None,
    root: str | None = None,
    report: Report | None = None,
    on_failure: OnFailure | None = None,
    on_stop: Callable[[], None] = lambda: None,
) -> RunResult:
    """Write a manifest of the clips that folders, tables and files list, in their order.

    Clips that a former result has, and whose files have not changed since, are not looked at again.

    Args:
        sources: Folders, tables, clips; "-" reads their paths from standard input, one a line.
        target: A manifest, or "-".
        stage: What is done with each clip.
        options: How it is done.
        form: The form of the sources (default: found out).
        root: What paths must stay inside (default: each source's own folder).
        report: Told how many clips are done, of how many (0: unknown).
        on_failure: Told each clip, and each row, that cannot be used.
        on_stop: Called when a signal asks to stop.

    Raises:
        InputError: A source is not there, or not of the form, or there is no clip in any of them.
        UsageError: The target is something that would be lost.
        MissingError: The disk is full.
    """
    work = make_work(sources, target, form=form, root=root, shard=options.shard)
    result = run_works(stage, [work], target, options=options, report=report, on_failure=on_failure, on_stop=on_stop)
    if not (result.done or result.kept or result.failed):
        raise InputError(f"{', '.join(map(clean, sources))[:200]}: no clips in it")
    return result


def make_work(
    sources: list[str], target: str, *, form: Form | None, root: str | None, shard: tuple[int, int] | None = None
) -> Work:
    """Return the clips of sources as work for a stage; arguments and errors are those of scan."""
    base = Path() if target == STREAM else Path(target).parent
    index, count = shard or (1, 1)
    stream = STREAM in sources
    if stream and len(sources) > 1:
        raise UsageError("- reads all sources from stdin; name no others beside it")
    listings = None if stream else [list_source(source, form=form, root=root, target=target) for source in sources]

    def rows(on_bad: OnBad) -> Iterator[tuple[Listing, str, Entry]]:
        for listing in _streamed(form, root, on_bad) if listings is None else listings:
            for place, entry in listing.rows(on_bad):
                yield listing, place, entry

    def items(on_bad: OnBad) -> Iterator[Item]:
        def bad(place: str, error: Any) -> None:
            if index == 1:  # the others see the same
                on_bad(place, error)

        for number, (listing, place, entry) in enumerate(rows(bad)):
            if number % count != index - 1:
                continue
            try:
                yield _item(listing, place, entry, base)
            except (InputError, RefusedError) as error:
                on_bad(place, type(error)(f"{place}: {error}"))

    total = 0 if listings is None else -(-_count(rows(lambda place, error: None)) // count)
    return Work(target, items, total, again=not stream)


def _item(listing: Listing, place: str, entry: Entry, base: Path) -> Item:
    """Return a listed clip as an item; its stamp tells whether the file has changed."""
    absolute = checked_absolute(entry, folder=listing.folder, root=listing.root)
    path = Path(absolute.get("video") or absolute["image"])
    try:
        status = os.stat(path)
        stamp = f"{status.st_size} {status.st_mtime_ns}"
    except OSError:  # the stage says what is wrong
        stamp = ""
    return make_item(relative_to(absolute, base), path, place, stamp=stamp)


def _streamed(form: Form | None, root: str | None, on_bad: OnBad) -> Iterator[Listing]:
    """Yield the listing of each path on standard input."""
    for number, line in enumerate(sys.stdin.buffer, start=1):
        source = os.fsdecode(line.rstrip(b"\r\n"))
        if not source:
            continue
        try:
            yield list_source(source, form=form, root=root)
        except (InputError, RefusedError) as error:
            on_bad(f"<stdin>:{number}", type(error)(f"<stdin>:{number}: {error}"))


def _count(rows: Iterable[object]) -> int:
    """Return how many there are; 0 if that takes too long to find out, or shows something that is wrong."""
    end = time.monotonic() + _COUNT_SECONDS
    count = 0
    try:
        for count, _ in enumerate(rows, start=1):  # noqa: B007
            if time.monotonic() > end:
                return 0
    except (InputError, RefusedError):
        return 0
    return count
