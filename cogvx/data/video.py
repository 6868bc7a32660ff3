"""Clips in files <-> frames in memory <-> video tensors: the door to everything with pixels over time."""

import contextlib
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from cogvx.data.decode import decode
from cogvx.data.encode import METADATA_FILE, check_encoding, encode_folder, encode_video, encoding
from cogvx.data.encode_stills import encode_gif, encode_webp
from cogvx.data.isolate import decode_isolated
from cogvx.data.media import DEFAULT_FPS, DEFAULT_LIMITS, Limits, Span, VideoInfo
from cogvx.errors import InputError, ShapeError, UsageError
from cogvx.files import atomic_path, clean, is_device

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "DEFAULT_FPS",
    "Clip",
    "Limits",
    "VideoInfo",
    "check_writable",
    "decoded",
    "encode_clip_bytes",
    "frames_sha256",
    "iter_clip",
    "probe",
    "read_clip",
    "read_image",
    "resize_crop",
    "resize_exact",
    "to_frames",
    "to_video",
    "write_clip",
]

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv")
# For what is never in memory as a whole: only a decoder that stands still is stopped.
FILM_LIMITS = Limits(decoded_bytes=1 << 60, cpu_seconds=86400, wall_seconds=7 * 86400.0)
SUFFIXES = (*VIDEO_SUFFIXES, ".gif", ".webp")


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames and what their file said about them.

    Attributes:
        frames: uint8 (t h w 3), RGB.
        fps: Frames per second; the average if the rate varies.
        metadata: The container's tags, names in lower case; "comment" holds how cogvx made a clip, as JSON.
    """

    frames: np.ndarray
    fps: float
    metadata: dict[str, str] = field(default_factory=dict)


def read_clip(
    source: Path | str | bytes,
    *,
    max_frames: int | None = None,
    start: float | None = None,
    end: float | None = None,
    isolate: bool = True,
    limits: Limits = DEFAULT_LIMITS,
) -> Clip:
    """Read a clip: mp4, webm, mkv, avi, mov, …, GIF, WebP, PNG, JPEG, or a folder of images.

    Rotation tags are obeyed, alpha is dropped, deeper colours become 8 bits. Damage is an error, not a guess.

    Args:
        source: A path, "-" for standard input, or the bytes of a file.
        max_frames: Read at most so many.
        start: Seconds; the first frame not before it is the first one read.
        end: Seconds; frames from there on are not read.
        isolate: Decode in a process of its own, which a malicious file may crash. Turn off only for files that this
            process wrote.
        limits: What decoding may cost.

    Raises:
        InputError: It is missing, no clip, damaged, without frames in the span, or exceeds the limits.
        UsageError: The span is impossible.
    """
    with decoded(source, Span(start, end, max_frames), limits, isolated=isolate) as (info, frames):
        pixels = bytearray()
        for frame in frames:
            pixels += frame.reshape(-1).data
    array = np.frombuffer(pixels, dtype=np.uint8).reshape(-1, info.height, info.width, 3)
    return Clip(frames=array, fps=info.fps, metadata=info.metadata)


def iter_clip(
    source: Path | str | bytes,
    *,
    max_frames: int | None = None,
    start: float | None = None,
    end: float | None = None,
    limits: Limits = FILM_LIMITS,
) -> Iterator[np.ndarray]:
    """Yield a clip's frames, uint8 (h w 3), one by one: a long film needs the memory of one frame.

    Arguments and errors are those of read_clip; damage shows when the frame's turn comes.
    """
    with decoded(source, Span(start, end, max_frames), limits) as (_, frames):
        yield from frames


@contextlib.contextmanager
def decoded(
    source: Path | str | bytes,
    span: Span,
    limits: Limits = DEFAULT_LIMITS,
    *,
    isolated: bool = True,
    times: list[float] | None = None,
    motion: bool = False,
) -> Iterator[tuple[VideoInfo, Iterator[np.ndarray]]]:
    """Open any source for the block: what it is, and its frames of the span, uint8 (h w 3), as they are decoded.

    Errors are those of read_clip; every InputError gets the name of the source. For a span without a rate, `times` gets
    the time of each frame, in seconds from the clip's first one, before the frame is yielded. With `motion` there comes
    instead of each frame what its motion vectors say (see cogvx.data.decode_motion).
    """
    span.check()
    name = "standard input" if isinstance(source, bytes) or str(source) == "-" else clean(str(source))
    try:
        with _opened(source) as opened:
            if isolated:
                with decode_isolated(opened, span=span, limits=limits, times=times, motion=motion) as (info, frames):
                    yield info, frames
            else:
                yield decode(opened, span=span, limits=limits, times=times, motion=motion)
    except InputError as error:
        raise InputError(f"cannot read {name}: {clean(str(error))}") from error


def probe(source: Path | str | bytes, *, limits: Limits = DEFAULT_LIMITS) -> VideoInfo:
    """Return what a clip is, from its headers and its first frame.

    Raises:
        InputError: It is missing, no clip, damaged at its start, or exceeds the limits.
    """
    with decoded(source, Span(max_frames=1), limits) as (info, _):
        return info


def read_image(source: Path | str | bytes, *, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """Read an image as RGB, uint8 (h w 3), turned as its EXIF tag says; of a clip, its first frame.

    Alpha is dropped.

    Raises:
        InputError: It is missing, no image, damaged, or exceeds the limits.
    """
    return read_clip(source, max_frames=1, limits=limits).frames[0]


def write_clip(
    path: Path | str,
    frames: np.ndarray,
    fps: float,
    *,
    comment: str | None = None,
    lossless: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a clip, whole or not at all, in the form that its name asks for.

    .mp4 (H.264, yuv420p, index first), .webm (VP9), .gif, .webp; .mkv (FFV1) and a folder of PNGs (a name without
    suffix, or that ends in "/") keep every pixel, and so do the others but .gif if lossless is true.

    Args:
        path: The file or folder to make.
        frames: uint8 (t h w 3).
        fps: Frames per second.
        comment: Stored in the clip's comment tag, returned by read_clip as metadata["comment"].
        lossless: Keep every pixel.
        overwrite: Whether an existing file, or a folder of frames, is replaced.

    Raises:
        UsageError: The name, the size or the rate is impossible, or the path exists.
        MissingError: The disk is full, or the encoder is not here.
    """
    _check_frames(frames, fps)
    suffix = check_writable(path, frames.shape[1], frames.shape[2], lossless=lossless, overwrite=overwrite)
    if comment is not None:
        comment = comment.encode(
            "utf-8", "replace"
        ).decode()  # half surrogate pairs come with arguments that are no UTF-8
    with atomic_path(path, overwrite=overwrite) as temporary:
        if suffix == "":
            encode_folder(temporary, frames, fps, comment=comment)
        elif suffix == ".gif":
            temporary.write_bytes(encode_gif(frames, fps, comment=comment))
        elif suffix == ".webp":
            temporary.write_bytes(encode_webp(frames, fps, comment=comment, lossless=lossless))
        else:
            encode_video(temporary, frames, fps, how=encoding(suffix, lossless=lossless), comment=comment)


def check_writable(
    path: Path | str, height: int, width: int, *, lossless: bool = False, overwrite: bool = False
) -> str:
    """Check, before the work is done, that write_clip can write frames of this size to a path.

    Returns:
        The suffix that decides the form, in lower case; "" for a folder of PNGs, ".mp4" for a device or pipe.

    Raises:
        UsageError: The name or the size is impossible, or the path exists.
    """
    target = Path(path)
    suffix = "" if str(path).endswith(("/", os.sep)) or os.path.isdir(target) else target.suffix.lower()
    if is_device(target):
        return ".mp4"
    if suffix and suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"{clean(str(path))}: a clip ends in {known}; for a folder of PNGs end the name in /")
    if not suffix and os.path.isdir(target) and any(target.iterdir()):
        if not overwrite:
            raise UsageError(f"{target} exists; pass --overwrite to replace it")
        if not _is_frames_folder(target):
            raise UsageError(f"{target} is a folder with other things than frames in it; it is not replaced")
    elif suffix and not overwrite and os.path.lexists(target):
        raise UsageError(f"{target} exists; pass --overwrite to replace it")
    if suffix in VIDEO_SUFFIXES:
        check_encoding(encoding(suffix, lossless=lossless), height, width)
    if suffix == ".gif" and lossless:
        raise UsageError("a GIF has 256 colours a frame and cannot be lossless; use .mkv, .webp or a folder")
    return suffix


def encode_clip_bytes(
    frames: np.ndarray, fps: float, *, suffix: str = ".mp4", comment: str | None = None, lossless: bool = False
) -> bytes:
    """Return the bytes that write_clip would write to a file of this suffix, for standard output.

    Raises:
        UsageError: The suffix, the size or the rate is impossible.
        MissingError: The disk is full, or the encoder is not here.
    """
    if not suffix:
        raise UsageError("a folder of PNGs has no bytes of its own; choose a suffix")
    with tempfile.TemporaryDirectory(prefix="cogvx-") as folder:
        path = Path(folder, f"clip{suffix}")
        write_clip(path, frames, fps, comment=comment, lossless=lossless)
        return path.read_bytes()


def frames_sha256(frames: np.ndarray) -> str:
    """Return the sha256 of frames, uint8 (t h w 3) row-major: what reproducibility is promised on."""
    _check_frames(frames, 1.0)
    return hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()


def to_video(frames: np.ndarray) -> "Tensor":
    """Return frames, uint8 (t h w 3), as a video tensor, float32 (3 t h w) in [-1, 1]."""
    import torch
    from einops import rearrange

    _check_frames(frames, 1.0)
    pixels = torch.from_numpy(np.array(frames))
    return rearrange(pixels, "t h w c -> c t h w").to(torch.float32).div(255).mul(2).sub(1).contiguous()


def to_frames(video: "Tensor") -> np.ndarray:
    """Return a video tensor (3 t h w), clamped to [-1, 1], as frames, uint8 (t h w 3), rounded."""
    from einops import rearrange

    from cogvx.shapes import expect

    expect(video, "c t h w", "video", c=3)
    pixels = video.detach().cpu().float().mul(0.5).add(0.5).clamp(0, 1).mul(255).round()
    return np.ascontiguousarray(rearrange(pixels, "c t h w -> t h w c").byte().numpy())


def resize_crop(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize frames, uint8 (t h w 3), to cover a size, and cut off what sticks out on both sides (Lanczos)."""
    _check_frames(frames, 1.0)
    _, h, w, _ = frames.shape
    scale = max(height / h, width / w)
    cut_w, cut_h = (w - width / scale) / 2, (h - height / scale) / 2
    return _resize(frames, height, width, (cut_w, cut_h, w - cut_w, h - cut_h))


def resize_exact(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize frames, uint8 (t h w 3), to exactly a size, whatever that does to their proportions (Lanczos)."""
    _check_frames(frames, 1.0)
    _, h, w, _ = frames.shape
    return _resize(frames, height, width, (0.0, 0.0, float(w), float(h)))


def _resize(frames: np.ndarray, height: int, width: int, box: tuple[float, float, float, float]) -> np.ndarray:
    """Resize the part of each frame in a box (left, top, right, bottom)."""
    from PIL import Image

    if height < 1 or width < 1:
        raise UsageError(f"cannot resize to {width}x{height}")
    t, h, w, _ = frames.shape
    if (h, w) == (height, width):  # then the box is the whole frame
        return frames.copy()
    result = np.empty((t, height, width, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        image = Image.fromarray(np.ascontiguousarray(frame))
        result[index] = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box=box))
    return result


def _check_frames(frames: np.ndarray, fps: float) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ShapeError(f"frames: expected uint8 (t h w 3), got {frames.dtype} {tuple(frames.shape)}")
    if not 0.01 <= fps <= 1000:
        raise UsageError(f"fps must be from 0.01 to 1000, got {fps}")


def _is_frames_folder(folder: Path) -> bool:
    """Whether a folder holds nothing but what write_clip writes, so that it may be replaced."""
    return all(
        path.name == METADATA_FILE or (path.suffix == ".png" and path.stem.isdigit()) for path in folder.iterdir()
    )


@contextlib.contextmanager
def _opened(source: Path | str | bytes) -> Iterator[Path | IO[bytes]]:
    """Open a source: a file stays open for the block, a folder is only named."""
    opened: Path | IO[bytes]
    try:
        opened = _memory_file(source) if isinstance(source, bytes) or str(source) == "-" else _file(Path(source))
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise InputError(getattr(error, "strerror", None) or str(error)) from error
    if isinstance(opened, Path):
        yield opened
        return
    with opened:
        yield opened


def _file(path: Path) -> Path | IO[bytes]:
    """Open a file; a folder is returned as it is. Anything else could make the reader wait forever."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return path
    if not stat.S_ISREG(mode):
        raise InputError("neither a file nor a folder")
    return open(path, "rb")


def _memory_file(source: Path | str | bytes) -> IO[bytes]:
    """Return bytes, or else standard input, as a file that has a descriptor and can be searched."""
    file: IO[bytes]
    file = open(os.memfd_create("clip"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()
    if isinstance(source, bytes):
        file.write(source)
    else:
        shutil.copyfileobj(sys.stdin.buffer, file)
    file.seek(0)
    return file
