"""Agreement and rankings against published examples, closed forms and planted strengths."""

import math

import numpy as np
import pytest

from cogvx.errors import InputError
from cogvx.metrics.votes import Comparison, bootstrap_mean, bradley_terry, krippendorff_alpha, win_matrix

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: four observers, twelve units.
PUBLISHED = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
RATINGS = np.array([[math.nan if x == "." else float(x) for x in row.split()] for row in PUBLISHED.split("\n") if row])


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(level, alpha):
    assert round(krippendorff_alpha(RATINGS, level=level), 3) == alpha
    rng = np.random.default_rng(0)
    mixed = RATINGS[rng.permutation(4)][:, rng.permutation(12)]
    assert krippendorff_alpha(mixed, level=level) == pytest.approx(krippendorff_alpha(RATINGS, level=level))


def test_alpha_at_its_ends():
    assert krippendorff_alpha(np.array([[0, 0.5, 1, 1], [0, 0.5, 1, 1]])) == 1
    assert krippendorff_alpha(np.array([[0.0, 1, 0, 1], [1, 0, 1, 0]]), level="interval") < 0
    rng = np.random.default_rng(0)
    assert abs(krippendorff_alpha(rng.integers(0, 3, (3, 4000)).astype(float))) < 0.03  # chance
    assert krippendorff_alpha(np.ones((2, 5))) is None  # nobody ever differs: nothing to compare with
    assert krippendorff_alpha(np.array([[1.0, math.nan], [math.nan, 0.0]])) is None
    with pytest.raises(InputError):
        krippendorff_alpha(np.ones(3))


def votes(strengths, count, seed, *, ties=0.0):
    """Judgements drawn with odds that are the ratio of strengths e**strength."""
    rng = np.random.default_rng(seed)
    names = list(strengths)
    found = []
    for index in range(count):
        first, second = rng.choice(names, 2, replace=False)
        chance = 1 / (1 + math.exp(strengths[second] - strengths[first]))
        outcome = 0.5 if rng.random() < ties else float(rng.random() < chance)
        found.append(Comparison(first, second, outcome, index))
    return found


def test_two_systems_have_the_closed_form():
    found = [Comparison("a", "b", 1.0)] * 3 + [Comparison("b", "a", 1.0)] + [Comparison("a", "b", 0.5)] * 2
    result = bradley_terry(found, num_resamples=100)
    gap = 400 * math.log10(4 / 2)  # a tie is half a win: 4 of 6
    assert list(result) == ["a", "b"]
    assert result["a"].rating == pytest.approx(1000 + gap / 2, abs=1e-2)
    assert result["a"].win_rate == pytest.approx(4 / 6) and result["a"].votes == 6
    anchored = bradley_terry(found, anchor="b", num_resamples=100)
    assert anchored["b"].rating == 1000 and anchored["b"].interval == (1000, 1000)
    assert anchored["a"].rating == pytest.approx(1000 + gap, abs=2e-2)


def test_planted_strengths_are_found():
    planted = {"a": 1.0, "b": 0.3, "c": -0.2, "d": -1.1}
    result = bradley_terry(votes(planted, 8000, 0), num_resamples=100)
    assert list(result) == ["a", "b", "c", "d"]
    for name, strength in planted.items():
        assert result[name].rating == pytest.approx(1000 + 400 / math.log(10) * strength, abs=20)


def test_intervals_hold_the_truth_as_often_as_they_say():
    planted = {"a": 0.5, "b": 0.0, "c": -0.5}
    held = []
    for seed in range(50):
        result = bradley_terry(votes(planted, 200, seed), num_resamples=300, seed=seed)
        for name, strength in planted.items():
            assert result[name].interval is not None
            low, high = result[name].interval
            held.append(low <= 1000 + 400 / math.log(10) * strength <= high)
    assert 0.9 <= np.mean(held) <= 0.99


def test_the_order_and_the_seats_do_not_matter():
    found = votes({"a": 0.4, "b": 0.0, "c": -0.4}, 120, 3, ties=0.2)
    turned = [Comparison(one.second, one.first, 1 - one.outcome, one.group) for one in found]
    loose = [Comparison(one.first, one.second, one.outcome) for one in found]
    first = bradley_terry(found, num_resamples=100)
    rng = np.random.default_rng(0)
    for other in ([found[i] for i in rng.permutation(len(found))], turned, loose):
        result = bradley_terry(other, num_resamples=100)
        assert list(result) == list(first)
        for name, one in result.items():
            assert one.rating == pytest.approx(first[name].rating) and one.interval == pytest.approx(
                first[name].interval
            )


def test_few_judgements_have_no_interval():
    found = [Comparison("a", "b", 1.0), Comparison("a", "b", 1.0), Comparison("b", "a", 1.0)]
    assert bradley_terry(found)["a"].interval is None and bradley_terry(found)["a"].to_dict()["rating_interval"] is None
    assert bradley_terry(found * 20)["a"].interval is not None


def test_judgements_of_one_group_go_together():
    found = votes({"a": 0.3, "b": 0.0}, 60, 1)
    copies = [one for one in found for _ in range(9)]  # nine raters that say the same are no more than one
    alone, together = bradley_terry(found)["a"], bradley_terry(copies)["a"]
    assert together.rating == pytest.approx(alone.rating, abs=1e-2)
    assert together.interval == pytest.approx(alone.interval, abs=0.1)


def test_what_cannot_be_ranked():
    one, other = Comparison("a", "b", 0.5), Comparison("c", "d", 0.5)
    with pytest.raises(InputError, match=r"a, b \| c, d"):
        bradley_terry([one, other])
    with pytest.raises(InputError, match="b never beat nor tied with a"):
        bradley_terry([Comparison("a", "b", 1.0)] * 5)
    with pytest.raises(InputError):
        bradley_terry([])
    with pytest.raises(InputError, match="no system called 'x'"):
        bradley_terry([one], anchor="x")
    with pytest.raises(InputError):
        bradley_terry([Comparison("a", "a", 1.0)])
    assert win_matrix([one, Comparison("b", "a", 1.0)])[1].tolist() == [[0, 0.5], [1.5, 0]]


def test_means_have_intervals_by_group():
    values, groups = [0.0, 1.0] * 50, [i // 2 for i in range(100)]
    assert bootstrap_mean(values, groups) == (0.5, (0.5, 0.5))  # each group has the same mean
    mean, (low, high) = bootstrap_mean(values, range(100))
    assert mean == 0.5 and low == pytest.approx(0.4, abs=0.02) and high == pytest.approx(0.6, abs=0.02)
    with pytest.raises(InputError):
        bootstrap_mean([], [])
