"""Each clip gets the size of nearest aspect that it can fill, and a legal length that it fills."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogvx.data.buckets import Media, Shape, fit, legal_frames, lost_share

SIZES = [(480, 720), (720, 480), (480, 480), (240, 368)]


def fitted(media, **changes):
    return fit(media, **{"sizes": SIZES, "max_frames": 49, "fps": 8, **changes})


@pytest.mark.parametrize(
    ("media", "shape"),
    [
        (Media(1920, 1080, 10, 30), Shape(49, 480, 720)),
        (Media(1080, 1920, 10, 30), Shape(49, 720, 480)),
        (Media(1000, 1000, 10, 30), Shape(49, 480, 480)),
        (Media(1920, 1080), Shape(1, 480, 720)),
        (Media(720, 480, 6, 30), Shape(49, 480, 720)),
        (Media(720, 480, 3, 30), Shape(25, 480, 720)),
        (Media(720, 480, 0.5, 30), Shape(1, 480, 720)),
        (Media(700, 460, 6, 30), Shape(49, 240, 368)),
        (Media(320, 200, 6, 30), None),
        (Media(0, 0), None),
    ],
)
def test_examples(media, shape):
    assert fitted(media) == shape


def test_enlarging_is_asked_for():
    assert fitted(Media(700, 460, 6, 30), max_upscale=1.05) == Shape(49, 480, 720)


def test_among_equal_aspects_the_largest():
    assert fitted(Media(1440, 960), sizes=[(240, 360), (480, 720), (64, 96)]) == Shape(1, 480, 720)


def test_tokens():
    assert Shape(49, 480, 720).num_tokens() == 17550
    assert Shape(1, 480, 720).num_tokens() == 1350
    assert Shape(81, 768, 1360).num_tokens(temporal_patch_size=2) == 11 * 48 * 85
    assert str(Shape(49, 480, 720)) == "49x480x720"


@given(
    st.integers(1, 4000), st.integers(1, 4000), st.floats(0, 30), st.sampled_from([0, 8, 24, 30, 60]),
    st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=6),
)  # fmt: skip
def test_properties(width, height, duration, fps, sizes):
    sizes = [(16 * h, 16 * w) for h, w in sizes]
    media = Media(width, height, duration, fps)
    shape = fit(media, sizes=sizes, max_frames=49, fps=8)
    possible = [(h, w) for h, w in sizes if h <= height and w <= width]
    assert (shape is None) == (not possible)
    if shape is not None:
        assert (shape.height, shape.width) in possible and 1 <= shape.num_frames <= 49 and shape.num_frames % 8 == 1
        least = min(lost_share(media, *size) for size in possible)
        assert lost_share(media, shape.height, shape.width) <= least + 0.05
        if not media.still:  # what is left of the clip is less than a period
            assert shape.num_frames == 49 or (shape.num_frames + 8) / 8 > duration


@given(st.integers(1, 1000))
def test_legal_frames(count):
    assert legal_frames(count) % 8 == 1 and 0 <= count - legal_frames(count) < 8
