"""VBench's totals: each dimension between the worst and best that its authors saw, weighted.

Source: Vchitect/VBench, scripts of the leaderboard.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cogvx.errors import InputError, UsageError

RANGES = {
    "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
    "temporal_flickering": (0.6293, 1.0),
    "motion_smoothness": (0.706, 0.9975),
    "dynamic_degree": (0.0, 1.0),
    "aesthetic_quality": (0.0, 1.0),
    "imaging_quality": (0.0, 1.0),
    "object_class": (0.0, 1.0),
    "multiple_objects": (0.0, 1.0),
    "human_action": (0.0, 1.0),
    "color": (0.0, 1.0),
    "spatial_relationship": (0.0, 1.0),
    "scene": (0.0, 0.8222),
    "appearance_style": (0.0009, 0.2855),
    "temporal_style": (0.0, 0.364),
    "overall_consistency": (0.0, 0.364),
}
QUALITY = tuple(RANGES)[:7]
SEMANTIC = tuple(RANGES)[7:]
_WEIGHTS = {"dynamic_degree": 0.5}
_QUALITY_WEIGHT, _SEMANTIC_WEIGHT = 4, 1


@dataclass(frozen=True)
class Totals:
    """The totals of a model.

    Attributes:
        quality: Of the seven dimensions of quality; None if some are missing.
        semantic: Of the nine others.
        total: Of both, four to one.
        normalised: Dimension → its score between the worst and best; below 0 and above 1 are possible.
        missing: Dimensions without a score.
        substitutes: Dimensions whose score is not from VBench's own network, and what it is called.
    """

    quality: float | None
    semantic: float | None
    total: float | None
    normalised: dict[str, float]
    missing: tuple[str, ...]
    substitutes: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the totals for a result file."""
        return {
            "quality": self.quality,
            "semantic": self.semantic,
            "total": self.total,
            "normalised": self.normalised,
            "missing": list(self.missing),
            "substitutes": self.substitutes,
        }


def totals(scores: Mapping[str, float], *, missing_as_zero: bool = False) -> Totals:
    """Return the totals of raw scores (0 to 1, as VBench's files have them).

    Args:
        scores: Name → score; a name may have a substitute's ending, as in "dynamic_degree@dis".
        missing_as_zero: Count a missing dimension as a raw score of 0, as VBench's script does (normalised it is below
            0 then). Without this a total that misses one is not given.

    Raises:
        UsageError: A name is no dimension, or one is there twice.
        InputError: A score is outside 0 to 1.
    """
    raw: dict[str, float] = {}
    substitutes = {}
    for name, score in scores.items():
        dimension, _, other = name.partition("@")
        if dimension not in RANGES:
            raise UsageError(f"{name} is no dimension of VBench")
        if dimension in raw:
            raise UsageError(f"{dimension} is there twice, the second time as {name}")
        if not 0 <= score <= 1:
            raise InputError(f"{name}: {score:g} is no raw score; expected 0 to 1")
        raw[dimension] = float(score)
        if other:
            substitutes[dimension] = name
    missing = tuple(name for name in RANGES if name not in raw)
    if missing_as_zero:
        raw |= dict.fromkeys(missing, 0.0)
    normalised = {name: normalise(name, raw[name]) for name in RANGES if name in raw}
    quality, semantic = _mean(normalised, QUALITY), _mean(normalised, SEMANTIC)
    total = None
    if quality is not None and semantic is not None:
        total = (_QUALITY_WEIGHT * quality + _SEMANTIC_WEIGHT * semantic) / (_QUALITY_WEIGHT + _SEMANTIC_WEIGHT)
    return Totals(quality, semantic, total, normalised, missing, substitutes)


def normalise(dimension: str, score: float) -> float:
    """Return where a raw score lies between the worst (0) and the best (1) of its dimension."""
    low, high = RANGES[dimension]
    return (score - low) / (high - low)


def _mean(normalised: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    """Return the weighted mean of some dimensions, None if one is missing."""
    if any(name not in normalised for name in names):
        return None
    weights = {name: _WEIGHTS.get(name, 1.0) for name in names}
    return sum(weights[name] * normalised[name] for name in names) / sum(weights.values())
