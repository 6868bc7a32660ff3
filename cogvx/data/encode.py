"""RGB frames to clips: mp4, webm, mkv through FFmpeg's libraries, folders of PNG."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from cogvx.errors import MissingError, UsageError

METADATA_FILE = "metadata.json"
# bicubic, accurate_rnd, full_chroma_inp (numbers of libswscale): the mean of two pixels' colours, not one of them.
_INTERPOLATION = 0x4 | 0x40000 | 0x4000
_TIME_BASE = Fraction(1, 90_000)  # seconds, where frames have times of their own


@dataclass(frozen=True)
class Encoding:
    """How frames become a video.

    Attributes:
        codec: FFmpeg's name of the encoder.
        pixel_format: FFmpeg's name; formats that hold RGB lose nothing.
        options: Of the encoder.
        muxer: FFmpeg's name of the container.
        muxer_options: Of the container.
    """

    codec: str
    pixel_format: str
    muxer: str
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    muxer_options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def subsampled(self) -> bool:
        """Whether two rows and columns share a colour, so that sizes must be even."""
        return self.pixel_format == "yuv420p"


_FASTSTART = {"movflags": "+faststart"}
# CRF 17 is visually lossless; "lossless" keeps RGB, which not every player shows.
# Without macroblock trees the same frames give the same bytes every time: with them x264's fast code does not.
_SAME_BYTES = {"x264-params": "mbtree=0"}
_MP4 = Encoding("libx264", "yuv420p", "mp4", {"crf": "17", "preset": "medium", **_SAME_BYTES}, _FASTSTART)
_MP4_LOSSLESS = Encoding("libx264rgb", "rgb24", "mp4", {"qp": "0", "preset": "medium"}, _FASTSTART)
_WEBM = Encoding("libvpx-vp9", "yuv420p", "webm", {"crf": "20", "b": "0", "row-mt": "1", "cpu-used": "4"})
_WEBM_LOSSLESS = Encoding("libvpx-vp9", "gbrp", "webm", {"lossless": "1", "row-mt": "1", "cpu-used": "4"})
_MKV = Encoding("ffv1", "bgr0", "matroska", {"level": "3", "slicecrc": "1", "g": "1"})


def encoding(suffix: str, *, lossless: bool = False) -> Encoding:
    """Return how a video of this suffix (".mp4", ".webm", ".mkv") is encoded."""
    table = {
        ".mp4": _MP4_LOSSLESS if lossless else _MP4,
        ".webm": _WEBM_LOSSLESS if lossless else _WEBM,
        ".mkv": _MKV,
    }
    return table[suffix]


def check_encoding(how: Encoding, height: int, width: int) -> None:
    """Raise a UsageError if frames of this size cannot be encoded so."""
    if how.subsampled and (height % 2 or width % 2):
        even = f"{max(width - width % 2, 2)}x{max(height - height % 2, 2)}"
        raise UsageError(
            f"{how.muxer} needs an even width and height, got {width}x{height}: "
            f"use {even}, or .mkv, which takes any size"
        )


def encode_video(path: Path, frames: np.ndarray, fps: float, *, how: Encoding, comment: str | None = None) -> None:
    """Encode frames to a video file.

    Args:
        path: The file; not atomic.
        frames: uint8 (t h w 3).
        fps: Frames per second.
        how: See encoding.
        comment: For the container's comment tag.

    Raises:
        UsageError: The size cannot be encoded so.
        MissingError: This build of PyAV has no such encoder.
    """
    encode_stream(path, frames, frames.shape[1:3], fps, how=how, comment=comment)


def encode_stream(
    path: Path,
    frames: Iterable[np.ndarray],
    size: tuple[int, ...],
    fps: float,
    *,
    how: Encoding,
    comment: str | None = None,
    times: Sequence[float] | None = None,
) -> None:
    """Encode frames to a video file as they come, so that a long film needs the memory of a few.

    Args:
        path: The file; not atomic.
        frames: uint8 (h w 3) each.
        size: Their height and width.
        fps: Frames per second.
        how: See encoding.
        comment: For the container's comment tag.
        times: Seconds at which each frame is shown, from the first one's on, where the rate varies.

    Raises:
        UsageError: The size cannot be encoded so.
        MissingError: This build of PyAV has no such encoder.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

    height, width = size
    check_encoding(how, height, width)
    rate = Fraction(fps).limit_denominator(1001)  # 23.976 is 24000/1001
    time_base = 1 / rate if times is None else _TIME_BASE
    with av.open(str(path.absolute()), "w", format=how.muxer, container_options=dict(how.muxer_options)) as container:
        if comment is not None:
            container.metadata["comment"] = comment
        try:
            stream: Any = container.add_stream(how.codec, rate=rate, options=dict(how.options))
        except (av.codec.codec.UnknownCodecError, ValueError) as error:
            raise MissingError(f"PyAV has no encoder {how.codec} here: pip install av") from error
        stream.width, stream.height, stream.pix_fmt = width, height, how.pixel_format
        if times is not None:
            stream.time_base = stream.codec_context.time_base = time_base
        if how.subsampled:  # players assume other colours for untagged videos, by their size
            context = stream.codec_context
            context.color_primaries = context.color_trc = context.colorspace = int(Colorspace.ITU709)
            context.color_range = int(ColorRange.MPEG)
        reformatter = VideoReformatter()
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if how.subsampled:
                frame = reformatter.reformat(
                    frame,
                    format=how.pixel_format,
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                    interpolation=_INTERPOLATION,
                )
            elif how.pixel_format != "rgb24":
                frame = reformatter.reformat(frame, format=how.pixel_format)
            frame.pts = index if times is None else round((times[index] - times[0]) / time_base)
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def encode_folder(folder: Path, frames: np.ndarray, fps: float, *, comment: str | None = None) -> None:
    """Write frames as 00000.png … into a new folder, with metadata.json (fps, comment) beside them."""
    import imageio.v3 as iio

    folder.mkdir()
    digits = max(5, len(str(len(frames) - 1)))
    for index, frame in enumerate(frames):
        iio.imwrite(folder / f"{index:0{digits}}.png", frame, plugin="pillow", extension=".png", compress_level=3)
    fields: dict[str, float | str] = {"fps": float(fps)} | ({} if comment is None else {"comment": comment})
    (folder / METADATA_FILE).write_text(json.dumps(fields, ensure_ascii=False) + "\n", encoding="utf-8")
