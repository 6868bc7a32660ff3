"""Motion in words: pictures that were shifted and scaled by known amounts."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cogvx.captioning.motion_words import Motion, in_words, measure_motion

pytest.importorskip("cv2", reason="needs OpenCV")
SIZE = 192


@pytest.fixture(scope="module")
def world():
    noise = np.random.default_rng(0).integers(0, 255, (SIZE * 2, SIZE * 2, 3), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(3))


def seen(world, x=0.0, y=0.0, zoom=1.0):
    """What a camera sees that stands at (x, y), in picture sides off the middle."""
    half = SIZE / 2 / zoom
    middle_x, middle_y = SIZE + x * SIZE, SIZE + y * SIZE
    box = (middle_x - half, middle_y - half, middle_x + half, middle_y + half)
    return np.asarray(world.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box))


@pytest.mark.parametrize(
    ("move", "words"),
    [
        ({}, "the camera stands still, hardly any motion"),
        ({"x": 0.03}, "the camera moves to the right, hardly any motion"),
        ({"x": -0.03}, "the camera moves to the left, hardly any motion"),
        ({"y": 0.03}, "the camera moves down, hardly any motion"),
        ({"y": -0.03, "x": 0.03}, "the camera moves to the right and up, hardly any motion"),
        ({"zoom": 1.05}, "the camera zooms in, hardly any motion"),
        ({"zoom": 0.95}, "the camera zooms out, hardly any motion"),
        ({"zoom": 1.05, "x": 0.03}, "the camera moves to the right and zooms in, hardly any motion"),
    ],
)
def test_what_the_camera_does(world, move, words):
    motion = measure_motion(seen(world), seen(world, **move), 0.25)
    assert in_words(motion) == words
    assert motion.right == pytest.approx(-move.get("x", 0) / 0.25, abs=0.02)
    assert motion.zoom == pytest.approx((move.get("zoom", 1) - 1) / 0.25, abs=0.03)


@pytest.mark.parametrize(("shift", "words"), [(2, "slow motion"), (6, "motion"), (16, "fast motion")])
def test_what_moves_before_a_still_camera(world, shift, words):
    first = seen(world).copy()
    second = first.copy()
    thing = np.asarray(world)[:64, :64]
    first[60:124, 60:124] = thing
    second[60:124, 60 + shift : 124 + shift] = thing
    assert in_words(measure_motion(first, second, 0.1)) == f"the camera stands still, {words}"


def test_pictures_in_which_nothing_can_be_seen():
    tiny = np.zeros((8, 200, 3), dtype=np.uint8)
    assert measure_motion(tiny, tiny, 0.25) is None
    assert in_words(Motion(0, 0, 0, 5.0)) == "the camera stands still, fast motion"
