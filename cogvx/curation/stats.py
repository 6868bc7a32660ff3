"""What is in a manifest: counts, lengths, sizes, and the spread of every number, in one pass over its lines."""

import hashlib
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from cogvx.data.manifest import Entry, entry_id
from cogvx.errors import InputError
from cogvx.files import clean

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OTHER = "(other)"
_MOST_NAMES = 1000  # of columns, reasons, sizes: strangers' manifests may name any number of them
_NUMBERS = ("duration", "num_frames", "height", "width", "fps")
_TABLES = ("scores", "labels")


@dataclass(frozen=True)
class Column:
    """The numbers of one column.

    Attributes:
        name: Such as "duration", "scores.flow", "caption words".
        values: In the order of the manifest, those that there are.
        missing: Entries without one.
    """

    name: str
    values: np.ndarray
    missing: int

    def summary(self) -> dict[str, float | int]:
        """Return n, missing, mean, std (of the numbers themselves: divided by n), min, quantiles (q0.05 …), max."""
        summary: dict[str, float | int] = {"n": len(self.values), "missing": self.missing}
        if len(self.values):
            quantiles = np.quantile(self.values, QUANTILES)
            summary |= {"mean": float(self.values.mean()), "std": float(self.values.std())}
            summary |= {"min": float(self.values.min())}
            summary |= {f"q{q:g}": float(value) for q, value in zip(QUANTILES, quantiles, strict=True)}
            summary |= {"max": float(self.values.max())}
        return summary


class ManifestStats:
    """Counts entries one by one; it keeps 8 bytes for each number of each, and 16 to know duplicates."""

    def __init__(self) -> None:
        self.count = 0
        self._numbers: dict[str, array[float]] = {}
        self._tables: dict[str, Counter[str]] = {
            name: Counter() for name in ("kind", "split", "size", "rejected", "errors")
        }
        self._marks: Counter[str] = Counter()
        self._seconds = 0.0
        self._ids, self._contents = array("Q"), array("Q")

    def add(self, entry: Entry) -> None:
        """Count an entry."""
        self.count += 1
        self._count_kind(entry)
        seconds = _seconds(entry)
        self._seconds += seconds or 0.0
        numbers = {name: entry.get(name) for name in _NUMBERS} | {"duration": seconds}
        for table in _TABLES:
            numbers |= {f"{table}.{name}": value for name, value in entry.get(table, {}).items()}
        texts = {"caption": entry["caption"]} if "caption" in entry else {}
        texts |= {f"captions.{name}": text for name, text in entry.get("captions", {}).items()}
        for name, text in texts.items():
            numbers |= {f"{name} words": len(text.split()), f"{name} letters": len(text)}
        for name, value in numbers.items():
            if value is None or (name not in self._numbers and len(self._numbers) >= _MOST_NAMES):
                continue
            self._numbers.setdefault(name, array("d")).append(float(value))

    def columns(self) -> list[Column]:
        """Return the columns that have numbers: the entries' own, captions, scores, labels."""
        order = [*_NUMBERS, "caption words", "caption letters"]
        names = sorted(self._numbers, key=lambda name: (order.index(name) if name in order else len(order), name))
        return [
            Column(name, np.frombuffer(self._numbers[name], np.float64), self.count - len(self._numbers[name]))
            for name in names
        ]

    def counts(self) -> dict[str, int | float]:
        """Return how many entries there are, of which kinds, how long they last together, and how many stand twice."""
        kinds = self._tables["kind"]
        return {
            "entries": self.count,
            "videos": kinds["video"],
            "images": kinds["image"],
            "parts": self._marks["part"],
            "hours": self._seconds / 3600,
            "captioned": self._marks["captioned"],
            "encoded": self._marks["encoded"],
            "rejected": self._marks["rejected"],
            "with_errors": self._marks["errors"],
            "same_entry": _repeated(self._ids),
            "same_content": _repeated(self._contents),
        }

    def tables(self) -> dict[str, dict[str, int]]:
        """Return splits, sizes, reasons of rejection and stages with errors, with their counts, the greatest first."""
        return {
            name: dict(self._tables[name].most_common())
            for name in ("split", "size", "rejected", "errors")
            if self._tables[name]
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        columns = {column.name: column.summary() for column in self.columns()}
        return self.counts() | self.tables() | {"columns": columns}

    def _count_kind(self, entry: Entry) -> None:
        kind = next((name for name in ("video", "image") if name in entry), "latents")
        self._note("kind", kind)
        self._marks["part"] += "start" in entry or "end" in entry
        self._marks["captioned"] += bool(entry.get("caption"))
        self._marks["encoded"] += "latents" in entry
        self._marks["rejected"] += bool(entry.get("rejected"))
        self._marks["errors"] += bool(entry.get("errors"))
        if "split" in entry:
            self._note("split", entry["split"])
        if "width" in entry and "height" in entry:
            self._note("size", f"{entry['width']:g}x{entry['height']:g}")
        for reason in {str(reason) for reason in entry.get("rejected", ())}:
            self._note("rejected", reason)
        for error in entry.get("errors", ()):
            self._note("errors", str(error.get("stage", OTHER)) if isinstance(error, dict) else OTHER)
        try:
            self._ids.append(_mark(entry_id(entry)))
        except InputError:
            pass
        if "sha256" in entry:
            part = [entry["sha256"].lower(), entry.get("start"), entry.get("end")]
            self._contents.append(_mark(repr(part)))

    def _note(self, table: str, name: str) -> None:
        counter = self._tables[table]
        name = clean(name)[:200]
        counter[name if name in counter or len(counter) < _MOST_NAMES else OTHER] += 1


def _seconds(entry: Entry) -> float | None:
    """Return how long the part of the file lasts that an entry names; None if it does not say."""
    start, end = entry.get("start"), entry.get("end")
    if end is not None:
        return float(end - (start or 0.0))
    whole = entry.get("duration")
    if whole is None and entry.get("num_frames") and entry.get("fps"):
        whole = entry["num_frames"] / entry["fps"]
    if whole is None:
        return None
    return float(whole if start is None or whole <= start else whole - start)


def _mark(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _repeated(marks: "array[int]") -> int:
    """Return how many of some marks are there already."""
    return len(marks) - len(np.unique(np.frombuffer(marks, np.uint64)))
