"""RGB frames to animated GIF and WebP.

The images are compressed by Pillow, the containers are written here: Pillow merges equal frames into one that is shown
longer, and then a clip that stands still comes back with fewer frames.
"""

import io
import struct
from collections.abc import Iterator
from xml.sax.saxutils import escape

import numpy as np

from cogvx.errors import UsageError

_MAX_WEBP_SIDE = 16383
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
    '<rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>'
)


def encode_gif(frames: np.ndarray, fps: float, *, comment: str | None = None) -> bytes:
    """Encode frames as an animated GIF that repeats forever, each frame with 256 colours of its own.

    Times are whole hundredths of a second; they are rounded such that the clip as a whole keeps its rate.

    Args:
        frames: uint8 (t h w 3).
        fps: Frames per second, at most 50 (players slow down what is faster).
        comment: For the comment extension, as UTF-8.

    Raises:
        UsageError: The rate or the size is impossible in a GIF.
    """
    from PIL import GifImagePlugin, Image

    _, height, width, _ = frames.shape
    if fps > 50:
        raise UsageError(f"a GIF shows at most 50 frames per second, got {fps:g}")
    if max(width, height) > 65535:
        raise UsageError(f"a GIF has at most 65535 pixels a side, got {width}x{height}")
    parts = [b"GIF89a", struct.pack("<HHBBB", width, height, 0x70, 0, 0)]  # no colours shared by all frames
    parts.append(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
    if comment is not None:
        text = comment.encode()
        blocks = [text[start : start + 255] for start in range(0, len(text), 255)]
        parts.append(b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\x00")
    for frame, time in zip(frames, _durations(len(frames), fps, 100), strict=True):
        image = Image.fromarray(frame)
        # Every fourth pixel is enough to choose the colours; dithering then keeps the mean, without bands in the sky.
        small = image.resize((max(width // 4, 1), max(height // 4, 1)), Image.Resampling.NEAREST)
        palette = (small if width * height > 1 << 16 else image).quantize(256, method=Image.Quantize.FASTOCTREE)
        image = image.quantize(256, palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        parts.append(struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 0, time, 0, 0))
        parts += GifImagePlugin.getdata(image, include_color_table=True)
    parts.append(b";")
    return b"".join(parts)


def encode_webp(frames: np.ndarray, fps: float, *, comment: str | None = None, lossless: bool = False) -> bytes:
    """Encode frames as an animated WebP that repeats forever.

    Args:
        frames: uint8 (t h w 3).
        fps: Frames per second; times are whole milliseconds.
        comment: For dc:description in the XMP packet.
        lossless: Keep every pixel.

    Raises:
        UsageError: The size is impossible in a WebP.
    """
    from PIL import Image

    _, height, width, _ = frames.shape
    if max(width, height) > _MAX_WEBP_SIDE:
        raise UsageError(f"a WebP has at most {_MAX_WEBP_SIDE} pixels a side, got {width}x{height}")
    size = _uint24(width - 1) + _uint24(height - 1)
    flags = 0x02 | (0x04 if comment is not None else 0)  # animation, XMP
    chunks = [_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size), _chunk(b"ANIM", struct.pack("<IH", 0, 0))]
    for frame, time in zip(frames, _durations(len(frames), fps, 1000), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "WEBP", lossless=lossless, quality=90, method=2 if lossless else 4)
        pixels = b"".join(_chunk(name, data) for name, data in _chunks(buffer.getvalue()) if name in (b"VP8 ", b"VP8L"))
        # At offset 0, shown for so long, not blended with the frame before.
        chunks.append(_chunk(b"ANMF", bytes(6) + size + _uint24(time) + b"\x02" + pixels))
    if comment is not None:
        # XML has no control characters but these three, and reads "\r" as "\n" unless written so.
        text = escape("".join(c for c in comment if c >= " " or c in "\t\n\r"), {"\r": "&#13;"})
        chunks.append(_chunk(b"XMP ", _XMP.format(text).encode()))
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _durations(count: int, fps: float, units: int) -> list[int]:
    """Return how long each frame is shown, in units of 1/units s, with the error of rounding spread evenly."""
    ends = [round(index * units / fps) for index in range(count + 1)]
    return [max(end - start, 1) for start, end in zip(ends[:-1], ends[1:], strict=True)]


def _uint24(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _chunks(webp: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of the chunks of a WebP file."""
    position = 12
    while position + 8 <= len(webp):
        name, size = struct.unpack_from("<4sI", webp, position)
        yield name, webp[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
