import numpy as np
import pytest
from moving_pictures import pan, texture

from cogvx.data.signals.continuity import Continuity
from cogvx.data.signals.sample import sample_of

pytest.importorskip("cv2")


def scores(frames, fps=24.0):
    return Continuity().measure(sample_of(frames, fps)).scores


def test_an_even_pan_is_connected():
    found = scores(pan(12, 128, 160, 2, coarse=8))
    assert found["continuity"] > 0.9
    assert found["continuity_min"] > 0.85
    assert found["judder"] < 0.05


def test_a_cut_is_the_worst_pair():
    frames = np.concatenate([pan(8, 128, 160, 1, coarse=8), pan(8, 128, 160, 1, seed=1, coarse=8)])
    found = scores(frames)
    assert found["continuity_min"] < 0.5 < found["continuity"]


def test_a_slideshow_is_not_connected():
    found = scores(np.stack([texture(128, 160, seed, coarse=8) for seed in range(6)]))
    assert found["continuity"] < 0.5


def test_a_still_clip_has_neither_fault():
    found = scores(np.repeat(texture(64, 96)[None], 6, axis=0))
    assert found == {"continuity": 1.0, "continuity_min": 1.0, "judder": 0.0}


@pytest.mark.parametrize(("repeat", "judder"), [(5, 0.5), (2, 2.0)])
def test_repeated_frames_judder(repeat, judder):
    frames = pan(41, 128, 160, 3, coarse=8)
    moments = np.arange(41) - np.arange(41) // repeat  # every fifth, or second, frame comes again
    assert scores(frames[moments])["judder"] == pytest.approx(judder, rel=0.1)


def test_the_worst_of_several_runs():
    even = {"continuity": 0.9, "continuity_min": 0.8, "judder": 0.1}
    cut = {"continuity": 0.6, "continuity_min": 0.1, "judder": 0.4}
    found = Continuity().combine([(30, even), (10, cut)])
    assert found == pytest.approx({"continuity": 0.825, "continuity_min": 0.1, "judder": 0.175})
    assert Continuity().combine([]) == {}
