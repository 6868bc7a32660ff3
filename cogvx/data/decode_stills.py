"""Images, animated images and folders of images through Pillow.

Runs in the process that decodes untrusted files: nothing heavy may be imported here.
"""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np

from cogvx.data.media import DEFAULT_FPS, Limits, Span, VideoInfo, check_bytes, check_size
from cogvx.data.resample import nearest
from cogvx.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

Frame = TypeVar("Frame")
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif")
_MAGIC = re.compile(rb"GIF8|\x89PNG|\xff\xd8\xff|RIFF....WEBP|BM|II\*\0|MM\0\*|P[56][\s#]|....ftypavi[fs]", re.DOTALL)


def is_still(head: bytes) -> bool:
    """Whether a file that begins with these bytes (16 are enough) is for Pillow."""
    return _MAGIC.match(head) is not None


def decode_image(file: IO[bytes], *, limits: Limits) -> np.ndarray:
    """Decode one image to RGB, uint8 (h w 3), turned as its EXIF tag says.

    Alpha is dropped, as diffusers' load_image does; of an animation, the first frame is taken.

    Raises:
        InputError: It is no image, is damaged, or exceeds the limits.
    """
    from PIL import ImageOps

    try:
        with _open(file, limits) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except Exception as error:
        raise _input_error(error) from error


def decode_animation(
    file: IO[bytes], *, span: Span, limits: Limits, times: list[float] | None = None
) -> tuple[VideoInfo, Iterator[np.ndarray]]:
    """Decode a GIF, animated WebP or animated PNG; a still image is a clip of one frame.

    Args:
        file: The file, seekable.
        span: Which frames.
        limits: What may be decoded.
        times: Gets the time of each frame in seconds; only without a rate.

    Returns:
        What the clip is, and its frames, uint8 (h w 3) each.

    Raises:
        InputError: It is no image, is damaged, or exceeds the limits.
    """
    from PIL import ImageOps

    times = [] if times is None else times
    try:
        if not _complete(file):
            raise InputError("the GIF is cut off")
        with _open(file, limits) as image:
            count = getattr(image, "n_frames", 1) if image.format in ("GIF", "WEBP", "PNG", "AVIF") else 1
            comment = _comment(image)
            codec = str(image.format).lower()
            if count == 1:
                frames, fps = [_to_rgb(ImageOps.exif_transpose(image))], DEFAULT_FPS
                times.append(0.0)
            else:
                frames, fps = _animation(image, count, span=span, limits=limits, times=times)
    except InputError:
        raise
    except Exception as error:
        raise _input_error(error) from error
    if not frames:
        raise InputError(f"no frames between {span.start} s and {span.end} s (it lasts {count / fps:.2f} s)")
    height, width, _ = frames[0].shape
    metadata = {} if comment is None else {"comment": comment}
    return VideoInfo(count, fps, width, height, count / fps, codec, codec, metadata), iter(frames)


def decode_folder(
    folder: Path, *, span: Span, limits: Limits, times: list[float] | None = None
) -> tuple[VideoInfo, Iterator[np.ndarray]]:
    """Decode a folder of images, in the natural order of their names (2 before 10).

    Its rate and comment come from metadata.json, which write_clip puts beside the frames.

    Args:
        folder: The folder; subfolders and hidden files are passed over.
        span: Which frames.
        limits: What may be decoded.
        times: Gets the time of each frame in seconds; only without a rate.

    Returns:
        What the clip is, and its frames, uint8 (h w 3) each.

    Raises:
        InputError: There is no image, one is damaged or of another size, or the limits are exceeded.
    """
    paths = sorted((path for path in folder.iterdir() if _is_frame(path)), key=_natural)
    if not paths:
        raise InputError("a folder without images")
    fps, metadata = _folder_metadata(folder / "metadata.json")
    timed = [(i / fps, 1 / fps, path) for i, path in enumerate(paths)]
    timed = [one for one in timed if not span.before(one[0]) and not span.after(one[0])]
    if times is not None:
        times += [time for time, _, _ in timed][: span.max_frames]
    chosen = [path for _, _, path in timed] if span.rate is None else list(_at_rate(timed, span))
    chosen = chosen[: span.max_frames]
    if not chosen:
        raise InputError(f"no frames between {span.start} s and {span.end} s (it lasts {len(paths) / fps:.2f} s)")
    first = _folder_frame(chosen[0], limits)
    height, width, _ = first.shape
    check_bytes(len(chosen), width, height, limits)
    codec = chosen[0].suffix[1:].lower()
    info = VideoInfo(len(paths), fps, width, height, len(paths) / fps, codec, "folder", metadata)

    def frames() -> Iterator[np.ndarray]:
        yield first
        for path in chosen[1:]:
            frame = _folder_frame(path, limits)
            if frame.shape != first.shape:
                sizes = f"{frame.shape[1]}x{frame.shape[0]}, the first one {width}x{height}"
                raise InputError(f"its images differ in size: {path.name} is {sizes}")
            yield frame

    return info, frames()


def _open(file: IO[bytes], limits: Limits) -> "Image.Image":
    """Open an image and check its size before anything is decoded."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the limits decide; Pillow's own would only warn
    image = Image.open(file, formats=_FORMATS)
    check_size(*image.size, limits)
    return image


def _complete(file: IO[bytes]) -> bool:
    """Whether a GIF has its end mark: cut off between two frames, it would only seem shorter."""
    magic = file.read(4)
    size = file.seek(0, 2)
    file.seek(max(0, size - 4096))
    tail = file.read().rstrip(b"\0\r\n ")
    file.seek(0)
    return magic != b"GIF8" or tail.endswith(b";")


def _to_rgb(image: "Image.Image") -> np.ndarray:
    """Convert an image of any mode to RGB, uint8 (h w 3)."""
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey, which Pillow would clip instead of scale
        grey = np.asarray(image).astype(np.float64)
        grey = (np.clip(grey, 0, 65535) * (255 / 65535)).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(image.convert("RGB"))


def _animation(
    image: "Image.Image", count: int, *, span: Span, limits: Limits, times: list[float]
) -> tuple[list[np.ndarray], float]:
    """Decode the frames of the span, and find the average rate of the whole."""
    unit = 10 if image.format == "GIF" else 1  # milliseconds that durations are multiples of
    timed: list[tuple[float, float, np.ndarray]] = []
    total = 0.0
    limit = span.max_frames if span.rate is None else None
    for index in range(count):
        image.seek(index)
        image.load()
        wanted = not span.before(total / 1000) and not span.after(total / 1000)
        shown = float(image.info.get("duration") or 100)  # browsers show frames without a duration for 100 ms
        if wanted and (limit is None or len(timed) < limit):
            check_bytes(len(timed) + 1, *image.size, limits)
            timed.append((total / 1000, shown / 1000, _to_rgb(image)))
            if timed[-1][2].shape != timed[0][2].shape:
                raise InputError("its frames differ in size")
        total += shown
    frames = [frame for _, _, frame in timed] if span.rate is None else list(_at_rate(timed, span))
    times += [time for time, _, _ in timed]
    fps = count * 1000 / total
    whole = max(round(fps), 1)  # 8 per second cannot be said in hundredths: it comes out as 8.007
    return frames, float(whole) if abs(count * 1000 / whole - total) <= unit / 2 else fps


def _at_rate(timed: list[tuple[float, float, Frame]], span: Span) -> Iterator[Frame]:
    """Yield what is nearest to each moment of the span's rate."""
    assert span.rate is not None
    return itertools.islice(nearest(timed, rate=span.rate, origin=span.start), span.max_frames)


def _comment(image: "Image.Image") -> str | None:
    """Return the comment that write_clip stores: a GIF comment, XMP of a WebP, text of a PNG."""
    comment: Any = image.info.get("comment") or image.info.get("Comment")
    if comment is None and image.info.get("xmp"):
        comment = _from_xmp(image.info["xmp"])
    return comment.decode(errors="replace") if isinstance(comment, bytes) else comment


def _from_xmp(packet: bytes) -> str | None:
    """Return dc:description of an XMP packet; found by pattern, as XML parsers open doors to attacks."""
    from xml.sax.saxutils import unescape

    found = re.search(rb"<dc:description>.*?<rdf:li[^>]*>(.*?)</rdf:li>", packet, re.DOTALL)
    return unescape(found[1].decode(errors="replace"), {"&#13;": "\r"}) if found else None


def _is_frame(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a key that sorts the numbers in a name by value."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part.lower()) for part in parts]


def _folder_frame(path: Path, limits: Limits) -> np.ndarray:
    try:
        with open(path, "rb") as file:
            return decode_image(file, limits=limits)
    except (InputError, OSError) as error:
        raise InputError(f"{path.name}: {getattr(error, 'strerror', None) or error}") from error


def _folder_metadata(path: Path) -> tuple[float, dict[str, str]]:
    """Return the rate and the tags that metadata.json gives."""
    if not path.is_file():
        return DEFAULT_FPS, {}
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        fps = float(fields.get("fps", DEFAULT_FPS))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path.name}: {error}") from error
    if not 0 < fps <= 10_000:
        raise InputError(f"{path.name}: fps must be a positive number, got {fps}")
    return fps, {key: value for key, value in fields.items() if isinstance(value, str)}


def _input_error(error: Exception) -> InputError:
    """Say in one line what Pillow found."""
    from PIL import UnidentifiedImageError

    if isinstance(error, MemoryError):
        return InputError("decoding needs more memory than the limit")
    if isinstance(error, UnidentifiedImageError):  # its text holds the address of an object
        return InputError("not an image")
    return InputError(f"damaged image: {error or type(error).__name__}")
