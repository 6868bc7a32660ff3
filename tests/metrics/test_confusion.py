import numpy as np
import pytest

from cogvx.errors import InputError
from cogvx.metrics.confusion import (
    Confusion,
    area_under_curve,
    best_threshold,
    calibration_error,
    confusion,
    table_row,
)

# Ten clips: four have the fault. From 0.5 on, three of them are found and one clip without it too.
VALUES = [0.9, 0.8, 0.6, 0.4, 0.7, 0.3, 0.2, 0.1, 0.45, 0.0]
TRUTH = [True, True, True, True, False, False, False, False, False, False]


def test_a_table_counted_by_hand():
    assert confusion(VALUES, TRUTH) == Confusion(tp=3, fp=1, tn=5, fn=1)
    row = table_row(VALUES, TRUTH, 0.5)
    assert row["shares"] == {"TP": 0.3, "FP": 0.1, "TN": 0.5, "FN": 0.1}
    assert (row["accuracy"], row["majority"], row["n"]) == (0.8, 0.6, 10)
    assert row["balanced_accuracy"] == pytest.approx((3 / 4 + 5 / 6) / 2, abs=1e-4)
    # Of 24 pairs, the clip with the fault is above in 6 + 6 + 5 + 4.
    assert row["auc"] == pytest.approx(21 / 24)


def test_a_threshold_counts_from_its_value_on():
    assert confusion([0.5], [True], threshold=0.5).tp == 1
    assert confusion([0.5], [True], threshold=0.5000001).fn == 1


@pytest.mark.parametrize(
    "objective,wanted",
    [("accuracy", Confusion(3, 1, 5, 1)), ("balanced", Confusion(4, 2, 4, 0)), ("f1", Confusion(4, 2, 4, 0))],
)
def test_the_best_threshold_is_the_best_of_all(objective, wanted):
    scores = {
        "accuracy": lambda c: c.accuracy,
        "balanced": lambda c: c.balanced_accuracy,
        "f1": lambda c: 2 * c.tp / (2 * c.tp + c.fp + c.fn),
    }
    best = confusion(VALUES, TRUTH, threshold=best_threshold(VALUES, TRUTH, objective=objective))
    assert best == wanted
    every = [confusion(VALUES, TRUTH, threshold=value) for value in np.linspace(0, 1, 201)]
    assert scores[objective](best) == pytest.approx(max(map(scores[objective], every)))


def test_of_equal_thresholds_the_one_nearest_to_a_half_is_taken():
    assert best_threshold([0.1, 0.2, 0.7, 0.9], [False, False, True, True]) == pytest.approx(0.45)


def test_useless_values_are_never_recognised():
    threshold = best_threshold([0.4] * 10, [True] + [False] * 9)
    assert confusion([0.4] * 10, [True] + [False] * 9, threshold=threshold) == Confusion(0, 0, 9, 1)


def test_a_certain_value_can_be_refused_too():
    values, truth = [1.0, 1.0, 1.0, 0.2], [False, False, True, False]
    threshold = best_threshold(values, truth)
    assert confusion(values, truth, threshold=threshold) == Confusion(0, 0, 3, 1)


def test_ties_count_half_in_the_area():
    assert area_under_curve([0.5, 0.5], [True, False]) == 0.5
    assert area_under_curve([0.5, 0.6], [True, True]) is None


def test_the_calibration_error_is_the_gap_between_said_and_found():
    assert calibration_error([0.8] * 10, [True] * 8 + [False] * 2) == pytest.approx(0)
    assert calibration_error([0.9] * 10, [True] * 5 + [False] * 5) == pytest.approx(0.4)


def test_a_table_of_nothing_is_refused():
    with pytest.raises(InputError, match="do not fit"):
        confusion([], [])
    with pytest.raises(InputError, match="not from 0 to 1"):
        confusion([1.2], [True])
    with pytest.raises(InputError, match="of one kind"):
        best_threshold([0.1, 0.2], [True, True])
