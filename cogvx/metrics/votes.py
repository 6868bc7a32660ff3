"""What the judgements of people say: how far they agree, and how strong systems are that were compared in pairs."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cogvx.errors import InputError

Level = Literal["nominal", "ordinal", "interval"]
SCALE = 400 / math.log(10)  # points of rating for a factor e in the odds of being preferred
ANCHOR = 1000.0
NUM_RESAMPLES = 1000
_RIDGE = 1e-6  # keeps a resample finite in which some system wins or loses all
_UNBOUNDED = 0.025  # share of such resamples up to which percentiles are not touched by what the ridge makes of them
_MAX_STEP = 2.0
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Comparison:
    """One judgement of two systems.

    Attributes:
        first: A system.
        second: Another one.
        outcome: 1 if the first was preferred, 0 if the second was, 0.5 if neither.
        group: What is drawn as a whole when intervals are computed, such as the prompt; None: this judgement alone.
    """

    first: str
    second: str
    outcome: float
    group: Hashable = None


@dataclass(frozen=True)
class Strength:
    """How strong one system is.

    Attributes:
        rating: 400 points are odds of 10 : 1; the mean over systems, or the anchor system, has 1000.
        interval: 95 % of the resamples lie in it; None if it has no bounds: in more than 2.5 % of the resamples some
            system wins or loses all, and no finite strength fits.
        win_rate: Share of its judgements that it won, ties half, 0…1.
        win_interval: 95 % of the resamples lie in it.
        votes: Its judgements.
    """

    rating: float
    interval: tuple[float, float] | None
    win_rate: float
    win_interval: tuple[float, float]
    votes: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, rounded."""
        return {
            "rating": round(self.rating, 2),
            "rating_interval": None if self.interval is None else [round(bound, 2) for bound in self.interval],
            "win_rate": round(self.win_rate, 4),
            "win_interval": [round(bound, 4) for bound in self.win_interval],
            "votes": self.votes,
        }


def krippendorff_alpha(ratings: np.ndarray, *, level: Level = "ordinal") -> float | None:
    """Return Krippendorff's alpha: 1 for full agreement, 0 for that of chance, below 0 for less than that.

    Args:
        ratings: (raters, items) numbers; NaN where somebody did not rate an item. Items with fewer than two ratings
            say nothing.
        level: How far apart two values are: equal or not; by the ratings that lie between them; by their difference.

    Returns:
        None where nothing can be said: no item has two ratings, or all ratings are the same.

    Raises:
        InputError: The ratings are no table.

    Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).
    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"ratings: expected (raters, items), got {table.shape}")
    paired = table[:, (~np.isnan(table)).sum(axis=0) >= 2]
    values = np.unique(paired[~np.isnan(paired)])
    if len(values) < 2:
        return None
    counts = (paired[None] == values[:, None, None]).sum(axis=1).astype(np.float64)  # (values, items)
    per_item = counts.sum(axis=0)
    coincidences = (counts / (per_item - 1)) @ counts.T - np.diag((counts / (per_item - 1)).sum(axis=1))
    totals = coincidences.sum(axis=1)
    distance = _distances(values, totals, level)
    observed = float((coincidences * distance).sum())
    expected = float((np.outer(totals, totals) * distance).sum()) / (totals.sum() - 1)
    return 1 - observed / expected


def bradley_terry(
    comparisons: Sequence[Comparison],
    *,
    anchor: str | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Strength]:
    """Return how strong each system is by the model of Bradley and Terry, the strongest first.

    The odds that one system is preferred over another are the ratio of their strengths. The estimate is that of
    greatest likelihood, a tie counting as half a win of each; it does not depend on the order of the judgements, as
    Elo's does. Intervals are percentiles of resamples, in which groups are drawn with replacement.

    Args:
        comparisons: The judgements.
        anchor: The system that has 1000 (default: the mean over systems has).
        num_resamples: Resamples of the intervals.
        seed: Of the resamples.

    Raises:
        InputError: There is nothing to compare; no chain of judgements connects two systems; a system won or lost
            all, so that no finite strength fits; or the anchor is none of the systems.

    Source: R. A. Bradley and M. E. Terry, "Rank analysis of incomplete block designs" (1952).
    """
    systems = sorted({name for one in comparisons for name in (one.first, one.second)})
    if not comparisons:
        raise InputError("there are no comparisons to rank systems by")
    if anchor is not None and anchor not in systems:
        raise InputError(f"no system called {anchor!r} was compared; there are {', '.join(systems)}")
    per_group = _wins(comparisons, systems)
    total = per_group.sum(axis=0)
    check_connected(total, systems)
    generator = np.random.default_rng(seed)
    count = len(per_group)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=num_resamples)
    drawn = np.einsum("bg,gij->bij", weights.astype(np.float64), per_group)
    fixed = None if anchor is None else systems.index(anchor)
    ratings = _ratings(total[None], fixed)[0]
    spread = _ratings(drawn, fixed)
    bounded = 1 - _reach(drawn > 0).all(axis=(1, 2)).mean() <= _UNBOUNDED
    rates, rate_spread = _win_rates(total[None])[0], _win_rates(drawn)
    votes = (total + total.T).sum(axis=1)
    return {
        systems[i]: Strength(
            float(ratings[i]),
            _interval(spread[:, i]) if bounded else None,
            float(rates[i]),
            _interval(rate_spread[:, i]),
            round(votes[i]),
        )
        for i in sorted(range(len(systems)), key=lambda i: (-ratings[i], systems[i]))
    }


def win_matrix(comparisons: Sequence[Comparison]) -> tuple[list[str], np.ndarray]:
    """Return the systems by name, and how often the one of a row was preferred over that of a column, ties half."""
    systems = sorted({name for one in comparisons for name in (one.first, one.second)})
    return systems, _wins(comparisons, systems).sum(axis=0)


def check_connected(wins: np.ndarray, systems: Sequence[str]) -> None:
    """Raise an InputError where wins (systems, systems) allow no common scale: a ranking would be made up.

    Raises:
        InputError: No chain of judgements connects two systems, or some won against all others, or lost.
    """
    groups = _parts((wins + wins.T) > 0)
    if len(groups) > 1:
        parts = " | ".join(", ".join(systems[i] for i in group) for group in groups)
        raise InputError(f"no ranking: no chain of judgements connects these groups of systems: {parts}")
    reach = _reach(wins > 0)
    if not reach.all():
        best = [systems[i] for i in range(len(systems)) if not reach[:, i].all() and reach[i].all()]
        worst = [systems[i] for i in range(len(systems)) if not reach[i].all()]
        raise InputError(
            f"no ranking: {', '.join(worst)} never beat nor tied with {', '.join(best) or 'the others'}, so no finite "
            "strength fits; collect more judgements"
        )


def bootstrap_mean(
    values: Sequence[float], groups: Sequence[Hashable], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Return the mean of values, and in which range 95 % of the resamples lie; groups are drawn as a whole.

    Args:
        values: At least one.
        groups: The group of each value, such as its prompt.
        num_resamples: How many resamples.
        seed: Of the resamples.

    Raises:
        InputError: There are no values.
    """
    if not len(values):
        raise InputError("there are no values to average")
    names = sorted(set(groups), key=repr)
    place = {name: i for i, name in enumerate(names)}
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    for value, group in zip(values, groups, strict=True):
        sums[place[group]] += value
        counts[place[group]] += 1
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=num_resamples)
    return float(sums.sum() / counts.sum()), _interval((weights @ sums) / (weights @ counts))


def _distances(values: np.ndarray, totals: np.ndarray, level: Level) -> np.ndarray:
    """Return the squared distance of each two values, (values, values)."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return (values[:, None] - values[None]) ** 2
    # The ratings from the one to the other, half of those at the ends.
    middle = np.cumsum(totals) - totals / 2
    return (middle[:, None] - middle[None]) ** 2


def _wins(comparisons: Sequence[Comparison], systems: Sequence[str]) -> np.ndarray:
    """Return how often row beat column, ties half, in each group: (groups, systems, systems)."""
    place = {name: i for i, name in enumerate(systems)}
    groups: dict[Hashable, int] = {}
    keys = [(True, i) if one.group is None else (False, one.group) for i, one in enumerate(comparisons)]
    for key in keys:
        groups.setdefault(key, len(groups))
    wins = np.zeros((len(groups), len(systems), len(systems)))
    for key, one in zip(keys, comparisons, strict=True):
        if one.first == one.second or one.outcome not in (0, 0.5, 1):
            raise InputError(f"no comparison: {one.first!r}, {one.second!r}, outcome {one.outcome}")
        first, second = place[one.first], place[one.second]
        wins[groups[key], first, second] += one.outcome
        wins[groups[key], second, first] += 1 - one.outcome
    # Resamples must not depend on the order of the judgements.
    return wins[np.lexsort(wins.reshape(len(wins), -1).T)]


def _ratings(wins: np.ndarray, anchor: int | None) -> np.ndarray:
    """Return ratings (b, systems) for wins (b, systems, systems) by Newton's method, all b at once."""
    num_systems = wins.shape[1]
    games, won = wins + wins.transpose(0, 2, 1), wins.sum(axis=2)
    strengths = np.zeros(won.shape)
    identity = np.eye(num_systems)
    for _ in range(200):
        chance = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))  # that row beats column
        gradient = won - (games * chance).sum(axis=2) - _RIDGE * strengths
        curvature = games * chance * (1 - chance)
        hessian = identity * (curvature.sum(axis=2) + _RIDGE)[:, :, None] - curvature
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        # Far from the optimum a whole step may overshoot.
        step *= np.minimum(1.0, _MAX_STEP / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-300))
        strengths += step
        if np.abs(step).max() < _TOLERANCE:
            break
    base = strengths.mean(axis=1, keepdims=True) if anchor is None else strengths[:, [anchor]]
    return ANCHOR + SCALE * (strengths - base)


def _win_rates(wins: np.ndarray) -> np.ndarray:
    """Return the share of its judgements that each system won, (b, systems); NaN in resamples without any."""
    games = (wins + wins.transpose(0, 2, 1)).sum(axis=2)
    return np.divide(wins.sum(axis=2), games, out=np.full(games.shape, np.nan), where=games > 0)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _reach(edges: np.ndarray) -> np.ndarray:
    """Return which systems can be reached from which, each from itself; edges are (..., systems, systems)."""
    count = edges.shape[-1]
    reach = edges | np.eye(count, dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(max(2, count))))):
        reach = (reach.astype(np.int64) @ reach.astype(np.int64)) > 0
    return reach


def _parts(edges: np.ndarray) -> list[list[int]]:
    """Return the groups of systems that judgements connect."""
    reach, left, parts = _reach(edges), set(range(len(edges))), []
    while left:
        part = [i for i in sorted(left) if reach[min(left), i]]
        parts.append(part)
        left -= set(part)
    return parts
