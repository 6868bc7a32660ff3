import numpy as np
import pytest
from moving_pictures import mp4, pan

from cogvx.data.signals.motion_vectors import MotionVectors
from cogvx.data.signals.sample import read_sample
from cogvx.data.video import write_clip
from cogvx.errors import InputError

COSMOS = 0.00098  # what cosmos-curate calls little motion
PLAIN = {"bf": 0, "refs": 1}  # every vector reaches back by one frame


def scores(path, **span):
    return MotionVectors().measure(read_sample(path, max_frames=1, **span)).scores


def clip(path, frames, **options):
    path.write_bytes(mp4(frames, **(options or PLAIN)))
    return path


@pytest.mark.parametrize("step", [2, 6])
def test_a_pan(tmp_path, step):
    found = scores(clip(tmp_path / "a.mp4", pan(24, 256, 320, step)))
    assert found["flow_mv"] * (256 + 320) == pytest.approx(step, rel=0.15)
    assert found["flow_mv_patch"] > 1e-6
    assert found["flow_mv"] > COSMOS


def test_as_encoders_do_it_by_default(tmp_path):
    still = scores(clip(tmp_path / "still.mp4", np.repeat(pan(1, 256, 320, 0), 24, axis=0), crf=23))
    slow, fast = (scores(clip(tmp_path / f"{step}.mp4", pan(24, 256, 320, step), crf=23)) for step in (1, 4))
    assert still["flow_mv"] < COSMOS < slow["flow_mv"] < fast["flow_mv"]


def test_a_corner_that_stands_still_is_the_least_patch(tmp_path):
    frames = pan(12, 256, 512, 4)
    frames[:, :, :256] = frames[0, :, :256]
    found = scores(clip(tmp_path / "a.mp4", frames))
    assert found["flow_mv_patch"] < COSMOS / 4 < found["flow_mv"]


def test_a_part_of_a_file(tmp_path):
    frames = np.concatenate([pan(16, 128, 128, 0), pan(24, 128, 128, 4)])
    path = clip(tmp_path / "a.mp4", frames)
    assert scores(path, start=0.0, end=1.9)["flow_mv"] < 1e-4
    assert scores(path, start=2.5)["flow_mv"] * 256 == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("name", ["a.webm", "a.webp", "a.gif", "a/", "a.mkv"])
def test_other_clips_have_no_vectors(tmp_path, name):
    write_clip(tmp_path / name, pan(4, 64, 64, 2), 8)
    assert scores(tmp_path / name) == {}


def test_a_key_frame_alone_has_none(tmp_path):
    assert scores(clip(tmp_path / "a.mp4", pan(1, 64, 64, 0))) == {}


def test_damage_is_an_error(tmp_path):
    path = clip(tmp_path / "a.mp4", pan(24, 128, 128, 3))
    sample = read_sample(path, max_frames=1)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.mp4"):
        MotionVectors().measure(sample)
