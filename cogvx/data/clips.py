"""Clips as training takes them: at one rate, of one size, of a legal length."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cogvx.data.buckets import FRAME_PERIOD, Media, fit, legal_frames
from cogvx.data.media import DEFAULT_LIMITS, Limits, Span
from cogvx.data.resample import count_at_rate
from cogvx.data.video import decoded, probe, resize_crop
from cogvx.errors import InputError, UsageError
from cogvx.files import clean

_SLACK = 0.5  # seconds that a header may promise too much: it may speak of the sound

Request = TypeVar("Request")
Result = TypeVar("Result")


def read_clip(
    source: Path | str | bytes,
    *,
    num_frames: int,
    fps: float,
    height: int,
    width: int,
    start: float | None = None,
    end: float | None = None,
    pad: bool = False,
    frame_period: int = FRAME_PERIOD,
    limits: Limits = DEFAULT_LIMITS,
) -> np.ndarray:
    """Read a clip as training takes it: uint8 (t h w 3), RGB.

    For each moment of the rate, the frame nearest in time by the file's own timestamps; resized with antialiasing
    (Lanczos) to cover the size, cropped at the centre. A clip that is too short comes out at the longest legal length
    that it fills. It is decoded in a process of its own, which a malicious file may crash.

    Args:
        source: A path or the bytes of a file; an image is a clip of one frame.
        num_frames: Most frames, a legal length.
        fps: Frames per second.
        height: Pixels.
        width: Pixels.
        start: Seconds; frames before it are not used, and it is the first moment.
        end: Seconds; frames from there on are not used.
        pad: Whether the last frame of a clip that is too short is repeated up to num_frames.
        frame_period: Legal lengths are k times this, plus 1.
        limits: What decoding may cost.

    Raises:
        InputError: It is missing, no clip, damaged, cut off, or without frames in the span.
        UsageError: num_frames, the size or the span is impossible.
    """
    if num_frames < 1 or legal_frames(num_frames, frame_period) != num_frames:
        raise UsageError(f"{num_frames} frames are not possible: it must be {frame_period}k + 1")
    with decoded(source, Span(start, end, num_frames, fps), limits) as (info, frames):
        kept = [resize_crop(frame[None], height, width)[0] for frame in frames]
    stop = info.duration if end is None else min(end, info.duration)
    promised = count_at_rate(stop - (start or 0.0) - _SLACK, info.fps, fps)
    if len(kept) < min(num_frames, promised):
        name = "standard input" if isinstance(source, bytes) or str(source) == "-" else clean(str(source))
        raise InputError(
            f"cannot read {name}: it holds {len(kept)} frames at {fps:g} fps where its header promises {promised} "
            "(file truncated?)"
        )
    if pad:
        kept += kept[-1:] * (num_frames - len(kept))
    return np.stack(kept[: legal_frames(len(kept), frame_period)])


def read_fitting(
    source: Path | str | bytes,
    *,
    sizes: Sequence[tuple[int, int]],
    max_frames: int,
    fps: float,
    start: float | None = None,
    end: float | None = None,
) -> np.ndarray:
    """Read a clip at the one of some sizes (height, width) whose shape is nearest, however small the clip is.

    Args:
        source: See read_clip, as for what follows.
        sizes: Pixels.
        max_frames: Most frames; a shorter clip comes out at the longest legal length that it fills.
        fps: Frames per second.
        start: Seconds.
        end: Seconds.

    Raises:
        InputError: It cannot be read, or has nothing in the span.
        UsageError: The span is impossible.
    """
    info = probe(source)
    stop = info.duration if end is None else min(end, info.duration)
    seconds = 0.0 if info.frames == 1 else max(0.0, stop - (start or 0.0))
    media = Media(info.width, info.height, seconds, info.fps)
    shape = fit(media, sizes=sizes, max_frames=max_frames, fps=fps, max_upscale=math.inf)
    if shape is None:
        name = "standard input" if isinstance(source, bytes) or str(source) == "-" else clean(str(source))
        raise InputError(f"{name}: a clip of {info.width}x{info.height} has no pixels to look at")
    length, height, width = shape.num_frames, shape.height, shape.width
    return read_clip(source, num_frames=length, fps=fps, height=height, width=width, start=start, end=end)


def media_of(entry: Mapping[str, Any], path: Path) -> Media:
    """Return what decides the size and length that a manifest's entry is trained at.

    What the entry itself says is taken; the file is looked at if that is not enough.

    Args:
        entry: Of a manifest, with "video" or "image".
        path: Its file.

    Raises:
        InputError: The file cannot be read, or the entry's part lies behind its end.
    """
    width, height, fps = (entry.get(field) for field in ("width", "height", "fps"))
    start, end = entry.get("start"), entry.get("end")
    if "video" not in entry and width and height:
        return Media(int(width), int(height))
    known = width and height and fps
    if known and start is not None and end is not None:
        return Media(int(width), int(height), end - start, float(fps))  # type: ignore[arg-type]
    whole = entry.get("duration") or (entry.get("num_frames", 0) / fps if fps else None)
    if known and start is None and end is None and whole:
        still = entry.get("num_frames") == 1
        return Media(int(width), int(height), *(() if still else (float(whole), float(fps))))  # type: ignore[arg-type]
    info = probe(path)
    if info.frames == 1 or "video" not in entry:
        return Media(info.width, info.height)
    stop = info.duration if end is None else min(float(end), info.duration)
    if start is not None and start >= stop:
        raise InputError(f"{clean(str(path))}: it starts at {start} s of a file that lasts {info.duration:.2f} s")
    return Media(info.width, info.height, stop - float(start or 0.0), info.fps)


def read_ahead(
    requests: Iterable[Request], read: Callable[[Request], Result], *, num_workers: int, depth: int | None = None
) -> Iterator[Result]:
    """Yield read(request) for each request in order, the next ones being read meanwhile.

    Threads are enough, since clips are decoded in processes of their own.

    Args:
        requests: What to read; taken only as far as needed.
        read: Reads one.
        num_workers: Threads; 0 reads each when its turn comes.
        depth: Most that are read and not yet taken (default: two for each thread).
    """
    if num_workers < 1:
        yield from map(read, requests)
        return
    waiting: list[Future[Result]] = []
    most = depth or 2 * num_workers
    with ThreadPoolExecutor(num_workers, thread_name_prefix="read") as pool, contextlib.ExitStack() as stack:
        stack.callback(lambda: [future.cancel() for future in waiting])
        for request in requests:
            waiting.append(pool.submit(read, request))
            if len(waiting) > most:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
