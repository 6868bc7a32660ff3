"""From boundaries to shots of the wanted lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogvx.data.resample import TIME_TOLERANCE
from cogvx.data.shots import Boundary, ShotRules, cut_shots, end_of
from cogvx.errors import UsageError

ANY = ShotRules(min_seconds=0, max_seconds=None)


def at(fps, count):
    return [i / fps for i in range(count)]


def spans(shots):
    return [(shot.first, shot.stop) for shot in shots]


def test_shots_lie_between_the_boundaries():
    shots = cut_shots(at(10, 50), 5.0, [Boundary(12, 12), Boundary(30, 34)], ANY)
    assert spans(shots) == [(0, 12), (12, 30), (34, 50)]
    assert [(shot.start, shot.end) for shot in shots] == [(0.0, 1.2), (1.2, 3.0), (3.4, 5.0)]
    assert shots[1].num_frames == 18 and shots[1].seconds == 1.8
    assert spans(cut_shots(at(10, 50), 5.0, [], ANY)) == [(0, 50)]


def test_trimming_leaves_the_ends_of_the_film_alone():
    rules = ShotRules(min_seconds=0, max_seconds=None, trim=0.2)
    assert spans(cut_shots(at(10, 50), 5.0, [Boundary(12, 12), Boundary(30, 34)], rules)) == [
        (0, 10),
        (14, 28),
        (36, 50),
    ]
    assert spans(cut_shots(at(10, 50), 5.0, [Boundary(12, 12), Boundary(15, 15)], rules)) == [(0, 10), (17, 50)]
    assert cut_shots(at(10, 6), 0.6, [Boundary(2, 2), Boundary(4, 4)], rules) == []


def test_long_shots_become_equal_parts():
    shots = cut_shots(at(10, 100), 10.0, [], ShotRules(min_seconds=1, max_seconds=4))
    assert spans(shots) == [(0, 34), (34, 67), (67, 100)]
    assert spans(cut_shots(at(10, 80), 8.0, [], ShotRules(min_seconds=1, max_seconds=4))) == [(0, 40), (40, 80)]


def test_times_of_a_varying_rate_decide():
    times = [0.0, 0.1, 0.2, 1.0, 1.1, 1.2, 5.0, 5.1]
    shots = cut_shots(times, 5.2, [Boundary(3, 3)], ShotRules(min_seconds=0, max_seconds=2.2))
    assert [(shot.start, shot.end) for shot in shots] == [(0.0, 1.0), (1.0, 5.0), (5.0, 5.2)]
    assert end_of(times, 1.0) == pytest.approx(5.2) and end_of([0.0], 4.0) == 0.25


@given(
    st.integers(1, 300),
    st.lists(st.integers(1, 299), max_size=8, unique=True),
    st.floats(0, 0.5),
    st.floats(0.3, 9),
    st.sampled_from([8, 24000 / 1001, 60]),
)
def test_shots_never_overlap_nor_hold_a_cut_nor_are_too_long(count, cuts, trim, longest, fps):
    cuts = sorted(cut for cut in cuts if cut < count)
    rules = ShotRules(min_seconds=0, max_seconds=longest, trim=trim)
    shots = cut_shots(at(fps, count), count / fps, [Boundary(cut, cut) for cut in cuts], rules)
    used = np.zeros(count, int)
    for shot in shots:
        used[shot.first : shot.stop] += 1
        assert not any(shot.first < cut < shot.stop for cut in cuts)
        assert shot.num_frames == 1 or shot.seconds <= longest + 2e-3
    assert used.max(initial=0) <= 1
    if trim <= TIME_TOLERANCE:
        assert used.min() == 1


@pytest.mark.parametrize("rules", [ShotRules(2, 3.9), ShotRules(-1), ShotRules(trim=-0.1), ShotRules(0, 0.001)])
def test_impossible_rules(rules):
    with pytest.raises(UsageError):
        rules.check()
    ShotRules(2, 4).check()
