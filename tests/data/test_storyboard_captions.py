"""Captions say what the clip shows, in many words, none of them false."""

import random
import re

import numpy as np
import pytest

from cogvx.data.storyboard import ObjectSpec, SceneSpec, caption_variants, captions, plain_caption, spec_at
from cogvx.data.storyboard import vocabulary as words
from cogvx.data.storyboard.wording import (
    ACTION_WORDS,
    CAMERA_WORDS,
    OBJECT_WORDS,
    SCENE_WORDS,
    SIZE_WORDS,
    STILL_CAMERA_WORDS,
    STYLE_PREFIX,
    STYLE_WORDS,
)

STAR = ObjectSpec("star", "red", "large", "move_right")


def says(text, phrases):
    return any(re.search(rf"\b{re.escape(phrase)}\b", text) for phrase in phrases)


def nouns(one):
    return [noun.replace("{colour}", one.colour) for noun in OBJECT_WORDS[one.kind]]


def verbs(one):
    key = "stand" if one.kind == "person" and one.action == "still" else one.action
    return [form for pair in ACTION_WORDS[key] for form in pair]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (SceneSpec((STAR,), "field"), "a red star moves to the right over a green field"),
        (
            SceneSpec((ObjectSpec("tree", "orange", "small", "still"),), "sea", "pixel", "zoom_in"),
            "an orange tree stays still over a blue sea, in pixel art style, camera zooms in",
        ),
        (
            SceneSpec((ObjectSpec("person", "blue", "small", "still"),), "city"),
            "a blue person stands still on a city street",
        ),
        (
            SceneSpec((STAR, ObjectSpec("boat", "blue", "small", "bounce")), "night"),
            "a red star moves to the right and a blue boat bounces in a night sky",
        ),
    ],
)
def test_plain_captions(spec, text):
    assert plain_caption(spec) == text
    assert caption_variants(spec, 5)[0] == text


def test_every_caption_states_the_essentials():
    for index in range(400):
        spec = spec_at(0, index)
        both = captions(spec, random.Random(index))
        for kind, caption in both.items():
            text = caption.lower()
            for one in spec.objects:
                assert one.colour in text and says(text, nouns(one)), caption
                assert says(text, verbs(one)), caption
                assert kind == "short" or says(text, SIZE_WORDS[one.size]), caption
            assert says(text, SCENE_WORDS[spec.scene]), caption
            if kind == "dense" or spec.style != "flat":
                assert says(text, STYLE_WORDS[spec.style] + STYLE_PREFIX[spec.style]), caption
            if kind == "dense" or spec.camera != "still":
                assert says(text, CAMERA_WORDS.get(spec.camera, STILL_CAMERA_WORDS)), caption
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  |, ,", text), caption
        assert len(both["dense"].split()) <= 45
        assert both["dense"][0].isupper() and both["dense"].endswith(".")


def test_left_and_right_are_never_mixed_up():
    for action, wrong in (
        ("move_right", "leftwards|moving left|to the left"),
        ("move_left", "rightwards|moving right|to the right"),
    ):
        spec = SceneSpec((ObjectSpec("car", "red", "small", action),), "city")
        for length in ("short", "dense"):
            assert not re.search(wrong, " ".join(caption_variants(spec, 60, length=length)).lower())


def test_captions_are_many_and_their_words_few():
    spec = SceneSpec((STAR,), "field")
    assert len(set(caption_variants(spec, 100))) == len(set(caption_variants(spec, 100, length="dense"))) == 100
    used = set()
    for index in range(1500):
        for caption in captions(spec_at(1, index), random.Random(index)).values():
            used |= set(re.findall(r"[a-z-]+", caption.lower()))
    assert 150 < len(used) < 400


def test_captions_depend_on_the_generator_alone():
    spec = spec_at(2, 0)
    assert captions(spec, random.Random(3)) == captions(spec, random.Random(3))
    assert captions(spec, np.random.default_rng(3)) == captions(spec, np.random.default_rng(3))


def test_every_name_has_words():
    assert set(OBJECT_WORDS) == set(words.OBJECTS) and set(SCENE_WORDS) == set(words.SCENES)
    assert set(STYLE_WORDS) == set(STYLE_PREFIX) == set(words.STYLES) and set(SIZE_WORDS) == set(words.SIZES)
    assert set(ACTION_WORDS) == {*words.ACTIONS, "stand"} and set(CAMERA_WORDS) == set(words.CAMERAS) - {"still"}
