"""PySceneDetect's detectors on our frames: planted joins are found, and what it finds itself is found."""

import numpy as np
import pytest
from films import film, real_shots

from cogvx.data.shot_detectors import DifferenceCuts
from cogvx.data.video import write_clip

pytest.importorskip("cv2")
scenedetect = pytest.importorskip("scenedetect")
THRESHOLDS = {"adaptive": 3.0, "content": 27.0}


def cuts(kind, frames, **options):
    detector = DifferenceCuts(kind, threshold=THRESHOLDS[kind], **({"min_gap": 15} | options))
    for frame in frames:
        detector.feed(frame)
    found = detector.boundaries()
    assert all(one.end == one.start for one in found)
    return [one.start for one in found]


@pytest.mark.parametrize("kind", THRESHOLDS)
def test_planted_joins_of_real_shots_are_found(kind):
    shots = real_shots()
    joins = np.cumsum([len(shot) for shot in shots])[:-1].tolist()
    assert cuts(kind, np.concatenate(shots)) == pytest.approx(joins, abs=1)


@pytest.mark.parametrize("kind", THRESHOLDS)
def test_what_has_no_cut(kind):
    assert cuts(kind, np.full((40, 48, 64, 3), 90, np.uint8)) == []
    assert cuts(kind, film(40)) == []
    assert cuts(kind, np.zeros((1, 48, 64, 3), np.uint8)) == [] and cuts(kind, []) == []


@pytest.mark.parametrize("kind", THRESHOLDS)
def test_cuts_that_are_close(kind):
    frames = film(30, 8, 30)
    assert cuts(kind, frames, min_gap=1) == [30, 38]
    assert len(cuts(kind, frames)) == 1


@pytest.mark.parametrize("kind", THRESHOLDS)
def test_the_same_cuts_as_pyscenedetect_finds_in_a_large_clip(kind, tmp_path):
    frames = film(20, 25, 20).repeat(6, axis=1).repeat(6, axis=2)  # 384 pixels wide: both make it smaller
    write_clip(tmp_path / "a.mkv", frames, 25)
    theirs = {"adaptive": scenedetect.AdaptiveDetector, "content": scenedetect.ContentDetector}[kind]()
    scenes = scenedetect.detect(str(tmp_path / "a.mkv"), theirs)
    assert cuts(kind, frames) == [start.frame_num for start, _ in scenes[1:]] == [20, 45]
