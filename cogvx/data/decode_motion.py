"""The motion vectors that a video was compressed with: motion without looking at a pixel, where the codec tells it.

Runs in the process that decodes untrusted files: nothing heavy may be imported here.
"""

from typing import Any

import numpy as np

CELL = 4  # pixels: the side of the smallest block that H.264 moves


def motion_shape(height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of cells that a frame has; those at the edges may stick out."""
    return -(-height // CELL), -(-width // CELL)


def export_vectors(context: Any) -> None:
    """Tell a decoder, before it starts, to pass motion vectors on: H.264 and older ones do; HEVC, VP9, AV1 do not."""
    import av

    context.flags2 |= av.codec.context.Flags2.export_mvs


def motion_lengths(frame: Any) -> np.ndarray:
    """Return how far each cell of 4x4 pixels has moved from the frame that it is predicted from.

    That frame is not always the one before it: the vectors do not say which one it is.

    Args:
        frame: As decoded.

    Returns:
        float32 (r c), pixels; 0 where the picture was compressed without reference to another, the longest where it was
        predicted from two. NaN throughout if the frame has no vectors at all: a key frame, or another codec.
    """
    shape = motion_shape(frame.height, frame.width)
    data = frame.side_data.get("MOTION_VECTORS")
    vectors = None if data is None else data.to_ndarray()
    if vectors is None or not len(vectors):
        return np.full(shape, np.nan, dtype=np.float32)
    lengths = np.zeros(shape, dtype=np.float32)
    scale = np.maximum(vectors["motion_scale"], 1).astype(np.float32)
    moved = np.hypot(vectors["motion_x"] / scale, vectors["motion_y"] / scale).astype(np.float32)
    sizes = vectors["w"].astype(np.int64) << 8 | vectors["h"]
    for size in np.unique(sizes):
        chosen = sizes == size
        width, height = int(size) >> 8, int(size) & 255
        left = (vectors["dst_x"][chosen].astype(np.int64) - width // 2) // CELL  # dst is the middle of a block
        top = (vectors["dst_y"][chosen].astype(np.int64) - height // 2) // CELL
        for row in range(-(-height // CELL)):
            for column in range(-(-width // CELL)):
                y, x = top + row, left + column
                inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
                np.maximum.at(lengths, (y[inside], x[inside]), moved[chosen][inside])
    return lengths
