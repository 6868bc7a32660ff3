"""Parts of clips as files: exactly their frames, at their times, under names that cannot clash."""

import re

import numpy as np
import pytest
from films import film, timed_clip

from cogvx.data.cut_files import cut_path, write_cut
from cogvx.data.media import Span
from cogvx.data.shots import Shot
from cogvx.data.video import decoded, probe, read_clip, write_clip
from cogvx.errors import InputError, UsageError

FRAMES = film(20)
PART = Shot(5, 12, 0.5, 1.2)
TIMES = [i / 10 for i in range(5, 12)]


@pytest.fixture
def clip(tmp_path):
    write_clip(tmp_path / "a.mkv", FRAMES, 10)
    return tmp_path / "a.mkv"


@pytest.mark.parametrize("form", ["mkv", "mp4-lossless"])
def test_a_part_keeps_every_pixel(clip, tmp_path, form):
    target = cut_path(tmp_path / "cuts", "a.mkv", PART, form)
    write_cut(clip, target, PART, TIMES, fps=10, form=form, comment="where it is from")
    made = read_clip(target)
    assert np.array_equal(made.frames, FRAMES[5:12])
    assert made.fps == 10 and made.metadata["comment"] == "where it is from"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_mp4_is_close(clip, tmp_path):
    write_cut(clip, tmp_path / "b.mp4", PART, TIMES, fps=10, form="mp4", comment="")
    made = read_clip(tmp_path / "b.mp4").frames
    assert len(made) == 7 and np.abs(made.mean(axis=3) - FRAMES[5:12].mean(axis=3)).mean() < 10


@pytest.mark.parametrize("form", ["mkv", "mp4-lossless"])
def test_a_varying_rate_is_kept(tmp_path, form):
    ticks = [0, 40, 80, 90, 100, 400, 500, 510, 900, 1000, 1020, 1200]
    source = timed_clip(tmp_path / "a.mkv", FRAMES[:12], ticks)
    shot = Shot(2, 10, 0.08, 1.02)
    target = tmp_path / f"b.{form[:3]}"
    write_cut(source, target, shot, [tick / 1000 for tick in ticks[2:10]], fps=10, form=form, comment="")
    times = []
    with decoded(target, Span(), times=times) as (_, frames):
        assert np.array_equal(list(frames), FRAMES[2:10])
    assert times == pytest.approx([(tick - 80) / 1000 for tick in ticks[2:10]], abs=1e-3)


def test_names(tmp_path):
    def name(source, shot=PART, **more):
        return cut_path(tmp_path, source, shot, "mkv", **more).relative_to(tmp_path).as_posix()

    assert re.fullmatch(r"([0-9a-f]{2})/my-film-1-00000\.500-\1[0-9a-f]{14}\.mkv", name("x/My film (1).mp4"))
    others = [name("x/a.mp4"), name("y/a.mp4"), name("x/a.mp4", Shot(5, 13, 0.5, 1.3)), name("x/a.mp4", content="f00")]
    assert len(set(others)) == 4 and name("x/a.mp4") == others[0]
    hostile = name("../" + "\x1b[31m" + "ü" * 300 + "/..\\.mkv")
    assert re.fullmatch(r"[0-9a-f]{2}/[^/\\\x1b]{1,200}\.mkv", hostile)


def test_errors_leave_nothing(clip, tmp_path):
    odd = tmp_path / "odd.mkv"
    write_clip(odd, FRAMES[:, :47], 10)
    with pytest.raises(UsageError, match="even"):
        write_cut(odd, tmp_path / "cuts" / "b.mp4", PART, TIMES, fps=10, form="mp4", comment="")
    with pytest.raises(InputError, match="7 frames from 0.5 s to 1.2 s, 8 before"):
        write_cut(clip, tmp_path / "cuts" / "c.mkv", Shot(5, 13, 0.5, 1.2), TIMES, fps=10, form="mkv", comment="")
    assert list((tmp_path / "cuts").iterdir()) == []
    assert probe(clip).frames == 20
