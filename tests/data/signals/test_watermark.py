import numpy as np
import pytest
from moving_pictures import pan, texture
from PIL import Image, ImageDraw

from cogvx.data.signals.sample import sample_of
from cogvx.data.signals.text import Line, Text
from cogvx.data.signals.watermark import Watermark, badge

pytest.importorskip("cv2")


def badged(frames, left, top):
    """Lay a badge of 60x24 pixels over frames: a plate with a ring and bars on it."""
    result = []
    for frame in frames:
        image = Image.fromarray(frame)
        draw = ImageDraw.Draw(image)
        draw.rectangle((left, top, left + 60, top + 24), fill=(20, 20, 20))
        draw.ellipse((left + 4, top + 4, left + 20, top + 20), outline=(255, 255, 255), width=3)
        for bar in range(26, 56, 8):
            draw.rectangle((left + bar, top + 6, left + bar + 3, top + 18), fill=(255, 255, 255))
        result.append(np.asarray(image))
    return np.stack(result)


def score(frames, **parameters):
    return Watermark(**parameters).measure(sample_of(frames, 8.0)).scores.get("watermark")


@pytest.mark.parametrize("place", [(12, 10), (248, 10), (12, 206), (248, 206)])
def test_a_badge_in_a_corner_is_found(place):
    moving = pan(12, 240, 320, 6, coarse=16)
    assert score(badged(moving, *place)) > 0.8
    assert score(moving) < 0.2


def test_in_the_middle_it_is_no_badge():
    assert score(badged(pan(12, 240, 320, 6, coarse=16), 130, 110)) < 0.2


def test_a_badge_that_moves_along_is_a_thing():
    still = badged(texture(240, 420, coarse=16)[None], 150, 10)
    assert score(np.stack([still[0, :, 10 * index : 10 * index + 320] for index in range(10)])) < 0.2


def test_before_a_scene_that_stands_still_nothing_can_be_told():
    still = np.repeat(badged(texture(240, 320, coarse=16)[None], 12, 10), 8, axis=0)
    assert score(still) == 0


def test_too_few_or_too_small_frames():
    moving = badged(pan(2, 240, 320, 6), 12, 10)
    assert badge(moving) == 0
    assert score(moving[:1]) is None
    assert score(pan(8, 16, 16, 1)) == 0


def test_stable_text_in_a_corner_is_one():
    sample = sample_of(pan(8, 100, 100, 1, coarse=16), 8.0)
    line = Line(np.array([[5.0, 5], [45, 5], [45, 15], [5, 15]]), "maker")
    sample.shared[repr(Text())] = [[line], [line], [line], [], [line]]
    assert Watermark(text=Text()).measure(sample).scores == {"watermark": 0.8}
    assert Watermark().measure(sample).scores["watermark"] < 0.2
    assert Watermark(text=Text()).made() != Watermark().made()
