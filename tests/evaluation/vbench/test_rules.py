"""The rules of VBench's dimensions at their thresholds, and in closed forms."""

import math

import numpy as np
import pytest

from cogvx.errors import InputError
from cogvx.evaluation.vbench import rules


def logit(probability):
    return math.log(probability / (1 - probability))


def moved(*pixels, side=480):
    """Frames that are told apart by their first value, and a flow that says how far they are from each other."""
    places = np.cumsum([0, *pixels])
    frames = np.zeros((len(places), side, 720, 3), np.uint8)
    frames[:, 0, 0, 0] = np.arange(len(places))

    def flow(first, second):
        field = np.zeros((side, 720, 2), np.float32)
        field[..., 0] = places[second[0, 0, 0]] - places[first[0, 0, 0]]
        return field

    return frames, flow


def test_frames_that_stand_for_a_clip():
    assert rules.middle_frames(32, 16) == list(range(0, 32, 2))
    assert rules.middle_frames(49, 4) == [5, 17, 29, 42]
    assert rules.middle_frames(3, 5) == [0, 1, 2, 2, 2]
    with pytest.raises(InputError):
        rules.middle_frames(0, 16)


def test_flickering_of_known_clips():
    noise = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)
    assert rules.temporal_flickering(noise) == pytest.approx(0.665, abs=2e-3)
    assert rules.temporal_flickering(np.full((5, 8, 8, 3), 77, np.uint8)) == 1
    turns = np.zeros((4, 8, 8, 3), np.uint8)
    turns[::2] = 255
    assert rules.temporal_flickering(turns) == 0
    with pytest.raises(InputError, match="two frames"):
        rules.temporal_flickering(turns[:1])


def test_the_limits_of_motion():
    assert rules.motion_limits(49, 480, 720) == (11.25, 12)
    assert rules.motion_limits(41, 768, 1360) == (18.0, 10)
    assert rules.static_limits(49, 480, 720) == (5.625, 6)
    assert len(rules.motion_frames(np.zeros((81, 1, 1, 3)), 16)) == 41
    assert len(rules.motion_frames(np.zeros((49, 1, 1, 3)), 8)) == 49


@pytest.mark.parametrize(
    ("step", "count", "dynamic"), [(11.3, 12, True), (11.3, 11, False), (11.25, 48, False), (12, 48, True)]
)
def test_motion_needs_enough_pairs(step, count, dynamic):
    assert rules.is_dynamic([step] * count + [0.0] * (48 - count), *rules.motion_limits(49, 480, 720)) is dynamic


def test_dynamic_degree_of_frames():
    frames, flow = moved(*[12] * 4, side=480)  # 5 frames: one pair is enough
    assert rules.dynamic_degree(frames, 8, flow) == (True, [12.0] * 4)
    assert rules.dynamic_degree(frames, 16, flow)[1] == [24.0, 24.0]
    with pytest.raises(InputError, match="two frames"):
        rules.dynamic_degree(frames[:1], 8, flow)


def test_the_longest_part_of_a_flow():
    field = np.zeros((10, 10, 2))
    field[0, :5, 0] = 3
    field[0, :5, 1] = 4
    assert rules.top_motion(field, 0.05) == 5
    assert rules.top_motion(field, 0.10) == 2.5


def test_the_static_filter():
    limits = rules.static_limits(49, 480, 720)
    assert rules.static_verdict([0.0] * 48, [0.0, 0.0], *limits)
    assert rules.static_verdict([12.0] * 6 + [0.0] * 42, [0.0, 0.0], *limits)
    assert not rules.static_verdict([12.0] * 7 + [0.0] * 41, [0.0, 0.0], *limits)
    assert not rules.static_verdict([0.0] * 48, [0.0, 68.0], *limits)  # 5.625 * 6 * 2 = 67.5
    still, flow = moved(0, 0, 0)
    assert rules.is_static(still, flow)


def test_an_action_at_its_threshold():
    labels = [f"action {index}" for index in range(8)]
    logits = np.full(8, -5.0)
    logits[3] = logit(0.85) + 1e-9
    assert rules.action_is_seen(logits, labels, "Action 3")
    logits[3] = logit(0.8499)
    assert not rules.action_is_seen(logits, labels, "action 3")
    logits[3], logits[[0, 1, 2, 4, 5]] = 3.0, 4.0  # five others are likelier
    assert not rules.action_is_seen(logits, labels, "action 3")
    logits[5] = -1
    assert rules.action_is_seen(logits, labels, "action 3")
    with pytest.raises(InputError, match="labels"):
        rules.action_is_seen(logits[:5], labels, "action 3")


def test_the_action_of_a_name():
    assert rules.action_of("A person is riding a bike") == "riding a bike"
    assert rules.action_of("A person is riding a bike-3.mp4") == "riding a bike"


def test_consistency_of_known_features():
    assert rules.consistency(np.ones((4, 3)) * [[1], [2], [3], [4]]) == pytest.approx(1)
    assert rules.consistency(np.array([[1, 0], [0, 1], [-1, 0]])) == 0  # below 0 counts as 0
    assert rules.consistency(np.array([[1.0, 0], [0, 1], [1, 0]])) == pytest.approx(0.25)
    with pytest.raises(InputError):
        rules.consistency(np.zeros((3, 2)))


def test_style_is_a_cosine():
    frames = np.array([[2.0, 0], [0, 5]])
    assert rules.style_cosine(frames, np.array([3.0, 0])) == pytest.approx(0.5)


def test_objects_and_scenes():
    assert rules.objects_of("bird and cat") == ["bird", "cat"]
    assert rules.share_with_objects([{"bird", "cat", "dog"}, {"bird"}, {"cat", "bird"}, set()], ["bird", "cat"]) == 0.5
    captions = ["A train station at night", "trainers in stations", "a train"]
    assert rules.share_with_scene(captions, "train station") == pytest.approx(2 / 3)
