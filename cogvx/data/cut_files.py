"""Parts of clips as files of their own, with exactly the frames that the part has."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from cogvx.data.encode import check_encoding, encode_stream, encoding
from cogvx.data.media import Span
from cogvx.data.shots import Shot
from cogvx.data.video import FILM_LIMITS, decoded
from cogvx.errors import InputError
from cogvx.files import atomic_path, clean, output_name

CutForm = Literal["mkv", "mp4", "mp4-lossless"]
_REGULAR = 2e-3  # seconds that a frame may be early or late in a clip of one rate: files round their timestamps


def cut_path(folder: Path, name: str, shot: Shot, form: CutForm, *, content: str = "") -> Path:
    """Return where the file of a part goes: FOLDER/ab/name-of-the-clip-00012.345-<16 digits>.mkv.

    The digits tell apart parts of clips that have the same name in different folders; the first two name one of 256
    folders, so that millions of files do not lie in one.

    Args:
        folder: Of all such files.
        name: The clip's path in the manifest.
        shot: The part.
        form: Of the file.
        content: What tells the clip from another one of the same path, such as its sha256.
    """
    suffix = "." + form.partition("-")[0]
    key = "\0".join([name, content, repr(shot.start), repr(shot.end), form])
    digits = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    words = output_name(Path(name).stem, 0, "")[:-9]
    return folder / digits[:2] / f"{words}-{shot.start:09.3f}-{digits}{suffix}"


def write_cut(
    source: Path, target: Path, shot: Shot, times: Sequence[float], *, fps: float, form: CutForm, comment: str
) -> None:
    """Write a part of a clip to a file, whole or not at all; its sound is left out.

    Args:
        source: The clip.
        target: The file.
        shot: The part.
        times: Seconds at which each of its frames is shown in the clip.
        fps: Frames per second of the clip.
        form: mkv keeps every pixel (FFV1), mp4 is H.264 of high quality, mp4-lossless is H.264 that keeps every pixel.
        comment: For the file's comment tag.

    Raises:
        InputError: The clip cannot be decoded, or has other frames there than before.
        UsageError: The size cannot be encoded so, or the file cannot be written.
        MissingError: The disk is full, or the encoder is not here.
    """
    how = encoding(target.suffix, lossless=form.endswith("lossless"))
    regular = all(abs(time - times[0] - i / fps) <= _REGULAR for i, time in enumerate(times))
    span = Span(shot.start, shot.end)
    count = 0

    def counted(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        nonlocal count
        for frame in frames:
            count += 1
            if count > shot.num_frames:
                return
            yield frame

    with decoded(source, span, FILM_LIMITS) as (info, frames), atomic_path(target) as temporary:
        check_encoding(how, info.height, info.width)
        encode_stream(
            temporary,
            counted(frames),
            (info.height, info.width),
            fps,
            how=how,
            comment=comment,
            times=None if regular else times,
        )
        if count != shot.num_frames:
            raise InputError(
                f"{clean(str(source))}: {count} frames from {shot.start} s to {shot.end} s, {shot.num_frames} before"
            )
