"""The stage that scores clips: each is decoded once, and all signals look at the same sample of it."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cogvx.data.manifest import Entry
from cogvx.data.signals.marking import COLUMNS
from cogvx.data.signals.sample import Sample, read_sample
from cogvx.data.signals.signal import Signal, finite
from cogvx.data.stages import Item
from cogvx.errors import InputError


@dataclass(frozen=True)
class ScoreStage:
    """Adds the columns of signals to entries (see cogvx.data.stages.stage.Stage).

    Attributes:
        signals: What to measure.
    """

    signals: tuple[Signal, ...]

    name = "score"

    def settings(self) -> dict[str, Any]:
        """Return the parameters of all signals."""
        return self._made

    def columns(self) -> tuple[str, ...]:
        """Return the dotted names of all that is added, with what may have been marked afterwards."""
        names = [f"{table}.{column}" for column in self._made for table in ("scores", "made")]
        fields = [field for signal in self.signals for field in signal.fields]
        return (*names, *fields, *COLUMNS)

    def wanted(self, entry: Entry) -> bool:
        """Whether a signal has not been measured with these parameters."""
        return any(self._missing(entry))

    def open(self) -> None:
        """Load what the signals need (see Signal.open)."""
        try:
            import cv2
        except ImportError:  # not every signal needs it; one that does says so
            pass
        else:
            cv2.setNumThreads(1)
        for signal in self.signals:
            signal.open()

    def process(self, item: Item) -> list[Entry]:
        """Measure a clip with each signal that is missing in its entry.

        Raises:
            InputError: It names no file, or the file cannot be decoded.
        """
        if item.path is None:
            raise InputError(f"{item.place}: the entry names neither a video nor an image")
        missing = list(self._missing(item.entry))
        sample = self._sample(item, missing)
        row = dict(item.entry)
        scores, made = dict(row.get("scores") or {}), dict(row.get("made") or {})
        fields: dict[str, Any] = {}
        for signal in missing:
            measured = signal.measure(sample)
            found = finite(measured.scores)
            for column in signal.columns:
                scores.pop(column, None)
                made[column] = self._made[column]
                if column in found:
                    scores[column] = found[column]
            fields |= measured.fields
        if scores or "scores" in row:
            row["scores"] = scores
        return [row | {"made": made} | fields]

    def close(self) -> None:
        """Do nothing: what is loaded goes with the process."""

    def _sample(self, item: Item, signals: list[Signal]) -> Sample:
        entry = item.entry
        assert item.path is not None
        still = "video" not in entry  # of an image that is a clip, only the first frame counts
        return read_sample(
            item.path,
            start=None if still else entry.get("start"),
            end=None if still else entry.get("end"),
            runs=any(signal.view == "runs" for signal in signals),
            max_frames=1 if still or all(signal.view == "file" for signal in signals) else None,
        )

    def _missing(self, entry: Entry) -> Iterable[Signal]:
        made = entry.get("made")
        made = made if isinstance(made, dict) else {}
        for signal in self.signals:
            if any(made.get(column) != self._made[column] for column in signal.columns):
                yield signal

    @functools.cached_property
    def _made(self) -> dict[str, Any]:
        """What each column depends on; worked out once, since it is asked for every entry."""
        return {column: signal.made() for signal in self.signals for column in signal.columns}
