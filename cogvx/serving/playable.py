"""Clips in a form that browsers play: their own file where it is one, else a small mp4 made once and kept."""

import contextlib
import hashlib
import itertools
import os
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from cogvx.data.encode import Encoding, encode_stream
from cogvx.data.media import Limits, Span
from cogvx.data.video import decoded, read_image
from cogvx.errors import InputError
from cogvx.files import atomic_path, clean
from cogvx.serving.replies import Media

LONGEST_SECONDS = 120.0  # of a clip that is made playable; more is cut off
_MAX_SIDE = 640  # pixels
_MAX_FPS = 30.0
_VERSION = 1  # of what is made: older ones are not taken
_MP4 = Encoding("libx264", "yuv420p", "mp4", {"crf": "23", "preset": "veryfast"}, {"movflags": "+faststart"})
_LIMITS = Limits(decoded_bytes=1 << 60, cpu_seconds=600, wall_seconds=900.0)
# Suffix -> media type and where in the file which bytes stand; nothing else is handed out as it is.
_DIRECT = {
    ".mp4": ("video/mp4", 4, b"ftyp"),
    ".m4v": ("video/mp4", 4, b"ftyp"),
    ".webm": ("video/webm", 0, b"\x1a\x45\xdf\xa3"),
}


class PlayableClips:
    """Gives clips to browsers.

    Args:
        folder: Where what is made is kept; it may be removed at any time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._one_at_a_time = threading.Lock()  # making a clip takes a core; browsers ask for several

    def clip(self, path: Path, start: float | None = None, end: float | None = None, *, made: bool = False) -> Media:
        """Return a clip as a file that browsers play.

        Args:
            path: Its file.
            start: Seconds; where the clip begins in a file of its own form, the whole file is given.
            end: Seconds; where it ends.
            made: Make an mp4 in any case: the browser could not play the file itself. It holds only the part.

        Raises:
            InputError: The file cannot be read.
        """
        direct = None if made else _direct(path)
        if direct is not None:
            return Media(path, direct)
        target = self._place(path, (start, end), ".mp4")
        if not target.exists():
            with self._one_at_a_time:
                if not target.exists():
                    _make(path, target, Span(start, end))
        return Media(target, "video/mp4")

    def is_direct(self, path: Path) -> bool:
        """Whether browsers are given the file itself, in which a part has to be looked for."""
        return _direct(path) is not None

    def image(self, path: Path) -> Media:
        """Return an image as a PNG.

        Raises:
            InputError: The file cannot be read.
        """
        from PIL import Image

        target = self._place(path, (), ".png")
        if not target.exists():
            with self._one_at_a_time:
                picture = Image.fromarray(read_image(path))
                picture.thumbnail((2 * _MAX_SIDE, 2 * _MAX_SIDE))
                with atomic_path(target) as temporary:
                    picture.save(temporary, format="PNG")
        return Media(target, "image/png")

    def _place(self, path: Path, part: tuple[float | None, ...], suffix: str) -> Path:
        try:
            about = os.stat(path)
        except OSError as error:
            raise InputError(f"cannot read {clean(str(path))}: {error.strerror}") from error
        name = repr((_VERSION, os.path.realpath(path), about.st_size, about.st_mtime_ns, part))
        return self.folder / f"{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}{suffix}"


def _direct(path: Path) -> str | None:
    """Return the media type of a file that browsers play as it is; what it holds decides, beside its name."""
    known = _DIRECT.get(path.suffix.lower())
    if known is None:
        return None
    media_type, place, mark = known
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return media_type if file.read(16)[place : place + len(mark)] == mark else None
    return None


def _make(path: Path, target: Path, span: Span) -> None:
    """Write a small mp4 of a clip's part, frame by frame."""
    with decoded(path, span, _LIMITS) as (info, frames):
        fps = min(max(float(info.fps), 1.0), 240.0)
        step = max(1, round(fps / _MAX_FPS))
        kept = itertools.islice(frames, 0, max(1, int(LONGEST_SECONDS * fps)), step)
        scale = min(1.0, _MAX_SIDE / max(info.width, info.height))
        height, width = (max(2, 2 * round(side * scale / 2)) for side in (info.height, info.width))
        rate = float(Fraction(fps / step).limit_denominator(1001))
        with atomic_path(target) as temporary:
            encode_stream(temporary, _resized(kept, height, width), (height, width), rate, how=_MP4)


def _resized(frames: Iterator[np.ndarray], height: int, width: int) -> Iterator[np.ndarray]:
    from PIL import Image

    for frame in frames:
        if frame.shape[:2] != (height, width):
            frame = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
        yield np.ascontiguousarray(frame)
