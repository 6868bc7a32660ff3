"""A selection over manifests of any length: one pass that looks, one that writes, and nothing is lost between."""

import contextlib
import os
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from cogvx.data.manifest import Entry, format_entry, iter_lines, parse_entry
from cogvx.data.paths import checked_absolute, levels_up, relative_to
from cogvx.data.select.decide import Verdict, decide
from cogvx.data.select.nodes import Column
from cogvx.data.select.options import SelectOptions
from cogvx.data.select.reasons import Reasons
from cogvx.data.select.table import Table, find, known_columns, rejections
from cogvx.errors import CogvxError, InputError, UsageError
from cogvx.files import atomic_path, clean

_MAX_GROUPS = 10_000
_KNOWN_FROM = 1000  # entries whose columns are remembered for messages
_REPORT_EVERY = 5000  # lines

OnFailure = Callable[[str, CogvxError], None]
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Shard:
    """A manifest that is read, and where what becomes of it goes.

    Attributes:
        source: A path, or an open file that can go back to its start.
        target: The manifest to write; None: standard output.
        folder: What the source's paths are relative to.
        root: What they must stay inside.
    """

    source: Path | IO[bytes]
    target: Path | None
    folder: Path
    root: Path

    @property
    def base(self) -> Path:
        """What the paths of the target are relative to."""
        return Path() if self.target is None else self.target.parent

    @property
    def moves(self) -> bool:
        """Whether paths change, because the target is in another folder."""
        return os.path.realpath(self.folder) != os.path.realpath(self.base)


@dataclass
class SelectResult:
    """What a selection did.

    Attributes:
        total: Entries that were read.
        kept: Entries that are not rejected.
        rejected: Entries that this selection rejects and nobody else.
        before: Entries that were rejected for another reason already.
        failed: Lines that are no entries.
        reasons: Condition, with what its quantiles are -> entries that do not fulfil it.
        thresholds: Quantile, such as "flow >= q0.2" -> its value.
        levels_up: How many folders up the paths that were written lead.
    """

    total: int = 0
    kept: int = 0
    rejected: int = 0
    before: int = 0
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    levels_up: int = 0


class Selector:
    """One selection over one or more manifests; quantiles and shares are of all of them together."""

    def __init__(self, options: SelectOptions, shards: Sequence[Shard], *, on_failure: OnFailure | None = None) -> None:
        """Look at nothing yet.

        Args:
            options: The selection.
            shards: What is read, and where it goes.
            on_failure: Told of each line that is no entry, with its place (default: the first one is raised).
        """
        self._options, self._shards, self._on_failure = options, shards, on_failure
        nodes = [part.node for part in (options.where, options.top and options.top.by) if part]
        self._table = Table(nodes)
        self._own = array("b")  # whether a row has reasons of an earlier run of this selection
        self._groups: array[int] | None = array("i") if options.top and options.top.within else None
        self._codes: dict[Any, int] = {}
        self._seen: list[_Seen] = []
        self._known: dict[str, None] = {}
        self._verdict: Verdict | None = None
        self.result = SelectResult()

    def look(self, report: Report | None = None) -> SelectResult:
        """Read everything once and decide; nothing is written.

        Raises:
            UsageError: A column means two things, or is no number.
            InputError: A manifest cannot be read, or too many entries lack a column.
        """
        prefix, within = self._options.prefix, self._options.top.within if self._options.top else None
        for shard in self._shards:
            begin, bad = len(self._table), set()
            stamp = _stamp(shard.source)
            for number, place, line in self._lines(shard, "read", report, tell=True):
                try:
                    entry = parse_entry(line)
                except InputError as error:
                    bad.add(number)
                    self._fail(InputError(f"{place}: {error}"))
                    continue
                others, own = rejections(entry, prefix)
                self._table.add(entry, place=place, rejected=bool(others))
                self._own.append(own)
                if self._groups is not None and within is not None:
                    self._groups.append(self._code(entry, within, place))
                if len(self._table) <= _KNOWN_FROM:
                    self._known |= dict.fromkeys(known_columns(entry))
            self._seen.append(_Seen(begin, len(self._table), bad, stamp))
        groups = None if self._groups is None else np.frombuffer(self._groups, np.int32)
        counted = ~self._table.rejected(slice(None))
        self._verdict = decide(self._options, self._table, counted=counted, groups=groups, known=self._known)
        self._count(self._verdict)
        return self.result

    def write(self, report: Report | None = None, *, overwrite: bool = False) -> SelectResult:
        """Read everything again and write what was decided; the manifests appear whole or not at all.

        Raises:
            InputError: A manifest has changed since it was looked at.
            RefusedError: A path leaves the root of a manifest that moves.
            UsageError: A target exists.
            MissingError: The disk is full.
        """
        assert self._verdict is not None, "look first"
        with contextlib.ExitStack() as places:  # several manifests get their names together, at the end
            for shard, seen in zip(self._shards, self._seen, strict=True):
                if shard.target is None:
                    sys.stdout.buffer.writelines(self._written(shard, seen, report))
                    sys.stdout.buffer.flush()
                    continue
                temporary = places.enter_context(atomic_path(shard.target, overwrite=overwrite))
                with open(temporary, "wb", buffering=1 << 20) as file:
                    file.writelines(self._written(shard, seen, report))
        return self.result

    def _written(self, shard: Shard, seen: "_Seen", report: Report | None) -> Iterator[bytes]:
        """Yield the lines of one manifest's result; those that do not change are not even parsed again."""
        verdict, moves, row = self._verdict, shard.moves, seen.begin
        assert verdict is not None
        changed = ~(verdict.passed & verdict.best) | (np.frombuffer(self._own, np.int8) != 0)
        where = self._options.where
        reasons = Reasons(where, self._table, verdict.thresholds) if where is not None else None
        for number, place, line in self._lines(shard, "write", report, tell=False):
            if number in seen.bad:
                continue
            if row >= seen.end:
                break
            if verdict.kept[row] or not self._options.keep_only:
                if changed[row] or moves:
                    entry = self._parsed(line, place)
                    entry = self._edited(entry, row, reasons)
                    if moves:
                        entry = relative_to(checked_absolute(entry, folder=shard.folder, root=shard.root), shard.base)
                        self.result.levels_up = max(self.result.levels_up, levels_up(entry))
                    yield format_entry(entry)
                else:
                    yield line.rstrip(b"\r\n") + b"\n"
            row += 1
        if row != seen.end or _stamp(shard.source) != seen.stamp:
            raise InputError(f"{clean(str(shard.source))}: it changed while it was read; run the command again")

    def _edited(self, entry: Entry, row: int, reasons: Reasons | None) -> Entry:
        """Return an entry with this selection's reasons in place of those of an earlier run."""
        verdict, prefix = self._verdict, self._options.prefix
        assert verdict is not None
        kept, _ = rejections(entry, prefix)
        words: list[str] = []
        if not verdict.passed[row] and reasons is not None:
            for node, decided in zip(verdict.conjuncts, verdict.truths, strict=True):
                if decided[row] < self._options.least:
                    words += reasons.why(node, int(decided[row]), entry, row)
        if not verdict.best[row]:
            words.append(self._not_best(row))
        every = [*kept, *(f"{prefix}{word}" for word in dict.fromkeys(words))]
        entry = {name: value for name, value in entry.items() if name != "rejected"}
        return entry | ({"rejected": every} if every else {})

    def _not_best(self, row: int) -> str:
        top, verdict = self._options.top, self._verdict
        assert top is not None and verdict is not None and verdict.best_values is not None
        name, value = top.by.source(top.by.node), float(verdict.best_values[row])
        return f"no {clean(name)[:200]}" if np.isnan(value) else f"{clean(name)[:200]} {value:.6g} is not in the {top}"

    def _count(self, verdict: Verdict) -> None:
        result, counted = self.result, ~self._table.rejected(slice(None))
        result.total, result.kept = len(self._table), int(verdict.kept.sum())
        result.before = int((~counted).sum())
        result.rejected = result.total - result.before - result.kept
        where = self._options.where
        if where is not None:
            words = Reasons(where, self._table, verdict.thresholds)
            for node, decided in zip(verdict.conjuncts, verdict.truths, strict=True):
                result.reasons[words.named_threshold(node)] = int((counted & (decided < self._options.least)).sum())
            for quantile, cut in verdict.thresholds.items():
                name = f"{where.source(quantile)} of {where.source(quantile.of)}"
                result.thresholds[name] = cut
        if self._options.top is not None:
            result.reasons[str(self._options.top)] = int((counted & verdict.passed & ~verdict.best).sum())

    def _lines(
        self, shard: Shard, stage: str, report: Report | None, *, tell: bool
    ) -> Iterator[tuple[int, str, bytes]]:
        """Yield the number among the lines, the place, and each line of a manifest."""
        source, done = shard.source, 0
        if not isinstance(source, Path):
            source.seek(0)
        sizes = [_stamp(one.source)[0] for one in self._shards] if report is not None else []
        total, before = max(1, sum(sizes) >> 20), sum(sizes[: self._shards.index(shard)])
        for number, (place, line) in enumerate(iter_lines(source, on_error=self._fail if tell else lambda _: None)):
            done += len(line)
            if report is not None and number % _REPORT_EVERY == 0:
                report(f"{stage} MiB", (before + done) >> 20, total)
            yield number, place, line

    def _parsed(self, line: bytes, place: str) -> Entry:
        try:
            return parse_entry(line)
        except InputError as error:
            raise InputError(f"{place}: it changed while it was read ({error})") from error

    def _fail(self, error: CogvxError) -> None:
        if self._on_failure is None:
            raise error
        self.result.failed += 1
        self._on_failure(str(error).partition(": ")[0], error)

    def _code(self, entry: Entry, within: Column, place: str) -> int:
        """Return the number of an entry's group; entries without the column are one."""
        value = find(entry, within)[1]
        if not isinstance(value, str | int | float | None):
            raise UsageError(f"{place}: {within} is neither a number nor a text, so it makes no groups")
        code = self._codes.setdefault(value, len(self._codes))
        if code >= _MAX_GROUPS:
            raise UsageError(f"--within {within} makes more than {_MAX_GROUPS:,} groups")
        return code


@dataclass(frozen=True)
class _Seen:
    """What was found in one manifest.

    Attributes:
        begin: Its first row in the table.
        end: The row behind its last one.
        bad: Lines that are no entries, by their number among those that are not empty.
        stamp: Size and time of the file.
    """

    begin: int
    end: int
    bad: set[int]
    stamp: tuple[int, int]


def _stamp(source: Path | IO[bytes]) -> tuple[int, int]:
    """Return size and time of a file, which tell whether it has changed.

    Raises:
        InputError: It is not there.
    """
    try:
        about = os.stat(source) if isinstance(source, Path) else os.fstat(source.fileno())
    except OSError as error:
        raise InputError(f"cannot read {clean(str(source))}: {error.strerror}") from error
    return about.st_size, about.st_mtime_ns
