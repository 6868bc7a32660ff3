"""The judge sees what was drawn, also after compression and noise, and says so where it cannot be sure."""

import functools
import json

import numpy as np
import pytest

from cogvx.data.storyboard import ObjectSpec, SceneSpec, StoryboardOptions, render, spec_at
from cogvx.data.storyboard import vocabulary as words
from cogvx.data.video import encode_clip_bytes, read_clip
from cogvx.errors import InputError
from cogvx.evaluation.storyboard import Request, Tally, judge_request, look_at


def compressed(frames):
    return read_clip(encode_clip_bytes(frames, 8.0), isolate=False).frames


def noisy(frames):
    noise = np.random.default_rng(len(frames)).normal(0, 8, frames.shape)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def tally_of(specs, change=lambda frames: frames, **shape):
    verdicts = []
    for spec in specs:
        sight = look_at(change(render(spec, **shape)), shape.get("fps", 8.0))
        verdicts.append(judge_request(sight, Request.from_truth(spec.to_dict())))
    return Tally(verdicts)


def accuracies(tally):
    return {name: one["accuracy"] for name, one in tally.summary()["attributes"].items()}


def one(kind="star", colour="red", size="medium", action="still", *, scene="field", x=0.5, y=0.5, **rest):
    return SceneSpec((ObjectSpec(kind, colour, size, action, x, y),), scene, **rest)


@pytest.mark.parametrize(
    ("change", "seed", "count"), [(compressed, 31, 6), (noisy, 32, 3)], ids=["compressed", "noisy"]
)
def test_drawn_clips_are_read_right(change, seed, count):
    options = StoryboardOptions(split="any", styles=dict.fromkeys(words.STYLES, 1.0), counts={1: 2, 2: 2, 3: 1})
    tally = tally_of([spec_at(seed, index, options) for index in range(count)], change)
    assert set(accuracies(tally)) == {"scene", "style", "camera", "count", "object", "colour", "size", "action"}
    assert min(accuracies(tally).values()) >= 0.95, tally.mistakes()
    assert tally.summary()["fit"] > 0.7


@pytest.mark.parametrize(
    "shape",
    [{"num_frames": 25, "height": 96, "width": 144}, {"num_frames": 9, "height": 80, "width": 48}, {"fps": 16.0}],
    ids=["larger", "portrait and short", "faster"],
)
def test_other_shapes(shape):
    shape = {"num_frames": 17, "height": 64, "width": 96} | shape
    options = StoryboardOptions(split="any", counts={1: 1.0})
    tally = tally_of([spec_at(33, index, options) for index in range(2)], **shape)
    assert tally.summary()["exact"]["accuracy"] == 1.0, tally.mistakes()


@pytest.mark.parametrize("action", words.SHAPE_ACTIONS)
def test_every_action_of_a_shape(action):
    sight = look_at(render(one("car", "red", action=action, scene="city"), num_frames=9, fps=4.0), 4.0)
    assert [(seen.kind, seen.action) for seen in sight.objects] == [("car", action)]


@pytest.mark.parametrize("action", words.PERSON_ACTIONS)
def test_every_action_of_a_person(action):
    sight = look_at(render(one("person", "blue", action=action, scene="desert"), num_frames=9, fps=4.0), 4.0)
    assert [(seen.kind, seen.action) for seen in sight.objects] == [("person", action)]


def test_only_pixels_are_looked_at():
    frames = render(one("boat", "white", action="move_left", scene="sea", camera="zoom_in"))
    mirrored = look_at(np.ascontiguousarray(frames[:, :, ::-1]), 8.0)
    backwards = look_at(np.ascontiguousarray(frames[::-1]), 8.0)
    assert mirrored.objects[0].action == backwards.objects[0].action == "move_right"
    assert (mirrored.camera, backwards.camera) == ("zoom_in", "zoom_out")


@pytest.mark.parametrize("kind", ["circle", "square"])
def test_a_blot_that_rests_does_not_spin(kind):
    frames = render(one(kind, "purple", scene="field", style="watercolour")).astype(float)
    for axis in (1, 2):
        frames = sum(np.roll(frames, shift, axis) for shift in range(-3, 4)) / 7
    seen = look_at(frames.astype(np.uint8), 8.0).objects
    assert [(blot.colour, blot.action) for blot in seen] == [("purple", "still")]


@functools.cache
def blobs(seed):
    """A clip that is no drawing: soft stains that change their colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (5, 5, 7, 3))
    frames = coarse.repeat(4, axis=0)[:17].repeat(14, axis=1)[:, :64].repeat(14, axis=2)[:, :, :96]
    for axis in (1, 2):
        frames = sum(np.roll(frames, shift, axis) for shift in range(-4, 5)) / 9
    return frames.astype(np.uint8)


@pytest.mark.parametrize("seed", range(2))
def test_what_is_no_drawing_is_doubted(seed):
    sight = look_at(blobs(seed), 8.0)
    assert sight.scene in words.SCENES and len(sight.objects) <= 4
    assert sight.doubts()
    assert json.dumps(sight.to_dict()) and all(np.isfinite(seen.fit) for seen in sight.objects)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_clip(level):
    sight = look_at(np.full((17, 64, 96, 3), level, dtype=np.uint8), 8.0)
    assert len(sight.objects) <= 1 and sight.doubts() and sight.camera == "still"


def test_drawn_clips_leave_hardly_a_doubt():
    options = StoryboardOptions(split="any", counts={1: 1.0}, styles={"flat": 1.0})
    doubts = [look_at(render(spec_at(35, index, options)), 8.0).doubts() for index in range(3)]
    assert sum(map(bool, doubts)) <= 1


@pytest.mark.parametrize("shape", [(4, 64, 96, 3), (17, 31, 96, 3), (17, 64, 30, 3)])
def test_too_little_to_see(shape):
    with pytest.raises(InputError, match="at least 5 of 32x32"):
        look_at(np.zeros(shape, dtype=np.uint8), 8.0)


def test_a_long_clip_takes_no_more_frames():
    spec = one("house", "purple", action="move_up", scene="desert", camera="pan_left")
    sight = look_at(render(spec, num_frames=97, fps=16.0), 16.0)
    assert (sight.camera, sight.objects[0].kind, sight.objects[0].action) == ("pan_left", "house", "move_up")
