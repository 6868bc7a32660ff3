"""What captioners see of clips: frames at the right times, in the right order, small."""

import numpy as np
import pytest
from PIL import Image

from cogvx.captioning.moments import SIDE, ClipFile, Moment, read_moments, read_spread, times_in_words
from cogvx.data.video import write_clip
from cogvx.errors import InputError

FPS = 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Seven seconds, each frame of one grey: its number times 4."""
    path = tmp_path_factory.mktemp("clips") / "grey.mkv"
    frames = np.arange(56, dtype=np.uint8)[:, None, None, None] * 4 * np.ones((1, 32, 48, 3), dtype=np.uint8)
    write_clip(path, frames, FPS)
    return path


def numbers(moments):
    return [int(moment.frame[0, 0, 0]) // 4 for moment in moments]


def test_a_frame_every_two_seconds(clip):
    moments = read_moments(ClipFile(clip), every=2.0, most=32)
    assert numbers(moments) == [0, 16, 32, 48] and [moment.seconds for moment in moments] == [0, 2, 4, 6]
    assert all(moment.following is None for moment in moments)


def test_of_a_part_the_times_begin_anew(clip):
    moments = read_moments(ClipFile(clip, 1.0, 4.5), every=2.0, most=32)
    assert numbers(moments) == [8, 24] and [moment.seconds for moment in moments] == [0, 2]


def test_each_is_followed_by_a_frame_a_quarter_of_a_second_later(clip):
    moments = read_moments(ClipFile(clip), every=2.0, most=32, following=True)
    assert numbers(moments) == [0, 16, 32, 48]
    assert [int(moment.following[0, 0, 0]) // 4 for moment in moments] == [2, 18, 34, 50]
    assert {moment.gap for moment in moments} == {0.25}


def test_of_a_long_clip_so_many_are_evenly_spread(clip):
    moments = read_moments(ClipFile(clip), every=0.5, most=3)
    assert len(moments) == 3 and moments[1].seconds == pytest.approx(7 / 3, abs=0.01)


def test_no_time_behind_the_end(tmp_path):
    path = tmp_path / "five.mkv"  # the moment at 6 s is nearer to the last frame than its neighbour's half
    write_clip(path, np.zeros((41, 16, 16, 3), dtype=np.uint8), FPS)
    assert [moment.seconds for moment in read_moments(ClipFile(path), every=2.0, most=9)] == [0, 2, 4]


def test_frames_from_the_middles_of_equal_parts(clip):
    moments = read_spread(ClipFile(clip), 7)
    assert numbers(moments) == [4, 12, 20, 28, 36, 44, 52] and moments[0].seconds == pytest.approx(0.5)
    assert numbers(read_spread(ClipFile(clip), 1)) == [0]
    few = read_spread(ClipFile(clip, 1.0, 1.5), 16)
    assert numbers(few) == [8, 9, 10, 11]


def test_an_image_is_one_moment_and_large_frames_become_small(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (1200, 900)).save(path)
    for moments in (read_spread(ClipFile(path), 8), read_moments(ClipFile(path), every=2.0, most=8, following=True)):
        (one,) = moments
        assert one.seconds == 0 and one.following is None and min(one.frame.shape[:2]) == SIDE


def test_the_key_is_of_the_content_and_the_part(clip, tmp_path):
    (tmp_path / "copy.mkv").write_bytes(clip.read_bytes())
    assert ClipFile(clip).key() == ClipFile(tmp_path / "copy.mkv").key()
    keys = {ClipFile(clip, start, end).key() for start, end in ((None, None), (0.0, 1.0), (1.0, 2.0), (1.0, None))}
    assert len(keys) == 4
    (tmp_path / "copy.mkv").write_bytes(clip.read_bytes() + b"x")
    assert ClipFile(clip).key() != ClipFile(tmp_path / "copy.mkv").key()
    write_clip(tmp_path / "folder", np.zeros((2, 16, 16, 3), dtype=np.uint8), FPS)
    assert len(ClipFile(tmp_path / "folder").key()) == 64
    with pytest.raises(InputError, match="cannot read"):
        ClipFile(tmp_path / "none.mkv").key()


def test_times_are_said_in_words():
    moments = [Moment(seconds, np.zeros((1, 1, 3), dtype=np.uint8)) for seconds in (0.0, 2.04, 4.0)]
    assert times_in_words(moments) == "0.0, 2.0 and 4.0" and times_in_words(moments[:1]) == "0.0"


def test_moments_that_lie_minutes_apart(tmp_path):
    path = tmp_path / "slow.mkv"
    write_clip(path, np.arange(12, dtype=np.uint8)[:, None, None, None] * 4 * np.ones((1, 16, 16, 3), np.uint8), 0.04)
    apart = read_moments(ClipFile(path), every=2.0, most=2)
    assert numbers(apart) == [0, 6] and [round(moment.seconds) for moment in apart] == [0, 150]
    spread = read_spread(ClipFile(path), 2)
    assert numbers(spread) == [3, 9] and [round(moment.seconds) for moment in spread] == [75, 225]
