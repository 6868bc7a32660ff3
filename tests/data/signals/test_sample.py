import numpy as np
import pytest
from moving_pictures import pan

from cogvx.data.signals.sample import read_sample, sample_of
from cogvx.data.video import write_clip
from cogvx.errors import InputError


def numbered(count, height=4, width=4):
    """Frames that hold their own number."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0], frames[..., 1] = (np.arange(count)[:, None, None] >> shift & 255 for shift in (0, 8))
    return frames


def numbers(frames):
    return (frames[:, 0, 0, 0] + 256 * frames[:, 0, 0, 1].astype(int)).tolist()


def test_a_short_clip_is_kept_whole():
    sample = sample_of(numbered(256), 24.0)
    assert [numbers(run) for run in sample.runs] == [list(range(256))]
    assert sample.fps == 24
    assert numbers(sample.stills) == list(range(0, 256, 16))
    assert sample.still_rate == 1.5


@pytest.mark.parametrize("count", [257, 1000, 5000])
def test_of_a_long_clip_a_bounded_part_is_kept_evenly_spread(count):
    sample = sample_of(numbered(count), 24.0)
    runs = [numbers(run) for run in sample.runs]
    assert 8 <= len(runs) <= 16
    assert all(run == list(range(run[0], run[0] + len(run))) for run in runs)
    starts = [run[0] for run in runs]
    assert len(set(np.diff(starts))) == 1
    assert starts[0] == 0
    assert count - starts[-1] <= 2 * starts[1]
    stills = numbers(sample.stills)
    assert 8 <= len(stills) <= 16
    assert len(set(np.diff(stills))) == 1


def test_a_single_frame():
    sample = sample_of(numbered(1), 8.0)
    assert [run.shape for run in sample.runs] == [(1, 4, 4, 3)]
    assert sample.stills.shape == (1, 4, 4, 3)


@pytest.mark.parametrize(
    ("size", "run", "still"),
    [
        ((270, 480), (256, 455), (270, 480)),
        ((1080, 1920), (256, 455), (480, 853)),
        ((100, 50), (100, 50), (100, 50)),
        ((3, 9000), (1, 2048), (1, 2048)),
    ],
)
def test_large_frames_are_reduced_and_small_ones_are_not_enlarged(size, run, still):
    sample = sample_of(np.full((2, *size, 3), 77, np.uint8), 8.0)
    assert sample.runs[0].shape == (2, *run, 3)
    assert sample.stills.shape == (2, *still, 3)
    assert (sample.stills == 77).all()


def test_a_file_gives_what_its_frames_give(tmp_path):
    frames = pan(40, 40, 48, 1)
    write_clip(tmp_path / "a.mkv", frames, 12)
    sample, wanted = read_sample(tmp_path / "a.mkv"), sample_of(frames, 12.0)
    assert np.array_equal(sample.runs[0], wanted.runs[0])
    assert np.array_equal(sample.stills, wanted.stills)
    assert (sample.fps, sample.still_rate) == (12, wanted.still_rate)
    part = read_sample(tmp_path / "a.mkv", start=1.0, end=2.0, runs=False)
    assert part.runs == ()
    assert np.array_equal(part.stills, frames[12:24])


def test_a_very_fast_clip_is_thinned_out(tmp_path):
    write_clip(tmp_path / "a.mkv", numbered(30, 16, 16), 240)
    sample = read_sample(tmp_path / "a.mkv")
    assert numbers(sample.runs[0]) == list(range(0, 30, 4))
    assert sample.fps == pytest.approx(60)


def test_a_broken_file(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a\.mp4"):
        read_sample(tmp_path / "a.mp4")
