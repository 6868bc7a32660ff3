"""A badge that was laid over a corner of the clip: it stays as it is while the picture below moves."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cogvx.data.signals.sample import Sample, luma
from cogvx.data.signals.signal import Measured, Signal, View, need
from cogvx.data.signals.text import Text, in_corner, stable_tracks

_EDGE = 28.0  # grey levels a pixel: the edges of badges are sharper than most of a picture's
_PERSISTENT = 0.85  # how much of an edge's mean strength must be the same all the time
_MOVES = 8.0  # grey levels of standard deviation over time
_LEAST_STILLS = 3
# As shares of the picture: how far a badge reaches from the upper or lower edge, how far it is from the side, and how
# far it reaches from there; its least area; and as shares of the shorter side: its least width and height, what joins
# its letters to one thing, and the width of the ring around it.
_TALL, _ASIDE, _WIDE, _AREA = 0.25, 0.25, 0.67, 0.002
_LEAST, _JOIN, _RING = 0.03, 0.025, 0.04


@dataclass(frozen=True)
class Watermark(Signal):
    """How sure it is that there is a badge in a corner, 0…1; 0.5 is a good bound.

    Looked for are edges of luma that stay (the median of their gradients over time is at least 0.85 of their mean
    strength) and are strong, close together, in a corner, and alone: few such edges in a ring around them. The number
    is the product of how far each of that holds, and of whether something moves: around the badge, or in a fifth of
    the picture. It takes three stills at least; before a scene that stands still as a whole nothing can be told. What
    is as sharp, alone and still as a badge is taken for one: a sign, a lamp.

    With text, stable text in a corner (see cogvx.data.signals.text) is a badge too: then it is the share of stills that
    have it, if that is more.

    Attributes:
        text: How text is looked for; None: not at all.
    """

    name: ClassVar[str] = "watermark"
    columns: ClassVar[tuple[str, ...]] = ("watermark",)
    view: ClassVar[View] = "stills"

    text: Text | None = None

    def made(self) -> dict[str, Any]:
        """Return what the column depends on."""
        return super().made() | {"text": None if self.text is None else self.text.made()}

    def open(self) -> None:
        """Load what it needs (see Signal.open)."""
        need("cv2", extra="data", what="the signal watermark")
        if self.text is not None:
            self.text.open()

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return the columns of stills, uint8 (t h w 3)."""
        if len(frames) < 2:
            return {}
        text = 0.0 if self.text is None else self.text(frames, fps)["text_corner"]
        return {"watermark": max(badge(frames), text)}

    def measure(self, sample: Sample) -> Measured:
        """Return the columns of a clip; text that another signal has read is not read again."""
        if len(sample.stills) < 2:
            return Measured({})
        pages = [] if self.text is None else self.text.pages(sample)
        cornered = {
            number
            for track in stable_tracks(pages)
            for number, line in track.lines.items()
            if in_corner(line.box, *sample.stills.shape[1:3])
        }
        text = len(cornered) / len(pages) if pages else 0.0
        return Measured({"watermark": max(badge(sample.stills), text)})


def badge(frames: np.ndarray) -> float:
    """Return how sure it is that stills, uint8 (t h w 3), have a badge in a corner, 0…1."""
    _, height, width, _ = frames.shape
    if len(frames) < _LEAST_STILLS or min(height, width) < 32:
        return 0.0
    cv2 = need("cv2", extra="data", what="the signal watermark")
    edges, strength, moves = _over_time(luma(frames).astype(np.float32))
    side = min(height, width)
    join = max(3, round(side * _JOIN) | 1)
    reach, ring = join // 2, max(4, round(side * _RING))
    joined = cv2.dilate(edges.astype(np.uint8), np.ones((join, join), np.uint8))
    count, _, found, _ = cv2.connectedComponentsWithStats(joined)
    anywhere = min(1.0, float((moves > _MOVES).mean()) / 0.2)
    best = 0.0
    for left, top, wide, tall, _ in found[1:count].tolist():
        box = (
            max(0, left + reach),
            max(0, top + reach),
            min(width, left + wide - reach),
            min(height, top + tall - reach),
        )
        if not _fits(box, height, width):
            continue
        left, top, right, bottom = box
        own = np.s_[top:bottom, left:right]
        density = float(edges[own].mean())
        around = _ring_of(box, ring, height, width)
        sharp = float(strength[own][edges[own]].mean())
        alone = 1 - 2 * float(edges[around].mean()) / density
        moving = max(float((moves[around] > _MOVES / 2).mean()), anywhere)
        best = max(best, _part((sharp - 20) / 16) * _part((density - 0.05) / 0.15) * _part(alone) * _part(moving))
    return best


def _over_time(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each pixel of luma (t h w): whether an edge stays there, how strong it is, how much luma varies."""
    across, down = np.zeros_like(pictures), np.zeros_like(pictures)
    across[:, :, 1:-1] = (pictures[:, :, 2:] - pictures[:, :, :-2]) / 2
    down[:, 1:-1] = (pictures[:, 2:] - pictures[:, :-2]) / 2
    mean = np.hypot(across, down).mean(axis=0)
    lasting = np.hypot(np.median(across, axis=0), np.median(down, axis=0))
    return (lasting >= _EDGE) & (lasting >= _PERSISTENT * mean), lasting, pictures.std(axis=0)


def _fits(box: tuple[int, int, int, int], height: int, width: int) -> bool:
    """Whether a box (left, top, right, bottom) has the size and the place of a badge."""
    left, top, right, bottom = box
    wide, tall = right - left, bottom - top
    if wide * tall < _AREA * height * width or min(wide, tall) < _LEAST * min(height, width):
        return False
    high_or_low = bottom <= _TALL * height or top >= (1 - _TALL) * height
    at_left = left <= _ASIDE * width and right <= _WIDE * width
    at_right = right >= (1 - _ASIDE) * width and left >= (1 - _WIDE) * width
    return high_or_low and (at_left or at_right)


def _ring_of(box: tuple[int, int, int, int], wide: int, height: int, width: int) -> np.ndarray:
    """Return a mask (h w) of what lies around a box, so many pixels wide."""
    left, top, right, bottom = box
    mask = np.zeros((height, width), dtype=bool)
    mask[max(0, top - wide) : bottom + wide, max(0, left - wide) : right + wide] = True
    mask[top:bottom, left:right] = False
    return mask


def _part(value: float) -> float:
    return min(1.0, max(0.0, value))
