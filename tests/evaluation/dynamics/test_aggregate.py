"""Binning, range and controllability in closed forms."""

import pytest

from cogvx.errors import InputError
from cogvx.evaluation.dynamics.aggregate import (
    BINS,
    GRADES,
    QUALITIES,
    bin_of,
    binned_quality,
    controllability,
    dynamic_quality,
    dynamics_range,
)

MIDDLES = [(index + 0.5) / BINS for index in range(BINS)]


def test_the_bins_at_their_edges():
    assert [bin_of(value) for value in (0.0, 1 / 12 - 1e-12, 1 / 12, 0.5, 1 - 1e-12, 1.0)] == [0, 0, 1, 6, 11, 11]
    with pytest.raises(InputError):
        bin_of(1.0001)


def test_all_in_one_bin_is_a_twelfth():
    found = binned_quality([0.3] * 5, [0.9] * 5)
    assert found.value == pytest.approx(0.9 / 12) and found.counts[3] == 5
    assert found.thirds == pytest.approx((0.9 / 4, 0, 0))


def test_evenly_spread_is_the_quality():
    found = binned_quality(MIDDLES * 2, [0.8] * 12 + [0.6] * 12)
    assert found.value == pytest.approx(0.7) and set(found.counts) == {2}
    assert binned_quality([1.0], [1.0]).value == pytest.approx(1 / 12)  # the last edge is not lost


def test_qualities_must_fit():
    with pytest.raises(InputError, match="a quality a video"):
        binned_quality([0.5], [])
    with pytest.raises(InputError, match="0 to 1"):
        binned_quality([0.5], [90.0])


def test_the_range():
    assert dynamics_range([0.4] * 9) == 0
    assert dynamics_range([index / 100 for index in range(101)]) == pytest.approx(0.98)


def test_controllability_of_known_orders():
    assert controllability([0.1, 0.3, 0.5, 0.7, 0.9], GRADES) == 1
    assert controllability([0.9, 0.7, 0.5, 0.3, 0.1], GRADES) == 0
    assert controllability([0.5] * 5, GRADES) == 0.5
    # low .1 and .6, high .5: the first and half of the last's pairs are right
    assert controllability([0.1, 0.6, 0.5], ["low", "low", "high"]) == pytest.approx((1 + 0 + 0.5) / 3)
    with pytest.raises(InputError, match="two grades"):
        controllability([0.1, 0.2], ["low", "low"])
    with pytest.raises(InputError, match="slow"):
        controllability([0.1, 0.2], ["slow", "low"])


def test_dynamic_quality_needs_all_four():
    each = {
        name: binned_quality(MIDDLES, [share] * 12) for name, share in zip(QUALITIES, (0.2, 0.4, 0.6, 0.8), strict=True)
    }
    assert dynamic_quality(each) == pytest.approx(0.5)
    each.pop("naturalness")
    assert dynamic_quality(each) is None
