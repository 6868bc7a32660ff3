"""Clips whose truth is known: textures that move by so many pixels, still pictures, cuts."""

import numpy as np

RATE = 8.0


def texture(height, width, seed=0, *, coarse=4):
    """A smooth random RGB texture, uint8 (h w 3), of full contrast; `coarse` pixels are about one grain."""
    rng = np.random.default_rng(seed)
    grains = rng.normal(size=(height // coarse + 8, width // coarse + 8, 3))
    rows = np.arange(height)[:, None] / coarse + 1
    columns = np.arange(width)[None, :] / coarse + 1
    picture = np.zeros((height, width, 3))
    for dy in range(-1, 3):  # cubic B-spline of the grains
        for dx in range(-1, 3):
            y, x = np.floor(rows).astype(int) + dy, np.floor(columns).astype(int) + dx
            weight = spline(rows - y) * spline(columns - x)
            picture += weight[..., None] * grains[y, x]
    low, high = np.percentile(picture, [1, 99])
    return np.clip((picture - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)


def spline(t):
    t = np.abs(t)
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0))


def pan(count, height, width, step, seed=0, **more):
    """A window that moves over a texture by a step in whole pixels to the right, uint8 (t h w 3)."""
    wide = texture(height, width + step * count, seed, **more)
    return np.stack([wide[:, index * step : index * step + width] for index in range(count)])


def blurred(frames, sigma):
    """Frames under a Gaussian."""
    from PIL import Image, ImageFilter

    soft = ImageFilter.GaussianBlur(sigma)
    return np.stack([np.asarray(Image.fromarray(frame).filter(soft)) for frame in frames])


def resized(frames, height, width, box=None):
    """Frames at another size, of the part in a box (left, top, right, bottom)."""
    from PIL import Image

    return np.stack(
        [
            np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC, box=box))
            for frame in frames
        ]
    )


def mp4(frames, rate=8, **options):
    """The bytes of an H.264 file, as other programs write it; options go to the encoder."""
    import io
    from fractions import Fraction

    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=rate, options={key: str(value) for key, value in options.items()})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()
