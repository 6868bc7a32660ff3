import numpy as np
import pytest
from moving_pictures import pan, texture

from cogvx.data.signals.frozen import Frozen
from cogvx.data.signals.sample import sample_of
from cogvx.data.video import read_clip, write_clip


def share(frames, fps=24.0):
    return Frozen().measure(sample_of(frames, fps)).scores.get("frozen")


def test_the_share_is_exact():
    moments = [0, 1, 1, 2, 3, 3, 3, 4, 5]  # 3 of 8 pairs are the same
    assert share(pan(6, 64, 96, 2)[moments]) == pytest.approx(3 / 8)


def test_noise_of_compression_is_no_motion(tmp_path):
    frames = pan(5, 64, 96, 3)[np.repeat(np.arange(5), 2)]
    write_clip(tmp_path / "a.mp4", frames, 8)
    assert share(read_clip(tmp_path / "a.mp4").frames) == pytest.approx(5 / 9)
    noise = np.random.default_rng(0).integers(-1, 2, frames.shape)
    assert share(np.clip(frames + noise, 0, 255).astype(np.uint8)) == pytest.approx(5 / 9)


def test_a_small_thing_that_moves_is_seen():
    frames = np.repeat(texture(128, 128)[None], 4, axis=0)
    for index in range(4):
        frames[index, 60:66, 20 + 8 * index : 26 + 8 * index] = 255
    assert share(frames) == 0


def test_long_clips_count_in_all_their_runs():
    frames = np.zeros((600, 16, 16, 3), np.uint8)
    frames[300:, 4:, 4:] = (np.arange(300) % 2 * 255)[:, None, None, None]
    assert share(frames) == pytest.approx(0.5, abs=0.06)


def test_one_frame_has_none():
    assert share(pan(1, 16, 16, 0)) is None
