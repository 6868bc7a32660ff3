"""Odd, foreign and damaged media: decoded properly or refused in one line."""

import io
import struct
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from cogvx.data import video
from cogvx.data.decode import decode
from cogvx.data.media import Limits
from cogvx.errors import InputError, MissingError, UsageError

RED = (255, 0, 0)


def flat(colour=RED, t=4, h=32, w=48):
    return np.broadcast_to(np.array(colour, dtype=np.uint8), (t, h, w, 3)).copy()


def smooth(t=17, h=64, w=96):
    y, x = np.mgrid[0:h, 0:w]
    frames = [
        (128 + 90 * np.sin(x / 9 + i / 3), 128 + 90 * np.cos(y / 7 + i / 5), 70 + 9 * i + 0 * x) for i in range(t)
    ]
    return np.moveaxis(np.array(frames), 1, 3).astype(np.uint8)


def encode(frames, *, codec="libx264", pixels="yuv420p", container="mp4", matrix=None, full=False, tagged=True, **more):
    """Encode as other programs do."""
    buffer = io.BytesIO()
    times = more.get("times", range(len(frames)))
    rate = more.get("rate", 8)
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
        if rotation := more.get("rotation"):
            stream.set_display_rotation(rotation)
        if tagged and matrix is not None:
            stream.codec_context.colorspace = int(matrix)
            stream.codec_context.color_range = int(ColorRange.JPEG if full else ColorRange.MPEG)
        for index, pixel in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixel, format="rgb24").reformat(
                format=pixels,
                dst_colorspace=matrix,
                dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            )
            frame.pts, frame.time_base = index, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {"matrix": Colorspace.ITU601, "tagged": False},
        {"matrix": Colorspace.ITU601},
        {"matrix": Colorspace.ITU709},
        {"matrix": Colorspace.ITU709, "full": True},
        {"matrix": Colorspace.ITU709, "pixels": "yuv420p10le"},
        {"matrix": Colorspace.ITU709, "pixels": "yuv444p"},
        {
            "pixels": "yuva420p",
            "codec": "libvpx-vp9",
            "container": "webm",
            "matrix": Colorspace.ITU601,
            "tagged": False,
        },
        {"codec": "mpeg4", "container": "avi", "matrix": Colorspace.ITU601, "tagged": False},
        {"codec": "ffv1", "container": "matroska", "pixels": "gbrp10le", "matrix": None},
    ],
)
def test_all_colours_become_the_same_rgb(options):
    for colour in (RED, (20, 230, 190), (250, 250, 250)):
        clip = video.read_clip(encode(flat(colour), **options))
        assert clip.frames.shape == (4, 32, 48, 3)
        assert np.abs(clip.frames.astype(int) - np.array(colour)).max() <= 5, clip.frames[0, 0, 0]


def test_colours_between_pixels_are_interpolated():
    decoded = video.read_clip(encode(smooth(3), matrix=Colorspace.ITU709)).frames
    assert np.abs(decoded.astype(int) - smooth(3)).mean() < 3


def test_odd_sizes():
    frames = video.read_clip(encode(flat(h=33, w=47), pixels="yuv444p", matrix=Colorspace.ITU709)).frames
    assert frames.shape == (4, 33, 47, 3)


def corners(h=32, w=64):
    """Red above green, blue right above, the rest black."""
    frame = np.zeros((h, w, 3), np.uint8)
    frame[: h // 2, : w // 2] = (255, 0, 0)
    frame[h // 2 :, : w // 2] = (0, 255, 0)
    frame[: h // 2, w // 2 :] = (0, 0, 255)
    return np.stack([frame] * 3)


def test_rotation_is_obeyed():
    # The matrix of a telephone held upright turns the picture clockwise: x to the right becomes y downwards.
    data = encode(corners(), matrix=Colorspace.ITU709)
    upright = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    place = data.index(identity, data.index(b"tkhd"))
    turned = data[:place] + upright + data[place + 36 :]
    frames = video.read_clip(turned).frames
    assert frames.shape == (3, 64, 32, 3)
    assert np.abs(frames.astype(int) - np.rot90(corners(), -1, axes=(1, 2))).mean() < 8
    info = video.probe(turned)
    assert (info.height, info.width) == (64, 32)


@pytest.mark.parametrize("angle", [90, 180, -90])
def test_rotation_as_ffmpeg_writes_it(angle):
    frames = video.read_clip(encode(corners(), matrix=Colorspace.ITU709, rotation=angle)).frames
    assert np.abs(frames.astype(int) - np.rot90(corners(), angle // 90, axes=(1, 2))).mean() < 8


@pytest.mark.parametrize("container", ["mp4", "matroska", "webm"])
def test_variable_rate_gives_the_average(container):
    codec = "libvpx-vp9" if container == "webm" else "libx264"
    data = encode(smooth(5), times=[0, 1, 2, 6, 7], rate=24, container=container, codec=codec)
    clip = video.read_clip(data)
    assert len(clip.frames) == 5 and clip.fps == pytest.approx(5 / (8 / 24), rel=0.01)
    assert len(video.read_clip(data, start=0.2).frames) == 2
    assert video.probe(data).frames == 5


def test_cover_pictures_and_sound_are_no_video():
    sound = io.BytesIO()
    with wave.open(sound, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(16000))
    with pytest.raises(InputError, match="cannot read standard input"):
        video.read_clip(sound.getvalue())
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=16000)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate, frame.pts = 16000, 0
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"no video stream \(it has audio only\)"):
        video.read_clip(buffer.getvalue())


@pytest.mark.parametrize("form", ["hls", "concat", "text", "pickle", "html"])
def test_what_is_no_clip(tmp_path, form):
    inner = tmp_path / "inner.mp4"
    video.write_clip(inner, flat(), 8)
    content = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{inner}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {inner}\n",
        "text": "hello\n" * 100,
        "pickle": "\x80\x04\x95",
        "html": "<html><body>404</body></html>",
    }[form]
    (tmp_path / "a.mp4").write_text(content)
    with pytest.raises(InputError, match=r"a\.mp4: ") as caught:
        video.read_clip(tmp_path / "a.mp4")
    assert "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    for name, reason in {
        "missing.mp4": "No such file",
        "fifo": "neither a file nor a folder",
        "empty.mp4": "the file is empty",
        "folder": "without images",
        "a\0b": "null",
    }.items():
        with pytest.raises(InputError, match=reason):
            video.read_clip(tmp_path / name)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".gif", ".webp"])
def test_cut_off_files_are_refused(suffix):
    data = video.encode_clip_bytes(smooth(), 8, suffix=suffix)
    for size in np.linspace(1, len(data) - 2, 25).astype(int):
        with pytest.raises(InputError):
            video.read_clip(data[:size])


def test_a_cut_off_mp4_says_what_is_missing():
    data = video.encode_clip_bytes(smooth(), 8)
    with av.open(io.BytesIO(data)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    with pytest.raises(InputError, match=r"decoded 12 of 17 frames \(file truncated\?\)"):
        video.read_clip(data[: places[12]])
    with pytest.raises(InputError, match="damaged at frame"):
        video.read_clip(data[: places[12] + 9])


def test_every_flipped_bit_of_ffv1_is_found():
    whole = video.encode_clip_bytes(smooth(5), 8, suffix=".mkv")
    random = np.random.default_rng(0)
    for place in random.integers(3000, len(whole) - 3000, 25):
        data = bytearray(whole)
        data[place] ^= 1 << random.integers(8)
        with pytest.raises(InputError):
            video.read_clip(bytes(data))


def mutants(data, count):
    """Flip, cut, zero, double and overwrite; a third near the start."""
    random = np.random.default_rng(0)
    for index in range(count):
        mutant = bytearray(data)
        place = int(random.integers(len(data) if index % 3 else min(len(data), 1200)))
        length = int(random.integers(1, 64))
        match index % 5:
            case 0:
                mutant[place] ^= 1 << random.integers(8)
            case 1:
                mutant[place : place + length] = bytes(length)
            case 2:
                mutant = mutant[:place]
            case 3:
                mutant[place:place] = mutant[place : place + length]
            case 4:
                mutant[place : place + length] = random.bytes(length)
        yield bytes(mutant)


def test_mutants_are_decoded_or_refused():
    data = video.encode_clip_bytes(smooth(), 8, comment="ü" * 50)
    whole = video.frames_sha256(video.read_clip(data).frames)
    silent = refused = 0
    for mutant in mutants(data, 60):
        try:
            frames = np.stack(list(decode(io.BytesIO(mutant))[1]))
            silent += video.frames_sha256(frames) != whole
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert silent <= 9 and refused >= 30


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mkv"])
def test_mutants_of_other_forms(suffix):
    data = video.encode_clip_bytes(smooth(5), 8, suffix=suffix, comment="ü" * 50)
    for mutant in mutants(data, 30):
        try:
            assert all(frame.dtype == np.uint8 for frame in decode(io.BytesIO(mutant))[1])
        except InputError:
            pass


def test_huge_frames_are_refused_before_decoding():
    data = encode(flat(h=64, w=64))
    with pytest.raises(InputError, match="64x64 exceed the limit of 4,000 pixels"):
        video.read_clip(data, limits=Limits(pixels=4000))
    with pytest.raises(InputError, match="more than the limit"):
        video.read_clip(data, limits=Limits(decoded_bytes=3 * 64 * 64 * 3))
    assert len(video.read_clip(data, max_frames=3, limits=Limits(decoded_bytes=3 * 64 * 64 * 3)).frames) == 3
    png = io.BytesIO()
    Image.new("L", (65535, 2000)).save(png, "PNG")
    with pytest.raises(InputError, match="65535x2000 exceed"):
        video.read_clip(png.getvalue())


@pytest.mark.parametrize("form", [".gif", ".webp"])
def test_animations_of_others(form):
    images = [Image.fromarray(frame) for frame in smooth(6, 32, 32)]
    buffer = io.BytesIO()
    images[0].save(buffer, form[1:], save_all=True, append_images=images[1:], duration=[100, 100, 200, 100, 100, 120])
    clip = video.read_clip(buffer.getvalue())
    assert clip.frames.shape == (6, 32, 32, 3) and clip.fps == pytest.approx(6 / 0.72)


def test_animated_png():
    images = [Image.fromarray(frame) for frame in smooth(4, 32, 32)]
    buffer = io.BytesIO()
    images[0].save(buffer, "PNG", save_all=True, append_images=images[1:], duration=125)
    clip = video.read_clip(buffer.getvalue())
    assert clip.fps == 8 and np.array_equal(clip.frames, smooth(4, 32, 32))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "I"])
def test_images_of_all_modes(tmp_path, mode):
    if mode.startswith("I"):
        image = Image.fromarray(np.full((8, 8), 65535, np.uint16 if mode == "I;16" else np.int32))
    else:
        image = Image.new("RGB", (8, 8), "white").convert(mode)
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "I") else "a.png")
    image.save(path)
    assert (video.read_image(path) == 255).all() and video.read_image(path).shape == (8, 8, 3)


def test_exif_orientation_is_obeyed(tmp_path):
    image = Image.fromarray(corners()[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(video.read_image(tmp_path / "a.png"), np.rot90(corners()[0], -1))


def test_folders_are_read_in_natural_order(tmp_path):
    for number in (10, 9, 1, 100):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.png").write_text("x")
    clip = video.read_clip(tmp_path)
    assert clip.frames[:, 0, 0, 0].tolist() == [1, 9, 10, 100] and clip.fps == video.DEFAULT_FPS
    Image.new("RGB", (5, 4)).save(tmp_path / "frame2.png")
    with pytest.raises(InputError, match=r"frame2\.png is 5x4"):
        video.read_clip(tmp_path)
    (tmp_path / "frame2.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(InputError, match=r"frame2\.png"):
        video.read_clip(tmp_path)
    (tmp_path / "frame2.png").unlink()
    for broken in ("{", "[" * 100_000, '{"fps": -1}', '{"fps": "x"}', "[]"):
        (tmp_path / "metadata.json").write_text(broken)
        with pytest.raises(InputError, match=r"metadata\.json"):
            video.read_clip(tmp_path)


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path):
    with pytest.raises(InputError) as caught:
        video.read_clip(tmp_path / "a\x1b]0;owned\x07.mp4")
    assert "\x1b" not in str(caught.value)


def test_metadata_that_is_no_unicode():
    data = video.encode_clip_bytes(flat(), 8, comment="abcdefgh").replace(b"abcdefgh", b"\xff\xfe\xfd\xfcefgh")
    assert video.read_clip(data).metadata["comment"].endswith("efgh")


def test_a_missing_encoder_is_named(tmp_path, monkeypatch):
    from cogvx.data import encode as module

    monkeypatch.setattr(module, "_MKV", module.Encoding("no_such_codec", "bgr0", "matroska"))
    with pytest.raises(MissingError, match="no_such_codec"):
        video.write_clip(tmp_path / "a.mkv", flat(), 8)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError):
        video.write_clip(tmp_path / "a.mp4", flat(h=32, w=47), 8)


@pytest.mark.parametrize("isolated", [True, False])
def test_the_times_of_frames(tmp_path, isolated):
    from films import film, timed_clip

    from cogvx.data.media import Span
    from cogvx.data.video import decoded, write_clip

    def times_of(path, **span):
        times = []
        with decoded(path, Span(**span), isolated=isolated, times=times) as (_, frames):
            for count, _ in enumerate(frames, 1):
                assert len(times) >= count
        assert len(times) == count
        return times

    ticks = [0, 40, 80, 90, 400, 500, 510]
    path = timed_clip(tmp_path / "a.mkv", film(7), ticks)
    assert times_of(path) == pytest.approx([tick / 1000 for tick in ticks])
    assert times_of(path, start=0.085, end=0.5) == pytest.approx([0.09, 0.4])
    for name in ("b.gif", "b.webp", "b/"):
        write_clip(tmp_path / name if name[-1] != "/" else f"{tmp_path}/b/", film(6), 10)
        assert times_of(tmp_path / name.strip("/")) == pytest.approx([i / 10 for i in range(6)])
        assert times_of(tmp_path / name.strip("/"), start=0.2, max_frames=2) == pytest.approx([0.2, 0.3])
