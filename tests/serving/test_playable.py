"""Clips in forms that browsers play: handed out as they are, or made once."""

import numpy as np
import pytest

from cogvx.data.video import probe, read_clip, write_clip
from cogvx.errors import InputError
from cogvx.serving.playable import PlayableClips

FRAMES = (np.arange(16, dtype=np.uint8)[:, None, None, None] * 15 + np.zeros((1, 40, 60, 3), np.uint8)).astype(np.uint8)


def write(folder, name, frames=FRAMES, fps=8.0, **how):
    write_clip(folder / name, frames, fps, **how)
    return folder / name


def test_what_browsers_play_is_the_file_itself(tmp_path):
    clips = PlayableClips(tmp_path / "cache")
    for name, media_type in (("a.mp4", "video/mp4"), ("a.webm", "video/webm")):
        path = write(tmp_path, name)
        media = clips.clip(path, start=0.5, end=1.0)
        assert (media.path, media.media_type) == (path, media_type) and clips.is_direct(path)
    assert not (tmp_path / "cache").exists()


def test_a_name_alone_makes_no_clip(tmp_path):
    path = tmp_path / "page.mp4"
    path.write_text("<html><script>alert(1)</script></html>")
    clips = PlayableClips(tmp_path / "cache")
    assert not clips.is_direct(path)
    with pytest.raises(InputError, match="page.mp4"):
        clips.clip(path)
    with pytest.raises(InputError, match="none.mkv"):
        clips.clip(tmp_path / "none.mkv")


def test_others_are_made_once_and_again_when_they_change(tmp_path):
    clips = PlayableClips(tmp_path / "cache")
    path = write(tmp_path, "a.mkv")
    media = clips.clip(path)
    info = probe(media.path)
    assert (media.media_type, info.codec, info.width, info.height, info.frames) == ("video/mp4", "h264", 60, 40, 16)
    assert np.abs(read_clip(media.path).frames.astype(int) - FRAMES).max() < 12
    made = media.path.stat().st_mtime_ns
    assert clips.clip(path) == media and media.path.stat().st_mtime_ns == made
    path.unlink()
    write(tmp_path, "a.mkv", FRAMES[:8])
    assert probe(clips.clip(path).path).frames == 8


def test_a_part_has_a_file_of_its_own(tmp_path):
    clips = PlayableClips(tmp_path / "cache")
    path = write(tmp_path, "a.mp4")
    part = clips.clip(path, start=0.5, end=1.0, made=True)
    assert part.path != path and probe(part.path).frames == 4
    assert abs(int(read_clip(part.path).frames[0].mean()) - 60) < 6


def test_large_fast_and_odd_clips_become_small(tmp_path):
    clips = PlayableClips(tmp_path / "cache")
    wide = write(tmp_path, "wide.mkv", np.zeros((2, 33, 1281, 3), np.uint8), 60.0)
    info = probe(clips.clip(wide).path)
    assert (info.width, info.height, info.frames) == (640, 16, 1)


def test_images_become_pngs(tmp_path):
    clips = PlayableClips(tmp_path / "cache")
    write(tmp_path, "a.webp", FRAMES[:1], lossless=True)
    media = clips.image(tmp_path / "a.webp")
    assert media.media_type == "image/png" and media.path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert np.array_equal(read_clip(media.path).frames, FRAMES[:1]) and clips.image(tmp_path / "a.webp") == media
