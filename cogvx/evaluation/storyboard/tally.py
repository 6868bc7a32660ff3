"""The verdicts on many clips as one result: counts, shares, margins, and what was taken for what."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from cogvx.evaluation.storyboard.score import ATTRIBUTES, Finding, Verdict

_Z = 1.959964  # of the normal distribution: 95 % lie within so many deviations


@dataclass
class Tally:
    """The verdicts on many clips.

    Attributes:
        verdicts: One a clip.
    """

    verdicts: list[Verdict] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return counts, shares and margins as JSON values.

        "value" is the mean over clips of the share of what was asked for that was right. "exact" counts the clips in
        which all of it was, "objects" those in which every object has its kind and colour. "fit" is the mean of how
        well what was seen agrees with the objects asked for. "attributes" has only what was asked for.
        """
        count = len(self.verdicts)
        attributes = {}
        for name in ATTRIBUTES:
            found = [one for one in self._findings() if one.attribute == name]
            if found:
                margins = [one.margin for one in found if one.margin is not None]
                attributes[name] = ratio(sum(one.right for one in found), len(found)) | {"margin": _mean(margins)}
        return {
            "value": _mean([one.share for one in self.verdicts]),
            "n": count,
            "attributes": attributes,
            "objects": ratio(sum(one.has_objects for one in self.verdicts), count),
            "exact": ratio(sum(one.exact for one in self.verdicts), count),
            "fit": _mean([one.fit for one in self.verdicts]),
        }

    def mistakes(self) -> dict[str, list[dict[str, Any]]]:
        """Return what was taken for what, by attribute, the most frequent first: {"asked", "seen", "count"}."""
        counts = Counter((one.attribute, one.asked, one.seen) for one in self._findings() if not one.right)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        found: dict[str, list[dict[str, Any]]] = {}
        for name in ATTRIBUTES:
            rows = [
                {"asked": asked, "seen": seen, "count": count}
                for (attribute, asked, seen), count in ranked
                if attribute == name
            ]
            if rows:
                found[name] = rows
        return found

    def of(self, num_objects: int) -> "Tally":
        """Return the tally of the clips that were asked for so many objects."""
        return Tally([one for one in self.verdicts if one.num_objects == num_objects])

    def _findings(self) -> Iterable[Finding]:
        return (finding for verdict in self.verdicts for finding in verdict.findings)


def ratio(right: int, asked: int) -> dict[str, Any]:
    """Return a count and its accuracy as JSON values, with the 95 % interval of Wilson; of nothing, None."""
    if not asked:
        return {"right": 0, "asked": 0, "accuracy": None, "interval": None}
    share, spread = right / asked, _Z**2 / asked
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * sqrt(share * (1 - share) / asked + spread / asked / 4) / (1 + spread)
    interval = [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]
    return {"right": right, "asked": asked, "accuracy": share, "interval": interval}


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
