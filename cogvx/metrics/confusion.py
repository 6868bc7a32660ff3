"""How well labels are recognised: right and wrong by kind, as Table 14 of the CogVideoX paper, and thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cogvx.errors import InputError

Objective = Literal["accuracy", "balanced", "f1"]
OBJECTIVES: tuple[Objective, ...] = ("accuracy", "balanced", "f1")


@dataclass(frozen=True)
class Confusion:
    """How many clips of each kind there are.

    Attributes:
        tp: They have the label, and it was recognised.
        fp: They have it not, and it was recognised all the same.
        tn: They have it not, nor was it recognised.
        fn: They have it, and it was missed.
    """

    tp: int
    fp: int
    tn: int
    fn: int

    @property
    def n(self) -> int:
        """Clips."""
        return self.tp + self.fp + self.tn + self.fn

    @property
    def accuracy(self) -> float:
        """Share of the clips that were judged rightly, 0…1."""
        return (self.tp + self.tn) / self.n

    @property
    def majority(self) -> float:
        """The accuracy of always giving the more frequent answer, 0…1: what any classifier must beat."""
        return max(self.tp + self.fn, self.tn + self.fp) / self.n

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of the shares recognised among the clips with and among those without the label; None without both."""
        if not (self.tp + self.fn and self.tn + self.fp):
            return None
        return (self.tp / (self.tp + self.fn) + self.tn / (self.tn + self.fp)) / 2

    def shares(self) -> dict[str, float]:
        """Return TP, FP, TN, FN as shares of all clips, and the accuracy: a row of the paper's Table 14."""
        shares = {name: getattr(self, name.lower()) / self.n for name in ("TP", "FP", "TN", "FN")}
        return shares | {"accuracy": self.accuracy}

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.tn + other.tn, self.fn + other.fn)


def confusion(probabilities: Sequence[float], truth: Sequence[bool], *, threshold: float = 0.5) -> Confusion:
    """Return how many clips of each kind there are when a label counts as recognised from a threshold on.

    Args:
        probabilities: Of each clip, 0…1.
        truth: Whether each clip has the label.
        threshold: Least probability that counts as recognised.

    Raises:
        InputError: There are no clips, or not as many of one as of the other.
    """
    values, has = _checked(probabilities, truth)
    found = values >= threshold
    return Confusion(
        int((found & has).sum()), int((found & ~has).sum()), int((~found & ~has).sum()), int((~found & has).sum())
    )


def best_threshold(
    probabilities: Sequence[float], truth: Sequence[bool], *, objective: Objective = "accuracy"
) -> float:
    """Return the threshold that judges these clips best; of equally good ones, the one nearest to 0.5.

    It lies midway between two neighbouring probabilities, so it does not hang on the last digit of either. Where never
    to recognise the label is best, it is just above 1.

    Args:
        probabilities: Of each clip, 0…1.
        truth: Whether each clip has the label.
        objective: What is largest: the share judged rightly; the mean of that share among clips with and without the
            label; the harmonic mean of precision and recall.

    Raises:
        InputError: There are no clips, or all or none of them have the label.
    """
    values, has = _checked(probabilities, truth)
    if has.all() or not has.any():
        raise InputError(f"a threshold needs clips with and without the label; all {len(has)} are of one kind")
    order = np.argsort(values, kind="stable")
    values, has = values[order], has[order]
    # Cut i recognises the clips from i on; a cut between equal probabilities is none.
    cuts = np.array([i for i in range(len(values) + 1) if i in (0, len(values)) or values[i - 1] < values[i]])
    missed = np.concatenate([[0], np.cumsum(has)])[cuts]
    passed = np.concatenate([[0], np.cumsum(~has)])[cuts]
    scores = _scores(missed, passed, int(has.sum()), int((~has).sum()), objective)
    places = np.array([_between(values, int(cut)) for cut in cuts])
    good = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(places[good[np.argmin(np.abs(places[good] - 0.5))]])


def area_under_curve(probabilities: Sequence[float], truth: Sequence[bool]) -> float | None:
    """Return how often a clip with the label has the higher probability than one without, ties half; None without both.

    0.5 is chance, 1 says that some threshold judges every clip rightly.
    """
    values, has = _checked(probabilities, truth)
    with_it, without = values[has], np.sort(values[~has])
    if not len(with_it) or not len(without):
        return None
    below = np.searchsorted(without, with_it, side="left")
    same = np.searchsorted(without, with_it, side="right") - below
    return float((below + same / 2).sum() / (len(with_it) * len(without)))


def calibration_error(probabilities: Sequence[float], truth: Sequence[bool], *, num_bins: int = 10) -> float:
    """Return by how much probabilities differ from how often they are right, 0…1: the mean over bins, by their clips.

    Args:
        probabilities: Of each clip, 0…1.
        truth: Whether each clip has the label.
        num_bins: Bins of equal width.
    """
    values, has = _checked(probabilities, truth)
    bins = np.minimum((values * num_bins).astype(int), num_bins - 1)
    gaps = [abs(float(values[bins == i].sum() - has[bins == i].sum())) for i in range(num_bins)]
    return sum(gaps) / len(values)


def table_row(probabilities: Sequence[float], truth: Sequence[bool], threshold: float) -> dict[str, Any]:
    """Return a row of Table 14 of the CogVideoX paper, with what helps to judge it.

    Args:
        probabilities: Of each clip, 0…1.
        truth: Whether each clip has the label.
        threshold: Least probability that counts as recognised.

    Returns:
        `n`, the counts `tp`, `fp`, `tn`, `fn`, the same as `shares` of n as the paper has them, `accuracy`, `majority`
        (that of always giving the more frequent answer), `balanced_accuracy`, `auc`, `calibration_error`, `threshold`.

    Raises:
        InputError: There are no clips, or a probability is not from 0 to 1.
    """
    counts = confusion(probabilities, truth, threshold=threshold)
    more = {
        "accuracy": counts.accuracy,
        "majority": counts.majority,
        "balanced_accuracy": counts.balanced_accuracy,
        "auc": area_under_curve(probabilities, truth),
        "calibration_error": calibration_error(probabilities, truth),
        "threshold": threshold,
    }
    return {
        **{"n": counts.n, "tp": counts.tp, "fp": counts.fp, "tn": counts.tn, "fn": counts.fn},
        "shares": {name: round(value, 4) for name, value in counts.shares().items() if name != "accuracy"},
        **{name: None if value is None else round(value, 4) for name, value in more.items()},
    }


def _between(values: np.ndarray, cut: int) -> float:
    """Return a threshold below which lie the first `cut` of some sorted probabilities."""
    if cut == 0:
        return max(0.0, float(values[0]) / 2)
    if cut == len(values):
        return float(np.nextafter(1.0, 2.0)) if values[-1] >= 1 else (float(values[-1]) + 1) / 2
    middle = (float(values[cut - 1]) + float(values[cut])) / 2
    return middle if middle > values[cut - 1] else float(values[cut])


def _scores(missed: np.ndarray, passed: np.ndarray, with_it: int, without: int, objective: Objective) -> np.ndarray:
    """Return how good each cut is, from how many clips with and without the label lie below it."""
    found, wrong = with_it - missed, without - passed
    if objective == "accuracy":
        return (found + passed) / (with_it + without)
    if objective == "balanced":
        return (found / with_it + passed / without) / 2
    return 2 * found / (found + wrong + with_it)


def _checked(probabilities: Sequence[float], truth: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    values, has = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=bool)
    if values.shape != has.shape or values.ndim != 1 or not len(values):
        raise InputError(f"{values.size} probabilities do not fit {has.size} judged clips")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise InputError("a probability is not from 0 to 1")
    return values, has
