"""Captions to what they ask for: all that is written can be read, and nothing else."""

import random

import pytest

from cogvx.data.storyboard import StoryboardOptions, caption_variants, spec_at
from cogvx.data.storyboard import vocabulary as words
from cogvx.errors import InputError
from cogvx.evaluation.storyboard import AskedObject, Request, read_prompt
from cogvx.models.words import clean_words


def without_sizes(request):
    objects = tuple(AskedObject(one.kind, one.colour, None, one.action) for one in request.objects)
    return Request(objects, request.scene, request.style, request.camera)


@pytest.mark.parametrize("length", ["short", "dense"])
def test_every_caption_says_its_truth(length):
    options = StoryboardOptions(
        split="any",
        styles=dict.fromkeys(words.STYLES, 1.0),
        cameras=dict.fromkeys(words.CAMERAS, 1.0),
        counts={1: 1.0, 2: 1.0, 3: 1.0},
    )
    sizes = 0
    for index in range(250):
        spec = spec_at(41, index, options)
        truth = Request.from_truth(spec.to_dict())
        for caption in caption_variants(spec, 3, seed=index, length=length):
            found = read_prompt(caption)
            assert without_sizes(found) == without_sizes(truth), caption
            stated = [(one.size, two.size) for one, two in zip(found.objects, truth.objects, strict=True) if one.size]
            assert all(size == true for size, true in stated), caption
            assert length == "short" or len(stated) == len(truth.objects), caption
            sizes += len(stated)
    assert sizes > 100


@pytest.mark.parametrize("length", ["short", "dense"])
def test_a_caption_without_marks_says_the_same(length):
    options = StoryboardOptions(split="any", styles=dict.fromkeys(words.STYLES, 1.0), counts={1: 1.0, 2: 1.0, 3: 2.0})
    for index in range(150):
        for caption in caption_variants(spec_at(78, index, options), 2, seed=index, length=length):
            assert read_prompt(" ".join(clean_words(caption, max_words=100))) == read_prompt(caption), caption


def test_a_word_changed_is_another_request():
    rng = random.Random(3)
    for index in range(60):
        spec = spec_at(42, index)
        plain = caption_variants(spec, 1)[0]
        one = rng.choice(spec.objects)
        free = [c for c in words.colours_in(spec.scene, spec.style) if c not in {o.colour for o in spec.objects}]
        other = rng.choice(free)
        found = read_prompt(plain.replace(one.colour + " ", other + " ", 1))
        before = read_prompt(plain)
        changed = [a for a, b in zip(found.objects, before.objects, strict=True) if a != b]
        if changed:  # "pink sunset" may have come first
            assert len(changed) == 1 and changed[0].colour == other and found.scene == before.scene


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red star", Request((AskedObject("star", "red"),), None, "flat", "still")),
        ("STAR", Request((AskedObject("star"),), None, "flat", "still")),
        (
            "  A yellow boat bounces on the sea. ",
            Request((AskedObject("boat", "yellow", None, "bounce"),), "sea", "flat", "still"),
        ),
        (
            "the big man in red walks left in town, panning left, in watercolor",
            Request((AskedObject("person", "red", "large", "walk_left"),), "city", "watercolour", "pan_left"),
        ),
        (
            "a person moves to the left and a ball jumps",
            Request((AskedObject("person", None, None, "walk_left"), AskedObject("circle", None, None, "bounce"))),
        ),
    ],
)
def test_prompts_may_leave_things_open(prompt, expected):
    found = read_prompt(prompt)
    assert found.objects == expected.objects and found.scene == expected.scene
    assert (found.style, found.camera) == (expected.style or "flat", expected.camera or "still")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "names no object"),
        ("a cat runs", "names no object of Storyboard at 'a cat runs'"),
        ("a red star over a green field, 4k", "from '4k' on"),
        ("a red star flies to the moon", "from 'flies to the moon' on"),
        ("a red star and a happy boat", "from 'and a happy boat' on"),
        ("a red star over a green field over a blue sea", "from 'over a blue sea' on"),
        ("a person spins", "a person that does 'spin'"),
        ("a blue star over a blue sea", "a blue object in the scene 'sea'"),
        ("a star, a car, a boat and a tree", "4 objects"),
        ("x" * 100000, "names no object"),
    ],
)
def test_what_is_not_of_the_world_is_an_error(prompt, words):
    with pytest.raises(InputError, match=words) as error:
        read_prompt(prompt)
    assert len(str(error.value)) < 500


def test_a_broken_truth_is_an_error():
    with pytest.raises(InputError, match="storyboard truth"):
        Request.from_truth({"objects": []})
    truth = spec_at(0, 0).to_dict()
    with pytest.raises(InputError, match="unknown scene"):
        Request.from_truth(truth | {"scene": "moon"})


def test_requests_as_json():
    assert read_prompt("a red star in a room").to_dict() == {
        "scene": "room",
        "style": "flat",
        "camera": "still",
        "objects": [{"kind": "star", "colour": "red"}],
    }
