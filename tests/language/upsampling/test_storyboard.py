"""Free prompts to the captions of the embedded models' world."""

import random

import pytest

from cogvx.data.storyboard import caption_variants, spec_at
from cogvx.data.storyboard import vocabulary as world
from cogvx.errors import InputError
from cogvx.language.upsampling.storyboard import StoryboardUpsampler, _complete, _read

REWRITE = StoryboardUpsampler().rewrite


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("a red star moves to the right over a green field", "a red star moves to the right over a green field"),
        ("A BALLOON rising into the night sky!", "a red circle moves up in a night sky"),
        ("a yacht sails on the ocean", "a red boat moves to the right over a blue sea"),
        (
            "a man in blue runs left through the snow, zoom in",
            "a blue person walks to the left over snowy hills, camera zooms in",
        ),
        ("two sharks", "an orange fish moves to the right over a blue sea"),
        (
            "a spinning violet gem in the desert, pixel art",
            "a purple diamond spins over a sandy desert, in pixel art style",
        ),
        (
            "a girl waves, and a yellow bird flies to the left over the city",
            "a red person waves and a yellow bird moves to the left on a city street",
        ),
        ("a woman in a green dress jumps indoors", "a green person jumps in a room"),
    ],
)
def test_prompts(prompt, caption):
    assert REWRITE(prompt).text == caption


@pytest.mark.parametrize("prompt", ["a cat plays the guitar", "ocean waves at sunset", "", "12 !?", "红色的星星"])
def test_nothing_to_draw(prompt):
    with pytest.raises(InputError, match="can draw"):
        REWRITE(prompt)


def test_what_gives_way_is_said():
    made = REWRITE("a blue boat on the blue sea")
    assert "a red boat" in made.text and "blue would not be told apart" in made.notes[0]
    assert "three objects are the most: bird, heart" in REWRITE("car, boat, fish, bird, heart").notes[0]
    assert "none spins" in REWRITE("a spinning circle").notes[0]
    assert REWRITE("a white star at night").notes == ()
    assert made.source == "a blue boat on the blue sea" and made.by == "storyboard"


def test_sizes_make_a_longer_caption():
    text = REWRITE("a huge golden ball bounces in the snow").text
    assert (
        any(word in text for word in ("large", "big", "huge")) and "yellow" in text and "boun" in text or "hop" in text
    )


def test_captions_of_the_world_are_understood():
    """What the training says is found again: objects and colours of every scene, and nearly all actions and scenes."""
    actions = scenes = total = 0
    for index in range(60):
        spec = spec_at(5, index)
        for caption in caption_variants(spec, 3, seed=index):
            found = _complete(_read(caption))
            assert {(one.kind, one.colour) for one in found.objects} == {(o.kind, o.colour) for o in spec.objects}, (
                caption
            )
            actions += {one.action for one in found.objects} == {one.action for one in spec.objects}
            scenes += (found.scene, found.style, found.camera) == (spec.scene, spec.style, spec.camera)
            total += 1
    assert actions > 0.9 * total and scenes > 0.9 * total


def test_any_words_make_a_legal_scene():
    rng = random.Random(0)
    words = [
        *world.OBJECTS,
        *world.COLOURS,
        *world.SIZES,
        "running",
        "left",
        "up",
        "spins",
        "waves",
        "jumps",
        "sea",
        "in",
        "orbits",
    ]
    for _ in range(400):
        prompt = " ".join(rng.choice(words) for _ in range(rng.randrange(1, 12)))
        try:
            assert REWRITE(prompt).text
        except InputError:
            assert not set(prompt.split()) & set(world.OBJECTS)
