"""Signals of single pictures: exposure, sharpness, bars."""

import numpy as np
import pytest
from moving_pictures import blurred, pan, resized, texture

from cogvx.data.signals.bars import Bars, picture_box
from cogvx.data.signals.exposure import Exposure
from cogvx.data.signals.sample import read_sample, sample_of
from cogvx.data.signals.sharpness import Sharpness
from cogvx.data.video import write_clip


def scores(signal, frames):
    return signal.measure(sample_of(frames, 8.0)).scores


def grey(*levels):
    return np.stack([np.full((8, 8, 3), level, np.uint8) for level in levels])


def test_exposure_of_grey():
    found = scores(Exposure(), grey(51, 153))
    assert found == pytest.approx({"exposure": 0.4, "contrast": 0, "clipped_dark": 0, "clipped_bright": 0})


def test_exposure_of_black_and_white():
    frames = grey(0, 0)
    frames[:, :, :2] = 255
    found = scores(Exposure(), frames)
    wanted = {"exposure": 0.25, "contrast": 0.1875**0.5, "clipped_dark": 0.75, "clipped_bright": 0.25}
    assert found == pytest.approx(wanted)


def test_blur_takes_sharpness():
    frames = pan(3, 480, 640, 2, coarse=3)
    found = [scores(Sharpness(), blurred(frames, sigma))["sharpness"] for sigma in (0, 1, 2, 4)]
    assert all(more > 2 * less for more, less in zip(found[:-1], found[1:], strict=True))


def test_sharpness_in_closed_form():
    # Vertical lines of 0 and 2 alternately: the Laplacian is +4 and -4 in turn.
    frames = np.zeros((1, 480, 480, 3), np.uint8)
    frames[:, :, 1::2] = 2
    assert scores(Sharpness(), frames)["sharpness"] == pytest.approx(16)
    ramp = np.repeat(np.arange(240, dtype=np.uint8)[None, :, None], 3, axis=2)[None].repeat(480, axis=1)
    assert scores(Sharpness(size=240), ramp[:, :240])["sharpness"] == 0


def test_an_enlarged_clip_is_not_sharp():
    frames = pan(2, 480, 640, 2, coarse=3)
    small = resized(frames, 120, 160)
    assert scores(Sharpness(), small)["sharpness"] < scores(Sharpness(), frames)["sharpness"] / 4


@pytest.mark.parametrize(
    ("top", "bottom", "left", "right"), [(0, 0, 0, 0), (12, 12, 0, 0), (0, 0, 20, 20), (10, 6, 8, 0), (30, 30, 40, 40)]
)
def test_bars_of_a_known_size(tmp_path, top, bottom, left, right):
    frames = np.zeros((4, 96, 128, 3), np.uint8)
    inside = (96 - top - bottom, 128 - left - right)
    frames[:, top : 96 - bottom, left : 128 - right] = np.maximum(pan(4, *inside, 2), 60)
    wanted = 1 - inside[0] * inside[1] / (96 * 128)
    assert scores(Bars(), frames)["bars"] == pytest.approx(wanted)
    write_clip(tmp_path / "a.mp4", frames, 8)
    assert Bars().measure(read_sample(tmp_path / "a.mp4")).scores["bars"] == pytest.approx(wanted, abs=0.02)


def test_what_is_dark_only_for_a_time_is_no_bar():
    frames = np.maximum(pan(4, 64, 64, 2), 60)
    frames[1] = 0
    frames[2, :20] = 0
    frames[3, -20:] = 0
    assert scores(Bars(), frames) == {"bars": 0}
    assert picture_box(frames) == (0, 64, 0, 64)


def test_a_mark_in_the_bar_does_not_end_it():
    frames = np.zeros((3, 96, 128, 3), np.uint8)
    frames[:, 24:72] = np.maximum(texture(48, 128), 60)
    frames[:, 80:84, 100:102] = 255
    assert scores(Bars(), frames)["bars"] == 0.5


def test_black_throughout_is_one_bar():
    assert scores(Bars(), grey(0, 8, 0)) == {"bars": 1}
