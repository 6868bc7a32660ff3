"""From the dynamics of videos to numbers of a model: range, controllability, and quality at every amount of dynamics.

Source: DEVIL (arXiv 2407.01094) and its code; where an edge is treated otherwise, the function says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cogvx.errors import InputError

BINS = 12
GRADES = ("static", "low", "medium", "high", "very_high")
QUALITIES = ("motion_smoothness", "naturalness", "subject_consistency", "background_consistency")


@dataclass(frozen=True)
class BinnedQuality:
    """A quality at every amount of dynamics.

    Attributes:
        value: The mean of the bins, an empty one counting as 0.
        bins: The mean quality in each bin, 0 where it is empty.
        counts: Videos in each bin.
        thirds: The means of the low, middle and high third of the bins.
    """

    value: float
    bins: tuple[float, ...]
    counts: tuple[int, ...]
    thirds: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, for a result."""
        low, middle, high = self.thirds
        return {
            "value": self.value,
            "bins": list(self.bins),
            "counts": list(self.counts),
            "low": low,
            "medium": middle,
            "high": high,
        }


def bin_of(dynamics: float) -> int:
    """Return which of the twelve equal parts of [0, 1] a video belongs to, 0 to 11.

    1 belongs to the last one. (DEVIL's code loses such a video.)

    Raises:
        InputError: It is outside of [0, 1].
    """
    if not 0 <= dynamics <= 1:
        raise InputError(f"dynamics are from 0 to 1, got {dynamics:g}")
    edges = np.linspace(0, 1, BINS + 1)
    return min(int(np.digitize(dynamics, edges)) - 1, BINS - 1)


def binned_quality(dynamics: Sequence[float], quality: Sequence[float]) -> BinnedQuality:
    """Return a quality at every amount of dynamics: a model that only makes calm videos has empty bins, which are 0.

    Args:
        dynamics: Of each video, 0 to 1.
        quality: Of each video, 0 to 1.

    Raises:
        InputError: They are of other lengths, none, or outside of [0, 1].
    """
    if len(dynamics) != len(quality) or not dynamics:
        raise InputError(f"a quality a video is needed, got {len(quality)} for {len(dynamics)}")
    if not all(0 <= one <= 1 for one in quality):
        raise InputError("a quality is from 0 to 1")
    places = np.array([bin_of(one) for one in dynamics])
    values = np.asarray(quality, dtype=np.float64)
    counts = np.bincount(places, minlength=BINS)
    sums = np.bincount(places, weights=values, minlength=BINS)
    bins = np.divide(sums, counts, out=np.zeros(BINS), where=counts > 0)
    low, middle, high = (float(part.mean()) for part in np.split(bins, 3))
    return BinnedQuality(
        float(bins.mean()), tuple(bins.tolist()), tuple(int(one) for one in counts), (low, middle, high)
    )


def dynamics_range(dynamics: Sequence[float]) -> float:
    """Return how far the dynamics of a model's videos reach: the 99th percentile less the first.

    Raises:
        InputError: There are none.
    """
    if not dynamics:
        raise InputError("no dynamics to tell the range of")
    low, high = np.percentile(np.asarray(dynamics, dtype=np.float64), [1, 99])
    return float(high - low)


def controllability(dynamics: Sequence[float], grades: Sequence[str]) -> float:
    """Return how well dynamics follow the prompts' grades: 1 if always, 0.5 if they do not care, 0 if never.

    For each video, the share of the videos of other grades that lie on the right side of it; the mean over videos.
    Equal dynamics count as half right.

    Raises:
        InputError: A grade is not known, or all are the same.
    """
    if len(dynamics) != len(grades):
        raise InputError(f"a grade a video is needed, got {len(grades)} for {len(dynamics)}")
    unknown = sorted(set(grades) - set(GRADES))
    if unknown:
        raise InputError(f"no grade of dynamics {unknown[0]!r}; there are {', '.join(GRADES)}")
    if len(set(grades)) < 2:
        raise InputError("controllability needs videos of two grades")
    ranks = np.array([GRADES.index(grade) for grade in grades])
    values = np.asarray(dynamics, dtype=np.float64)
    shares = []
    for rank, value in zip(ranks, values, strict=True):
        other = ranks != rank
        order = np.sign(values[other] - value) * np.sign(ranks[other] - rank)
        shares.append(((order + 1) / 2).mean())
    return float(np.mean(shares))


def dynamic_quality(qualities: Mapping[str, BinnedQuality]) -> float | None:
    """Return the Dynamic Quality: the mean of the four binned qualities; None if one is missing."""
    if any(name not in qualities for name in QUALITIES):
        return None
    return float(np.mean([qualities[name].value for name in QUALITIES]))
