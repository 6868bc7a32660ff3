"""Clips as training takes them, from files of other rates, sizes and kinds."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from cogvx.data import clips, video
from cogvx.data.buckets import Media
from cogvx.data.clips import media_of, read_ahead, read_clip
from cogvx.errors import InputError, UsageError

SIZE = {"height": 32, "width": 48}


def numbered(num_frames, height=32, width=48):
    """Frames whose brightness is their number."""
    return np.stack([np.full((height, width, 3), 2 * i, dtype=np.uint8) for i in range(num_frames)])


def numbers(frames):
    return [round(float(frame.mean()) / 2) for frame in frames]


def lossless(path, frames, *, ticks=None, rate=1000, shown=None):
    """Write FFV1 whose frame i is shown at ticks[i] / rate seconds."""
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("ffv1", rate=rate)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "bgr0"
        stream.time_base = Fraction(1, rate)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = ticks[index], Fraction(1, rate)
            for packet in stream.encode(frame):
                out.mux(packet)
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".gif", ".webp", ""])
def test_every_second_frame(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    video.write_clip(f"{path}{'' if suffix else '/'}", numbered(33), 20, lossless=suffix != ".gif")
    frames = read_clip(path, num_frames=17, fps=10, **SIZE)
    assert frames.dtype == np.uint8 and numbers(frames) == list(range(0, 33, 2))
    assert numbers(read_clip(path, num_frames=9, fps=10, **SIZE)) == list(range(0, 17, 2))
    part = read_clip(path, num_frames=17, fps=10, start=0.5, end=1.4, **SIZE)
    assert numbers(part) == list(range(10, 27, 2))


def test_a_varying_rate_is_taken_by_its_timestamps(tmp_path):
    ticks = [0, 40, 80, 90, 100, 400, 500, 510, 900, 1000, 1020, 1200]
    path = lossless(tmp_path / "a.mkv", numbered(12), ticks=ticks)
    wanted = [min(range(12), key=lambda i: (abs(ticks[i] - 125 * moment), i)) for moment in range(9)]
    assert numbers(read_clip(path, num_frames=9, fps=8, **SIZE)) == wanted


def test_a_source_that_is_slower_gives_frames_again(tmp_path):
    video.write_clip(tmp_path / "a.mkv", numbered(9), 4)
    assert numbers(read_clip(tmp_path / "a.mkv", num_frames=17, fps=8, **SIZE)) == [i // 2 for i in range(17)]


def test_short_clips_have_a_shorter_legal_length_and_are_filled_only_if_asked(tmp_path):
    video.write_clip(tmp_path / "a.mkv", numbered(20), 8)
    assert len(read_clip(tmp_path / "a.mkv", num_frames=49, fps=8, **SIZE)) == 17
    padded = read_clip(tmp_path / "a.mkv", num_frames=49, fps=8, pad=True, **SIZE)
    assert numbers(padded) == [*range(20), *[19] * 29]
    video.write_clip(tmp_path / "b.mkv", numbered(3), 8)
    assert len(read_clip(tmp_path / "b.mkv", num_frames=49, fps=8, **SIZE)) == 1


def test_the_aspect_is_kept_and_the_centre_too(tmp_path):
    wide = np.zeros((9, 64, 256, 3), dtype=np.uint8)
    wide[:, :, 96:160] = 255  # the square in the middle
    video.write_clip(tmp_path / "a.mkv", wide, 8)
    frames = read_clip(tmp_path / "a.mkv", num_frames=9, fps=8, height=32, width=32)
    assert frames.shape == (9, 32, 32, 3) and frames.min() > 230
    frames = read_clip(tmp_path / "a.mkv", num_frames=9, fps=8, height=32, width=64)
    assert frames[:, :, :14].max() < 5 and frames[:, :, 18:46].min() > 250 and frames[:, :, 50:].max() < 5


def test_fine_patterns_become_grey_instead_of_false_ones(tmp_path):
    y, x = np.mgrid[0:256, 0:384]
    checks = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    Image.fromarray(checks).save(tmp_path / "a.png")
    frames = read_clip(tmp_path / "a.png", num_frames=1, fps=8, height=30, width=45)
    assert abs(frames.astype(int) - 127).max() < 12


def test_images_are_clips_of_one_frame(tmp_path):
    Image.fromarray(numbered(6)[5]).save(tmp_path / "a.png")
    frames = read_clip(tmp_path / "a.png", num_frames=17, fps=8, **SIZE)
    assert numbers(frames) == [5]
    assert media_of({"image": "a.png"}, tmp_path / "a.png") == Media(48, 32)
    assert media_of({"video": "a.png"}, tmp_path / "a.png") == Media(48, 32)


def test_a_file_that_ends_early_is_an_error(tmp_path):
    video.write_clip(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 255, (40, 32, 48, 3), dtype=np.uint8), 8)
    whole = (tmp_path / "a.mp4").read_bytes()
    assert len(read_clip(whole, num_frames=33, fps=8, **SIZE)) == 33
    with pytest.raises(InputError, match="standard input"):
        read_clip(whole[: len(whole) // 2], num_frames=33, fps=8, **SIZE)


def test_fewer_frames_than_the_header_says(tmp_path, monkeypatch):
    video.write_clip(tmp_path / "a.mkv", numbered(17), 8)
    real = clips.decoded

    class Cut:
        def __init__(self, *arguments, **settings):
            self.inner = real(*arguments, **settings)

        def __enter__(self):
            info, frames = self.inner.__enter__()
            return info, (frame for _, frame in zip(range(9), frames, strict=False))

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

    monkeypatch.setattr(clips, "decoded", Cut)
    with pytest.raises(InputError, match=r"a\.mkv: it holds 9 frames at 8 fps where its header promises 13"):
        read_clip(tmp_path / "a.mkv", num_frames=17, fps=8, **SIZE)


@pytest.mark.parametrize("num_frames", [0, 8, 16])
def test_only_legal_lengths(num_frames):
    with pytest.raises(UsageError, match=r"8k \+ 1"):
        read_clip(b"", num_frames=num_frames, fps=8, **SIZE)


def test_media_from_the_manifest_or_from_the_file(tmp_path):
    path = tmp_path / "a.mkv"
    video.write_clip(path, numbered(40), 16)
    nowhere = tmp_path / "missing.mkv"
    known = {"video": "a.mkv", "width": 48, "height": 32, "fps": 16}
    assert media_of({"video": "a.mkv"}, path) == Media(48, 32, 2.5, 16)
    assert media_of(known | {"duration": 2.5}, nowhere) == Media(48, 32, 2.5, 16)
    assert media_of(known | {"num_frames": 40}, nowhere) == Media(48, 32, 2.5, 16)
    assert media_of(known | {"start": 1, "end": 2, "duration": 9}, nowhere) == Media(48, 32, 1, 16)
    assert media_of({"video": "a.mkv", "start": 1}, path) == Media(48, 32, 1.5, 16)
    assert media_of({"video": "a.mkv", "end": 99}, path) == Media(48, 32, 2.5, 16)
    assert media_of({"image": "a.png", "width": 48, "height": 32}, nowhere) == Media(48, 32)
    with pytest.raises(InputError, match="starts at 5 s"):
        media_of({"video": "a.mkv", "start": 5}, path)
    with pytest.raises(InputError, match="No such file"):
        media_of({"video": "a.mkv"}, nowhere)


@pytest.mark.parametrize("num_workers", [0, 1, 4])
def test_read_ahead_keeps_the_order(num_workers):
    assert list(read_ahead(range(20), lambda i: i * i, num_workers=num_workers)) == [i * i for i in range(20)]


def test_read_ahead_takes_only_what_is_needed_and_raises_in_place():
    taken = []

    def requests():
        for i in range(100):
            taken.append(i)
            yield i

    def read(i):
        if i == 3:
            raise InputError("bad")
        return i

    got = []
    with pytest.raises(InputError, match="bad"):
        for value in read_ahead(requests(), read, num_workers=2):
            got.append(value)
    assert got == [0, 1, 2] and len(taken) < 12


def test_bytes_are_read_too():
    buffer = io.BytesIO()
    Image.fromarray(numbered(8)[7]).save(buffer, "PNG")
    assert numbers(read_clip(buffer.getvalue(), num_frames=1, fps=8, **SIZE)) == [7]
