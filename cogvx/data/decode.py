"""Any clip to RGB frames, in this process: what the isolated decoder runs.

Runs in the process that decodes untrusted files: nothing heavy may be imported here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from cogvx.data.decode_stills import decode_animation, decode_folder, is_still
from cogvx.data.decode_stream import Complaints, decode_stream
from cogvx.data.media import DEFAULT_LIMITS, WHOLE, Limits, Span, VideoInfo
from cogvx.errors import InputError


def decode(
    source: Path | IO[bytes],
    *,
    span: Span = WHOLE,
    limits: Limits = DEFAULT_LIMITS,
    complaints: Complaints | None = None,
    times: list[float] | None = None,
    motion: bool = False,
) -> tuple[VideoInfo, Iterator[np.ndarray]]:
    """Decode a clip of any kind; what it is follows from its first bytes, not from its name.

    A damaged file can crash FFmpeg and with it the process: untrusted files go through cogvx.data.isolate instead.

    Args:
        source: An open file, seekable, or the path of a folder of images.
        span: Which frames.
        limits: What may be decoded.
        complaints: Returns what FFmpeg has logged as errors since the last call, where that is caught.
        times: Gets the time of each frame, in seconds from the clip's first one, at the latest when the frame is
            yielded; only for a span without a rate.
        motion: Give instead of each frame its lengths of motion vectors (see cogvx.data.decode_motion); none of a clip
            that has no such vectors.

    Returns:
        What the clip is (the whole of it), and the frames of the span, uint8 (h w 3) each.

    Raises:
        InputError: It cannot be decoded, is damaged, or exceeds the limits. May come while the frames are taken.
    """
    if isinstance(source, Path):
        if motion:
            return decode_folder(source, span=Span(max_frames=1), limits=limits)[0], iter(())
        return decode_folder(source, span=span, limits=limits, times=times)
    head = source.read(16)
    source.seek(0)
    if not head:
        raise InputError("the file is empty")
    if is_still(head):
        if motion:
            return decode_animation(source, span=Span(max_frames=1), limits=limits)[0], iter(())
        return decode_animation(source, span=span, limits=limits, times=times)
    return decode_stream(source, span=span, limits=limits, complaints=complaints, times=times, motion=motion)
