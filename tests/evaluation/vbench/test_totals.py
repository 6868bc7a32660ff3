import pytest

from cogvx.errors import InputError, UsageError
from cogvx.evaluation.vbench.totals import QUALITY, RANGES, SEMANTIC, totals


def test_the_best_and_the_worst():
    assert len(QUALITY) == 7 and len(SEMANTIC) == 9
    best = totals({name: high for name, (_, high) in RANGES.items()})
    assert best.quality == best.semantic == best.total == pytest.approx(1)
    assert totals({name: low for name, (low, _) in RANGES.items()}).total == pytest.approx(0)


def test_the_weights():
    worst = {name: low for name, (low, _) in RANGES.items()}
    assert totals(worst | {"dynamic_degree": 1.0}).quality == pytest.approx(0.5 / 6.5)
    assert totals(worst | {"subject_consistency": 1.0}).quality == pytest.approx(1 / 6.5)
    assert totals(worst | {"color": 1.0}).total == pytest.approx(1 / 9 / 5)


def test_missing_dimensions():
    some = totals({name: high for name, (_, high) in RANGES.items() if name in QUALITY})
    assert some.quality == pytest.approx(1) and some.semantic is None and some.total is None
    assert some.missing == SEMANTIC
    zero = totals({}, missing_as_zero=True)
    assert zero.normalised["temporal_flickering"] == pytest.approx(-0.6293 / 0.3707) and zero.total < 0


def test_substitutes_are_told():
    assert totals({"dynamic_degree@dis": 0.5}).substitutes == {"dynamic_degree": "dynamic_degree@dis"}
    with pytest.raises(UsageError, match="twice"):
        totals({"dynamic_degree@dis": 0.5, "dynamic_degree": 0.5})
    with pytest.raises(InputError, match="raw score"):
        totals({"color": 85.0})
    with pytest.raises(UsageError, match="no dimension"):
        totals({"beauty": 0.5})
