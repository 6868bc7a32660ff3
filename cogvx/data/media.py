"""What is known about a clip before its pixels, and how much of one may be decoded.

Imported by the process that decodes untrusted files: nothing heavy may be imported here.
"""

import dataclasses
import math
from dataclasses import dataclass, field

from cogvx.data.resample import TIME_TOLERANCE
from cogvx.errors import InputError, UsageError

DEFAULT_FPS = 8.0  # CogVideoX's own rate, for what names none: a single image, a folder without metadata.json


@dataclass(frozen=True)
class Limits:
    """What decoding one input may cost; more is an InputError.

    Attributes:
        decoded_bytes: Bytes of all RGB frames together.
        pixels: Width times height of a frame (default: 8K UHD fits).
        memory: Bytes of address space of the decoding process.
        cpu_seconds: Processor time of the decoding process.
        wall_seconds: Time that passes.
        stall_seconds: Time that passes without a new frame.
    """

    decoded_bytes: int = 4 << 30
    pixels: int = 1 << 25
    memory: int = 4 << 30
    cpu_seconds: int = 120
    wall_seconds: float = 300.0
    stall_seconds: float = 60.0


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Span:
    """Which frames of a clip are wanted: those with start <= time < end, of these the first max_frames.

    With a rate they are, of those with start <= time < end, the nearest to each moment of that rate, which begins at
    start; max_frames counts the moments.

    Attributes:
        start: Seconds from the first frame.
        end: Seconds from the first frame.
        max_frames: At most so many.
        rate: Frames per second (default: every frame of the clip).
    """

    start: float | None = None
    end: float | None = None
    max_frames: int | None = None
    rate: float | None = None

    def check(self) -> None:
        """Raise a UsageError unless the span can hold a frame."""
        start, end = self.start or 0.0, math.inf if self.end is None else self.end
        if not 0.0 <= start < end or not math.isfinite(start):
            raise UsageError(f"a clip cannot span from {self.start} s to {self.end} s: 0 <= start < end is needed")
        if self.max_frames is not None and self.max_frames < 1:
            raise UsageError(f"max_frames must be at least 1, got {self.max_frames}")
        if self.rate is not None and not 0.01 <= self.rate <= 1000:
            raise UsageError(f"fps must be from 0.01 to 1000, got {self.rate}")

    @property
    def whole(self) -> bool:
        """Whether it is the whole clip."""
        return self.start is None and self.end is None and self.max_frames is None

    def before(self, time: float) -> bool:
        """Whether a time in seconds lies before the span."""
        return self.start is not None and time < self.start - TIME_TOLERANCE

    def after(self, time: float) -> bool:
        """Whether a time in seconds lies after the span."""
        return self.end is not None and time >= self.end - TIME_TOLERANCE

    def count(self, frames: int, fps: float) -> int:
        """Return about how many of a clip's frames lie in the span."""
        start = (self.start or 0.0) * fps
        end = frames if self.end is None else min(frames, math.ceil(self.end * fps))
        count = max(0, math.ceil(end - start) if self.rate is None else math.ceil((end - start) * self.rate / fps))
        return count if self.max_frames is None else min(count, self.max_frames)


WHOLE = Span()


@dataclass(frozen=True)
class VideoInfo:
    """What a clip is.

    Attributes:
        frames: How many frames, as declared; from duration and rate where the file declares no count; 0 if unknown.
        fps: Frames per second; the average if the rate varies.
        width: Pixels, as displayed (after rotation).
        height: Pixels, as displayed (after rotation).
        duration: Seconds.
        codec: Such as "h264", "ffv1", "gif", "png".
        container: Such as "mp4", "matroska", "gif", "folder".
        metadata: The container's tags, names in lower case.
    """

    frames: int
    fps: float
    width: int
    height: int
    duration: float
    codec: str
    container: str
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def comment(self) -> str | None:
        """The comment tag, where cogvx says how a clip was made."""
        return self.metadata.get("comment")

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return dataclasses.asdict(self)


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise an InputError unless a frame of this size may be decoded."""
    if width < 1 or height < 1:
        raise InputError(f"the frames have no size ({width}x{height})")
    if width * height > limits.pixels:
        raise InputError(f"frames of {width}x{height} exceed the limit of {limits.pixels:,} pixels")


def check_bytes(frames: int, width: int, height: int, limits: Limits) -> None:
    """Raise an InputError if so many frames would exceed the limit of decoded bytes."""
    size = frames * width * height * 3
    if size > limits.decoded_bytes:
        raise InputError(
            f"{frames:,} frames of {width}x{height} take {size / 2**30:.1f} GiB decoded, more than the limit of "
            f"{limits.decoded_bytes / 2**30:.1f} GiB; read a part of the clip"
        )
