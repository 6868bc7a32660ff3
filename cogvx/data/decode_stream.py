"""Videos through FFmpeg's libraries, strictly: what is damaged is an error, not a guess.

Runs in the process that decodes untrusted files: nothing heavy may be imported here.
"""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import IO, Any

import numpy as np

from cogvx.data.decode_motion import export_vectors, motion_lengths
from cogvx.data.media import Limits, Span, VideoInfo, check_bytes, check_size
from cogvx.data.resample import nearest
from cogvx.errors import InputError

Complaints = Callable[[], list[str]]
# Self-contained files only: playlists (hls, dash, concat) would name further files or hosts.
_DEMUXERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,ivf,nut,mxf,dv,rm,h264,hevc,av1,obu,yuv4mpegpipe"
)
_OPEN = {"format_whitelist": _DEMUXERS, "protocol_whitelist": ""}
_MAX_SCAN = 64 << 20  # bytes of a file that is read twice to know its rate
# FFmpeg conceals damage unless told otherwise: without this a third of mutated mp4s decode to wrong pixels silently.
_STRICT = "crccheck+bitstream+buffer+explode"
# bicubic, accurate_rnd, full_chroma_int (numbers of libswscale): without the last, colours are repeated rather than
# interpolated between pixels, and the mean error of a smooth clip is seven times as large.
_INTERPOLATION = 0x4 | 0x40000 | 0x2000


# What FFmpeg calls an error though the pictures are right: cut or broadcast streams have it at their first frames.
_HARMLESS = re.compile(r"mmco: unref|co located POCs unavailable|non-existing [SP]PS")


def decode_stream(
    file: IO[bytes],
    *,
    span: Span,
    limits: Limits,
    complaints: Complaints | None = None,
    times: list[float] | None = None,
    motion: bool = False,
) -> tuple[VideoInfo, Iterator[np.ndarray]]:
    """Open a video and decode its first frame.

    Args:
        file: The file, seekable.
        span: Which frames.
        limits: What may be decoded.
        complaints: Returns what FFmpeg has logged as errors since the last call. Some damage it only logs: a wrong
            checksum of FFV1, the early end of a Matroska file.
        times: Gets the time of each frame in seconds, just before the frame is yielded; only without a rate.
        motion: Give instead of each frame the lengths of its motion vectors (see cogvx.data.decode_motion).

    Returns:
        What the video is, and its frames, uint8 (h w 3) each.

    Raises:
        InputError: It is no video, is damaged, or exceeds the limits.
    """
    import av

    complaints = complaints or list
    try:
        container: Any = av.open(file, metadata_errors="replace", container_options=_OPEN)
        stream = _video_stream(container)
        context = stream.codec_context
        if context is None:
            raise InputError("no decoder for its video")
        context.options = {"err_detect": _STRICT, "max_pixels": str(limits.pixels)}
        stream.thread_type = "AUTO"
        context.thread_count = 4
        check_size(context.width, context.height, limits)
        if motion:
            export_vectors(context)
        position = file.tell()
        declared, fps = _declared(container, stream, file)
        file.seek(position)  # FFmpeg does not know that somebody else has read
        check_bytes(span.count(declared, fps or 1.0), context.width, context.height, limits)
        frames = _frames(container, stream, span=span, fps=fps, complaints=complaints, times=times, motion=motion)
        first = next(frames, None)
    except InputError:
        raise
    except Exception as error:
        raise _input_error(error) from error
    if first is None:
        length = f" (it lasts {declared / fps:.2f} s)" if fps and declared else ""
        raise InputError("no frames" if span.whole else f"no frames between {span.start} s and {span.end} s{length}")
    if fps is None:
        if declared > 1:
            raise InputError("the video does not say its frame rate")
        fps = 1.0  # a single frame
    info = VideoInfo(
        frames=declared,
        fps=fps,
        width=context.width if motion else first.shape[1],
        height=context.height if motion else first.shape[0],
        duration=declared / fps,
        codec=context.name if context.codec is None else context.codec.canonical_name,
        container=container.format.name.split(",")[0].replace("mov", "mp4"),
        metadata={key.lower(): value for key, value in (stream.metadata | container.metadata).items()},
    )
    return info, _checked(first, frames, span=span, limits=limits)


def _video_stream(container: Any) -> Any:
    """Return the first video stream that is not a cover picture."""
    import av

    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise InputError(f"no video stream (it has {kinds} only)" if kinds != "nothing" else "no video stream")
    return streams[0]


def _declared(container: Any, stream: Any, file: IO[bytes]) -> tuple[int, float | None]:
    """Return the number of frames and their average rate; 0 and None where nothing tells them."""
    rate = next((rate for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate), None)
    fps = float(rate) if rate is not None and 0 < rate <= 10_000 else None
    seconds = _seconds(container, stream)
    frames, counted = stream.frames, _scan(file, stream.index)
    if counted is not None:
        frames, seconds = frames or counted[0], counted[1]
    shown = frames if counted is None else counted[0]
    if shown > 1 and seconds and (fps is None or abs(shown / seconds / fps - 1) > 0.01):
        fps = shown / seconds  # the rate varies: what the header names is that of the first frames
    if not frames and fps is not None and seconds:
        frames = round(seconds * fps)
    return max(frames, 0), fps


def _scan(file: IO[bytes], index: int) -> tuple[int, float] | None:
    """Count a file's frames, and their seconds, without decoding them; None where that fails."""
    import av

    size = file.seek(0, 2)
    file.seek(0)
    if size > _MAX_SCAN:
        return None
    try:
        container: Any = av.open(file, metadata_errors="replace", container_options=_OPEN)
        with container:
            stream = container.streams[index]
            packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
            # VP8 has packets that show nothing, of the same time as the next one.
            durations = {packet.pts: packet.duration for packet in packets if packet.pts is not None}
            times = sorted(durations)
            last = durations[times[-1]] or times[-1] - times[-2]
            return len(times), float((times[-1] - times[0] + last) * stream.time_base)
    except Exception:  # what is wrong shows when it is decoded
        return None
    finally:
        file.seek(0)


def _seconds(container: Any, stream: Any) -> float | None:
    """Return the duration of the video that the headers give."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska: 00:00:06.125000000, of this stream alone
    parts = tag.split(":")
    if len(parts) == 3 and all(part.replace(".", "", 1).isdigit() for part in parts):
        return int(parts[0]) * 3600 + int(parts[1]) * 60 + float(parts[2])
    return container.duration / 1_000_000 if container.duration else None


def _frames(
    container: Any,
    stream: Any,
    *,
    span: Span,
    fps: float | None,
    complaints: Complaints,
    times: list[float] | None,
    motion: bool,
) -> Iterator[np.ndarray]:
    """Decode the frames of the span to RGB, uint8 (h w 3) each, or to lengths of motion."""
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    timed = _timed_frames(container, stream, span=span, fps=fps, complaints=complaints)
    frames = _untimed(timed, times) if span.rate is None else nearest(timed, rate=span.rate, origin=span.start)
    last, rgb = None, np.empty(0)
    for kept, frame in enumerate(frames, start=1):
        if frame is not last:  # a source slower than the rate gives frames again
            last, rgb = frame, motion_lengths(frame) if motion else _to_rgb(frame, reformatter)
        yield rgb
        if kept == span.max_frames:
            return


def _untimed(timed: Iterator[tuple[float, float, Any]], times: list[float] | None) -> Iterator[Any]:
    for time, _, frame in timed:
        if times is not None:
            times.append(time)
        yield frame


def _timed_frames(
    container: Any, stream: Any, *, span: Span, fps: float | None, complaints: Complaints
) -> Iterator[tuple[float, float, Any]]:
    """Decode the frames of the span's time, each with its time and how long it is shown (0 if unknown), in seconds.

    At the end of a clip that was decoded from its start, their number is compared with the declared one.
    """
    origin = (stream.start_time or 0) * stream.time_base
    if span.start:
        container.seek(int((Fraction(span.start) + origin) / stream.time_base), stream=stream, backward=True)
    complaints()  # of other streams, while the file was opened
    discarded = 0
    times: list[float] = []
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise InputError(f"damaged at frame {len(times)}")
        discarded += bool(packet.is_discard)  # cut away by an edit list: counted by the header, never shown
        for frame in packet.decode():
            if frame.is_corrupt:
                raise InputError(f"damaged at frame {len(times)}")
            time = float(frame.pts * stream.time_base - origin) if frame.pts is not None else len(times) / (fps or 1.0)
            times.append(time)
            if span.before(time):
                complaints()  # a cut into the middle starts without the pictures before it
                continue
            if span.after(time):
                return
            _check_complaints(complaints, len(times) - 1)
            yield time, float((getattr(frame, "duration", 0) or 0) * stream.time_base), frame
    if span.start is None and span.end is None:
        _check_complete(container, stream, times=times, discarded=discarded)
    _check_complaints(complaints, len(times))


def _check_complaints(complaints: Complaints, frame: int) -> None:
    """Raise an InputError if FFmpeg has logged an error."""
    for line in complaints():
        if not _HARMLESS.search(line):
            raise InputError(f"damaged at frame {frame}: {re.sub(r' @ 0x[0-9a-f]+', '', line).strip()}")


def _check_complete(container: Any, stream: Any, *, times: list[float], discarded: int) -> None:
    """Raise an InputError if fewer frames were decoded than the headers declare, or less time."""
    if stream.frames:
        wanted = stream.frames - discarded
        if len(times) < wanted:
            raise InputError(f"decoded {len(times)} of {wanted} frames (file truncated?)")
        return
    seconds = _seconds(container, stream)
    if seconds is None or len(times) < 2:
        return
    steps = np.diff(sorted(times))
    step = float(np.median(steps))
    # The duration of the stream itself is exact, unless the rate varies; that of the file may be another stream's.
    exact = "DURATION" in stream.metadata and float(np.ptp(steps)) < 0.003
    if times[-1] + step + (step / 2 if exact else 3 * step + 0.5) < seconds:
        raise InputError(f"decoded {times[-1] + step:.3f} of {seconds:.3f} seconds (file truncated?)")


def _to_rgb(frame: Any, reformatter: Any) -> np.ndarray:
    """Convert a decoded frame to RGB, uint8 (h w 3), turned as it is to be shown."""
    rgb = reformatter.reformat(frame, format="rgb24", interpolation=_INTERPOLATION).to_ndarray()
    turns = round(frame.rotation / 90) % 4  # counter-clockwise, as np.rot90 turns
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def _checked(first: np.ndarray, frames: Iterator[np.ndarray], *, span: Span, limits: Limits) -> Iterator[np.ndarray]:
    """Pass the frames on, as long as they are of one size and within the limits."""
    height, width = first.shape[:2]
    count = 1
    yield first
    while True:
        try:
            frame = next(frames, None)
        except InputError:
            raise
        except Exception as error:
            raise _input_error(error, count) from error
        if frame is None:
            return
        count += 1
        if frame.shape != first.shape:
            raise InputError(f"the size changes from {width}x{height} to {frame.shape[1]}x{frame.shape[0]}")
        check_bytes(count, width, height, limits)
        yield frame


def _input_error(error: Exception, frame: int | None = None) -> InputError:
    """Say in one line what FFmpeg found."""
    if isinstance(error, MemoryError):
        return InputError("decoding needs more memory than the limit")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return InputError(f"damaged at frame {frame}: {reason}" if frame is not None else f"not a video: {reason}")
