"""Any frame rate to a regular one: always the nearest frame, as many as were promised."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogvx.data.resample import count_at_rate, nearest

RATES = st.sampled_from([1.0, 4.0, 8.0, 10.0, 15.0, 16.0, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0])


def regular(num_frames, fps):
    return [(i / fps, 1 / fps, i) for i in range(num_frames)]


@pytest.mark.parametrize(
    ("num_frames", "fps", "rate", "wanted"),
    [
        (17, 8, 8, list(range(17))),
        (16, 16, 8, [0, 2, 4, 6, 8, 10, 12, 14, 15]),
        (9, 4, 8, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8]),
        (10, 30, 8, [0, 4, 7]),
        (1, 8, 8, [0]),
    ],
)
def test_known_rates(num_frames, fps, rate, wanted):
    assert list(nearest(regular(num_frames, fps), rate=rate)) == wanted


def test_six_seconds_give_the_official_49_frames():
    for fps in (16, 24, 25, 29.97, 30, 60):
        frames = list(nearest(regular(round(6 * fps), fps), rate=8))
        assert len(frames) == count_at_rate(round(6 * fps) / fps, fps, 8) == 49


def test_a_varying_rate_is_taken_by_its_times():
    times = [0, 0.1, 0.11, 0.12, 0.5, 1.0]  # much happens at once, then nothing for long
    frames = [(time, 0.0, time) for time in times]
    assert list(nearest(frames, rate=8)) == [0, 0.12, 0.12, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_the_last_frame_is_shown_as_long_as_the_file_says():
    assert list(nearest([(0.0, 0.1, "a"), (0.1, 0.9, "b")], rate=4)) == ["a", "b", "b", "b"]


def test_a_part_begins_at_its_start():
    assert list(nearest(((i / 10, 0.1, i) for i in range(3, 9)), rate=5, origin=0.3)) == [3, 5, 7, 8]


def test_nothing_gives_nothing():
    assert list(nearest([], rate=8)) == []


@given(st.integers(1, 300), RATES, RATES)
@settings(deadline=None)
def test_the_count_is_known_before(num_frames, fps, rate):
    frames = list(nearest(regular(num_frames, fps), rate=rate))
    count = count_at_rate(num_frames / fps, fps, rate)
    assert count <= len(frames) <= count + 1  # one more where the last frame is nearest by a hair
    if 1.5 * rate <= fps:
        assert len(set(frames[:count])) == count, "no frame comes twice"
    assert frames[0] == 0 and frames == sorted(frames)


@given(st.lists(st.floats(0.002, 0.7), max_size=60), RATES)
@settings(deadline=None)
def test_each_moment_has_the_nearest_frame(steps, rate):
    times = [math.fsum(steps[:i]) for i in range(len(steps) + 1)]
    frames = list(nearest([(time, 0.0, time) for time in times], rate=rate))
    assert len(frames) >= math.floor(times[-1] * rate) + 1
    for moment, got in enumerate(frames):
        assert abs(got - moment / rate) <= min(abs(time - moment / rate) for time in times) + 1e-9
