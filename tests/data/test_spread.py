import numpy as np
import pytest

from cogvx.data.spread import spread_frames
from cogvx.data.video import write_clip
from cogvx.errors import InputError, UsageError


@pytest.fixture
def clip(tmp_path):
    frames = np.zeros((20, 16, 32, 3), np.uint8) + (np.arange(20) * 10).astype(np.uint8)[:, None, None, None]
    write_clip(tmp_path / "a.mkv", frames, 10.0)
    return tmp_path / "a.mkv"


def numbers(found):
    return [int(round(frame.mean() / 10)) for frame in found.frames]


def test_frames_are_equally_far_apart(clip):
    found = spread_frames(clip, 4)
    assert numbers(found) == [0, 5, 10, 15]
    assert found.seconds == (0.0, 0.5, 1.0, 1.5)


def test_no_frame_comes_twice(clip):
    assert numbers(spread_frames(clip, 50)) == list(range(20))


def test_a_part_of_a_file(clip):
    assert numbers(spread_frames(clip, 2, start=0.5, end=1.3)) == [5, 9]


def test_sizes(clip):
    assert spread_frames(clip, 1, size=(5, 7)).frames.shape == (1, 5, 7, 3)
    assert spread_frames(clip, 1, longest=16).frames.shape == (1, 8, 16, 3)
    assert spread_frames(clip, 1, longest=64).frames.shape == (1, 16, 32, 3)


def test_an_image_is_one_frame(tmp_path):
    write_clip(tmp_path / "still/", np.zeros((1, 8, 8, 3), np.uint8), 8.0)
    (image,) = (tmp_path / "still").glob("*.png")
    assert len(spread_frames(image, 8).frames) == 1


def test_a_part_behind_the_end_is_an_error(clip):
    with pytest.raises(InputError, match="no frames between 9.0"):
        spread_frames(clip, 2, start=9.0)
    with pytest.raises(UsageError):
        spread_frames(clip, 0)
