"""What is written comes back: pixels, rate, comment; and the tensors and sizes made of it."""

import hashlib
import io
import json
import os

import numpy as np
import pytest
import torch

from cogvx.data import video
from cogvx.errors import InputError, ShapeError, UsageError

LOSSLESS = [("a.mkv", False), ("frames", False), ("a.mp4", True), ("a.webm", True), ("a.webp", True)]
LOSSY = [("a.mp4", False), ("a.webm", False), ("a.gif", False), ("a.webp", False)]
COMMENT = json.dumps({"prompt": 'ü 猫 😀 <&>]]> "x"', "n": 1}, ensure_ascii=False)


def waves(t=5, h=32, w=48):
    """A smooth moving clip."""
    y, x = np.mgrid[0:h, 0:w]
    frames = [
        (128 + 90 * np.sin(x / 9 + i / 3), 128 + 90 * np.cos(y / 7 + i / 5), 100 + 9 * i + 0 * x) for i in range(t)
    ]
    return np.moveaxis(np.array(frames), 1, 3).astype(np.uint8)


@pytest.mark.parametrize(("name", "lossless"), LOSSLESS + LOSSY)
def test_round_trip(tmp_path, name, lossless):
    frames = waves()
    video.write_clip(tmp_path / name, frames, 8, comment=COMMENT, lossless=lossless)
    clip = video.read_clip(tmp_path / name)
    assert clip.frames.shape == frames.shape and clip.frames.dtype == np.uint8
    assert clip.fps == 8 and clip.metadata["comment"] == COMMENT
    error = np.abs(clip.frames.astype(int) - frames)
    assert error.max() == 0 if (name, lossless) in LOSSLESS else error.mean() < 4
    info = video.probe(tmp_path / name)
    assert (info.frames, info.fps, info.width, info.height, info.comment) == (5, 8, 48, 32, COMMENT)
    assert info.duration == pytest.approx(5 / 8)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (20, 230, 190)])
def test_flat_colours_survive(tmp_path, name, colour):
    frames = np.broadcast_to(np.array(colour, dtype=np.uint8), (3, 32, 32, 3))
    video.write_clip(tmp_path / name, frames, 8)
    assert np.abs(video.read_clip(tmp_path / name).frames.astype(int) - frames).max() <= 4


def test_mp4_is_what_players_expect(tmp_path):
    import av

    video.write_clip(tmp_path / "a.mp4", waves(), 8)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (1, 1, 1, 1)


def test_the_same_frames_give_the_same_bytes():
    from PIL import Image

    picture = Image.fromarray((np.random.default_rng(0).random((40, 60, 3)) * 255).astype(np.uint8))
    large = np.asarray(picture.resize((240, 160)))
    frames = np.stack([large[i : i + 64, 2 * i : 2 * i + 96] for i in range(17)])
    assert len({hashlib.sha256(video.encode_clip_bytes(frames, 8.0)).digest() for _ in range(24)}) == 1


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv", "a.gif", "a.webp", "frames"])
def test_long_comments_survive(tmp_path, name):
    comment = json.dumps({"prompt": "ü猫<\n" * 26_000}, ensure_ascii=False)
    assert len(comment.encode()) > 200_000
    video.write_clip(tmp_path / name, waves(2), 8, comment=comment)
    assert video.read_clip(tmp_path / name).metadata["comment"] == comment


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "a.webp", "frames"])
def test_a_clip_that_stands_still_keeps_its_frames(tmp_path, name):
    frames = np.repeat(waves(1), 17, axis=0)
    video.write_clip(tmp_path / name, frames, 8)
    clip = video.read_clip(tmp_path / name)
    assert len(clip.frames) == 17 and clip.fps == 8


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv", "a.gif", "a.webp", "frames"])
def test_one_frame(tmp_path, name):
    video.write_clip(tmp_path / name, waves(1), 8)
    assert video.read_clip(tmp_path / name).frames.shape == (1, 32, 48, 3)
    assert video.read_image(tmp_path / name).shape == (32, 48, 3)


@pytest.mark.parametrize("fps", [8, 10, 16, 24, 30, 23.976023976023978, 29.97002997002997, 12.5])
def test_rates(tmp_path, fps):
    for name in ("a.mp4", "a.mkv", "frames"):
        video.write_clip(tmp_path / name, waves(9), fps, overwrite=True)
        assert video.read_clip(tmp_path / name).fps == pytest.approx(fps, rel=1e-6)
    for name in ("a.gif", "a.webp"):
        video.write_clip(tmp_path / name, waves(9), fps, overwrite=True)
        assert video.read_clip(tmp_path / name).fps == pytest.approx(fps, rel=0.02)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e6])
def test_impossible_rates(tmp_path, fps):
    with pytest.raises(UsageError, match="fps"):
        video.write_clip(tmp_path / "a.mp4", waves(), fps)


def test_odd_sizes(tmp_path):
    odd = waves(3, 33, 47)
    for name in ("a.mp4", "a.webm"):
        with pytest.raises(UsageError, match="46x32"):
            video.write_clip(tmp_path / name, odd, 8)
    for name in ("a.mkv", "frames", "a.gif", "a.webp"):
        video.write_clip(tmp_path / name, odd, 8)
        assert video.read_clip(tmp_path / name).frames.shape == odd.shape
    video.write_clip(tmp_path / "a.mp4", odd, 8, lossless=True)
    assert np.array_equal(video.read_clip(tmp_path / "a.mp4").frames, odd)


def test_existing_outputs_are_kept(tmp_path):
    (tmp_path / "a.mp4").write_text("old")
    with pytest.raises(UsageError, match="--overwrite"):
        video.write_clip(tmp_path / "a.mp4", waves(), 8)
    assert (tmp_path / "a.mp4").read_text() == "old"
    video.write_clip(tmp_path / "frames", waves(), 8)
    with pytest.raises(UsageError, match="--overwrite"):
        video.write_clip(tmp_path / "frames", waves(), 8)
    video.write_clip(tmp_path / "frames", waves(2), 8, overwrite=True)
    assert len(video.read_clip(tmp_path / "frames").frames) == 2


def test_a_folder_with_other_things_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="other things"):
        video.write_clip(tmp_path, waves(), 8, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_devices_and_links(tmp_path):
    video.write_clip("/dev/null", waves(), 8)
    (tmp_path / "b.mkv").write_text("old")
    (tmp_path / "latest.mkv").symlink_to("b.mkv")
    with pytest.raises(UsageError, match="--overwrite"):
        video.write_clip(tmp_path / "latest.mkv", waves(), 8)
    video.write_clip(tmp_path / "latest.mkv", waves(), 8, overwrite=True)
    assert (tmp_path / "latest.mkv").is_symlink() and len(video.read_clip(tmp_path / "b.mkv").frames) == 5


def test_comments_that_are_no_unicode(tmp_path):
    for name in ("a.mp4", "a.gif", "a.webp", "a.mkv", "frames"):
        video.write_clip(tmp_path / name, waves(1), 8, comment="x\udcff")
        assert video.read_clip(tmp_path / name).metadata["comment"] == "x?"


def test_unknown_suffixes(tmp_path):
    with pytest.raises(UsageError, match=r"\.mp4"):
        video.write_clip(tmp_path / "a.xyz", waves(), 8)
    with pytest.raises(UsageError, match="lossless"):
        video.write_clip(tmp_path / "a.gif", waves(), 8, lossless=True)
    video.write_clip(str(tmp_path / "a.v2") + "/", waves(), 8)
    assert video.probe(tmp_path / "a.v2").container == "folder"


@pytest.mark.parametrize(
    "bad", [np.zeros((3, 4, 4, 3)), np.zeros((3, 4, 4), np.uint8), np.zeros((0, 4, 4, 3), np.uint8)]
)
def test_what_is_no_frames(tmp_path, bad):
    with pytest.raises(ShapeError, match="uint8"):
        video.frames_sha256(bad)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif"])
def test_bytes_instead_of_files(suffix):
    data = video.encode_clip_bytes(waves(), 8, suffix=suffix, comment=COMMENT)
    clip = video.read_clip(data)
    assert len(clip.frames) == 5 and clip.metadata["comment"] == COMMENT


def test_standard_input(monkeypatch):
    data = video.encode_clip_bytes(waves(), 8, suffix=".mkv")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert np.array_equal(video.read_clip("-").frames, waves())


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webp", "a.gif", "frames"])
def test_spans(tmp_path, name):
    frames = waves(17)
    video.write_clip(tmp_path / name, frames, 8, lossless=name in ("a.mp4", "a.webp"))
    whole = video.read_clip(tmp_path / name).frames
    for options, expected in (
        ({"max_frames": 3}, whole[:3]),
        ({"start": 0.5}, whole[4:]),
        ({"start": 0.51, "max_frames": 2}, whole[5:7]),
        ({"end": 0.5}, whole[:4]),
        ({"start": 1.0, "end": 1.25}, whole[8:10]),
        ({"start": 1.9, "end": 99.0}, whole[16:]),
    ):
        assert np.array_equal(video.read_clip(tmp_path / name, **options).frames, expected), options
    with pytest.raises(InputError, match="no frames between 5"):
        video.read_clip(tmp_path / name, start=5.0)


@pytest.mark.parametrize("options", [{"start": -1}, {"start": 2, "end": 1}, {"max_frames": 0}, {"start": float("nan")}])
def test_impossible_spans(options):
    with pytest.raises(UsageError):
        video.read_clip(b"", **options)


def test_iter_clip_yields_the_frames_one_by_one(tmp_path):
    video.write_clip(tmp_path / "a.mkv", waves(), 8)
    assert np.array_equal(np.stack(list(video.iter_clip(tmp_path / "a.mkv"))), waves())
    first = next(video.iter_clip(tmp_path / "a.mkv", start=0.25))
    assert np.array_equal(first, waves()[2])


def test_check_writable_knows_before_the_work(tmp_path):
    assert video.check_writable(tmp_path / "a.MP4", 32, 48) == ".mp4"
    assert video.check_writable(tmp_path / "frames", 33, 47) == ""
    assert video.check_writable("/dev/null", 33, 47) == ".mp4"
    with pytest.raises(UsageError, match="even"):
        video.check_writable(tmp_path / "a.mp4", 33, 47)


def test_frames_sha256_is_that_of_the_bytes():
    frames = waves()
    expected = hashlib.sha256(frames.tobytes()).hexdigest()
    assert video.frames_sha256(frames) == expected
    assert video.frames_sha256(np.asfortranarray(frames)) == expected


def test_tensors():
    frames = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    tensor = video.to_video(frames)
    assert tensor.shape == (3, 1, 16, 16) and tensor.dtype == torch.float32
    assert tensor.min() == -1 and tensor.max() == 1 and tensor.is_contiguous()
    assert np.array_equal(video.to_frames(tensor), frames)
    assert np.array_equal(video.to_frames(tensor * 2)[0, 0, 0], [0, 0, 0])
    assert video.to_frames(torch.full((3, 1, 1, 1), 0.5 / 127.5)).flat[0] == 128
    with pytest.raises(ShapeError):
        video.to_frames(torch.zeros(1, 3, 1, 4, 4))


def test_resizing_keeps_proportions_by_cutting():
    frames = np.zeros((2, 40, 100, 3), np.uint8)
    frames[:, :, :30] = (255, 0, 0)
    frames[:, :, 70:] = (0, 0, 255)
    frames[:, :, 30:70] = (0, 255, 0)
    assert video.resize_crop(frames, 20, 50).shape == (2, 20, 50, 3)
    square = video.resize_crop(frames, 40, 40)
    assert np.array_equal(square, frames[:, :, 30:70])
    assert (video.resize_crop(frames, 16, 16)[:, 4:-4, 4:-4] == (0, 255, 0)).all()
    squeezed = video.resize_exact(frames, 40, 40)
    assert (squeezed[0, 20, 4] == (255, 0, 0)).all() and (squeezed[0, 20, -4] == (0, 0, 255)).all()
    assert np.array_equal(video.resize_exact(frames, 40, 100), frames)
    with pytest.raises(UsageError):
        video.resize_crop(frames, 0, 8)
