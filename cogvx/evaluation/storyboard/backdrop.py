"""What the backgrounds look like: which scene and style a clip shows, and which pixels its background explains.

A scene in a style is a small palette for each of `BANDS` bands of rows, taken from reference drawings; which colours
stand where tells the 24 apart, whatever stands in front of them. Pixel art has the colours of the flat style and is
told from it by its blocks.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cogvx.data.storyboard.render import PIXEL_ART_ROWS
from cogvx.data.storyboard.scenes import draw_scene
from cogvx.data.storyboard.styles import paper_grain
from cogvx.data.storyboard.vocabulary import SCENES

Floats = NDArray[np.float32]

BANDS = 16
SCENE_SIGMA = 12.0  # spread of a palette's colours, in grey levels: noise, compression, grain
UNIFORM = 1 / 256**3  # density of a colour that could be anything
_DRAWN_STYLES = ("flat", "sketch", "watercolour")
_ROWS, _SUPERSAMPLE, _SEEDS = 64, 3, 6
_ZOOMS = (1.0, 1.2, 1.4)
_MAX_CHANGE = 60.0  # grey levels; one strong edge must not outweigh the rest
MIN_BLOCKINESS = 0.27  # noise of 8 grey levels leaves pixel art 0.38, no other style passes 0.18
_BIN, _MAX_COLOURS, _MIN_SHARE = 12, 14, 0.003


class Palette(NamedTuple):
    """Colours (k 3) in 0…255 and how often each comes (k), summing to about one."""

    colours: Floats
    shares: Floats


def density(pixels: Floats, palette: Palette, sigma: float) -> Floats:
    """Return how densely a palette, each colour blurred by `sigma`, fills the colour space at some pixels.

    Args:
        pixels: (... 3) in 0…255.
        palette: The colours and their shares.
        sigma: In grey levels.

    Returns:
        (...), per cubed grey level.
    """
    colours = palette.colours
    square = (pixels**2).sum(-1)[..., None] + (colours**2).sum(-1) - 2 * (pixels @ colours.T)
    peak = palette.shares / ((2 * np.pi) ** 1.5 * sigma**3)
    return np.exp(np.maximum(square, 0) / (-2 * sigma**2)) @ peak.astype(np.float32)


@cache
def scene_palettes(scene: str, style: str) -> tuple[Palette, ...]:
    """Return the palettes of a scene's bands, from the top, over all of its details and the camera's zooms."""
    style = "flat" if style == "pixel" else style
    bands: list[list[Floats]] = [[] for _ in range(BANDS)]
    for seed in range(_SEEDS):
        sheet = draw_scene(scene, style, seed=seed, left=-0.36, right=1.86, pixels=_ROWS * _SUPERSAMPLE)
        for zoom in _ZOOMS:
            margin = sheet.height * (1 - 1 / zoom) / 2
            box = (0.0, margin, float(sheet.width), sheet.height - margin)
            size = (sheet.width // _SUPERSAMPLE, _ROWS)
            pixels = np.asarray(sheet.resize(size, Image.Resampling.BILINEAR, box=box), dtype=np.float32)
            for band, part in zip(bands, np.split(pixels, BANDS), strict=True):
                band.append(part.reshape(-1, 3))
    return tuple(_palette_of(np.concatenate(band)) for band in bands)


def _palette_of(pixels: Floats) -> Palette:
    """Return the most frequent colours among pixels (n 3)."""
    red, green, blue = (pixels // _BIN).astype(np.int64).T
    _, place, counts = np.unique((red * 32 + green) * 32 + blue, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(place, pixels[:, channel]) / counts for channel in range(3)], axis=1)
    shares = counts / counts.sum()
    chosen = np.argsort(-counts, kind="stable")[:_MAX_COLOURS]
    chosen = chosen[shares[chosen] > _MIN_SHARE]
    weights = np.sqrt(shares[chosen])  # a detail is rare over all scenes, but where it stands it must be explained
    return Palette(means[chosen].astype(np.float32), (weights / weights.sum()).astype(np.float32))


def scene_density(frames: Floats, scene: str, style: str) -> Floats:
    """Return how well the scene's background explains every pixel.

    Args:
        frames: (t h w 3) in 0…255; h at least `BANDS`.
        scene: One of the world's.
        style: One of the world's.

    Returns:
        (t h w): density in colour space, per cubed grey level.
    """
    height = frames.shape[1]
    result = np.empty(frames.shape[:3], dtype=np.float32)
    for band, palette in enumerate(scene_palettes(scene, style)):
        rows = slice(band * height // BANDS, (band + 1) * height // BANDS)
        result[:, rows] = density(frames[:, rows], palette, SCENE_SIGMA)
    return result


def without_grain(frames: Floats) -> Floats:
    """Return watercolour frames (t h w 3) without the paper's grain, as far as they show it.

    The paper does not move with the camera, and would be taken for a background that stands still.
    """
    _, height, width, _ = frames.shape
    grain = np.log(paper_grain(height, width)[..., 0] / 256)
    shown = np.log(frames.mean(axis=(0, 3)) + 1)
    fine, seen = (_fine(image) for image in (grain, shown))
    strength = float(np.clip((fine * seen).sum() / (fine**2).sum(), 0, 1))
    mean = float(grain.mean())
    return (frames * np.exp(strength * (mean - grain) - mean)[..., None]).astype(np.float32)


def _fine(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an image (h w) less its surroundings, so that shapes count less than grain; strong edges are cut."""
    rest = image - (np.roll(image, 1, 0) + np.roll(image, -1, 0) + np.roll(image, 1, 1) + np.roll(image, -1, 1)) / 4
    return np.clip(rest, -0.05, 0.05)


def scene_scores(frames: Floats) -> dict[tuple[str, str], float]:
    """Say how well every scene in every style explains a clip; pixel art is left out, for it has the flat colours.

    Args:
        frames: (t h w 3) in 0…255.

    Returns:
        (scene, style) to nats a pixel, 0 and more: how much likelier the pixels are than if any colour were as likely.
    """
    few = frames[:: max(1, len(frames) // 4), :, :: max(1, frames.shape[2] // 32)]
    return {
        (scene, style): float(np.log1p(scene_density(few, scene, style) / UNIFORM).mean())
        for style in _DRAWN_STYLES
        for scene in SCENES
    }


def block_size(height: int, width: int) -> int:
    """Return how many pixels wide the big pixels of pixel art are in frames of a size."""
    return max(2, round(min(height, width) / PIXEL_ART_ROWS))


def blockiness(frames: NDArray[np.uint8]) -> float:
    """Return how much more frames (t h w 3) change at the borders of big pixels than within them, -1 to 1.

    Pixel art is above `MIN_BLOCKINESS`, no other style is.
    """
    _, height, width, _ = frames.shape
    block = block_size(height, width)
    between, within = [], []
    for axis, length in ((1, height), (2, width)):
        change = np.abs(np.diff(frames.astype(np.float32), axis=axis))
        energy = (np.minimum(change, _MAX_CHANGE) ** 2).mean(axis=(0, 3 - axis, 3))
        border = np.arange(1, length) % block == 0
        between += energy[border].tolist()
        within += energy[~border].tolist()
    outer, inner = float(np.mean(between)), float(np.mean(within))
    return (outer - inner) / max(outer + inner, 1e-9)
