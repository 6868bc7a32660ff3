"""What kind of object stands where a colour gathers: every kind is drawn there, and the likeliest is taken."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import pi, sin, sqrt

import numpy as np

from cogvx.data.storyboard.vocabulary import NEVER_SPINS, OBJECTS
from cogvx.evaluation.storyboard.colours import Spot, masks_of
from cogvx.evaluation.storyboard.evidence import Evidence
from cogvx.evaluation.storyboard.template import Figure, Template, draw_template

FACES = frozenset({"car", "boat", "fish", "bird"})  # kinds that look to one side
_FRAMES = 3  # in which looks are compared
_FULL_AREA = 0.55  # of the largest: such frames show the object best
_SIZES = (0.97, 1.12)  # of what the area says, which misses the edges
_FINALISTS = 5
# An object drawn alone stands before grey; what it covers less of than this is background, which looks like a scene's.
_GREY, _BARE, _BACKDROP = 128.0, 0.1, 1e-5
_MIN_DRIFT = 0.06  # frame heights over the clip; less does not say which way an object faces


@dataclass(frozen=True)
class Look:
    """How an object looks through a clip: its figure as a function of time."""

    kind: str
    colour: str
    style: str
    action: str = "still"
    spinning: bool = False
    mirrored: bool = False

    def at(self, seconds: float) -> Figure:
        """Return the figure at a time."""
        person = self.kind == "person"
        return Figure(
            self.kind,
            self.colour,
            self.style,
            self.action,
            seconds if person and self.action != "still" else 0.0,
            abs(sin(pi * seconds)) if self.action == "jump" else 0.0,
            pi * seconds if self.spinning else 0.0,
            self.mirrored,
        )


@dataclass(frozen=True)
class Place:
    """Where an object is drawn in a frame: centre and size in pixels of the grid, and how likely that is (nats)."""

    x: float
    y: float
    size: float
    score: float


def looks_of(colour: str, style: str, *, direction: float) -> Iterator[Look]:
    """Yield everything that an object of a colour may look like.

    Args:
        colour: Its colour.
        style: Of the clip.
        direction: How far it goes to the right, in frame heights; negative to the left.
    """
    left = direction < -_MIN_DRIFT
    for kind in OBJECTS:
        if kind == "person":
            yield from (Look(kind, colour, style, action, mirrored=left) for action in ("still", "wave", "jump"))
            for action in ("walk_left", "walk_right"):
                if abs(direction) > _MIN_DRIFT and action.endswith("left") == left:
                    yield Look(kind, colour, style, action, mirrored=left)
            continue
        yield Look(kind, colour, style, mirrored=left)
        if left and kind in FACES:
            yield Look(kind, colour, style)
        if kind not in NEVER_SPINS:
            yield Look(kind, colour, style, spinning=True)


@lru_cache(maxsize=1024)
def _own_shape(figure: Figure, rows: int) -> tuple[float, float, float]:
    """Return the area of what has the object's own colour, and its middle, for an object of size one at (0, 0)."""
    size = 0.4 * rows
    template = draw_template(figure, 0.0, 0.0, size, rows=rows)
    cover = template.cover
    alone = template.colours * cover[..., None] + _GREY * (1 - cover[..., None])
    backdrop = np.where(cover < _BARE, _BACKDROP, 0).astype(np.float32)
    own = masks_of(alone[None], backdrop[None], [figure.colour], figure.style)[0][0]
    height, width = own.shape
    area = max(float(own.sum()), 1e-6)
    x = float((own.sum(axis=0) * (np.arange(width) + 0.5 + template.left)).sum()) / area
    y = float((own.sum(axis=1) * (np.arange(height) + 0.5 + template.top)).sum()) / area
    return area / size**2, x / size, y / size


class Fitter:
    """Places one object of a colour in the frames of a clip."""

    def __init__(self, evidence: Evidence, spot: Spot) -> None:
        self.evidence, self.spot, self.stage = evidence, spot, evidence.stage
        self.views = self.stage.views

    def template(self, look: Look, frame: int, x: float, y: float, size: float) -> Template:
        """Draw a look as it is in a frame."""
        figure = look.at(self.stage.times[frame])
        return draw_template(figure, x, y, size, rows=self.stage.rows, zoom=self.views[frame].zoom)

    def start(self, look: Look, frame: int, factor: float = 1.05) -> Place:
        """Place a look where the colour gathers, with the size that its area says, times a factor."""
        share, shift_x, shift_y = _own_shape(look.at(self.stage.times[frame]), self.stage.rows)
        size = factor * sqrt(max(self.spot.areas[frame], 1.0) / share)
        centre_x, centre_y = self.spot.centres[frame]
        x, y = centre_x - shift_x * size, centre_y - shift_y * size
        return Place(x, y, size, self._score(look, frame, x, y, size))

    def refine(self, look: Look, frame: int, place: Place, *, resize: bool = True) -> Place:
        """Move and resize a look while that makes it likelier."""
        for step in (1.0, 0.5):
            for _ in range(3):
                tried = [
                    replace(place, x=place.x + dx, y=place.y + dy)
                    for dx, dy in ((-step, 0), (step, 0), (0, -step), (0, step))
                ]
                if resize:
                    tried += [replace(place, size=place.size * factor) for factor in (1 - 0.06 * step, 1 + 0.06 * step)]
                scored = [replace(one, score=self._score(look, frame, one.x, one.y, one.size)) for one in tried]
                best = max(scored, key=lambda one: one.score)
                if best.score <= place.score:
                    break
                place = best
        return place

    def _score(self, look: Look, frame: int, x: float, y: float, size: float) -> float:
        return self.evidence.score(frame, self.template(look, frame, x, y, size))

    def best_looks(self, looks: list[Look]) -> list[tuple[float, Look]]:
        """Return all looks with their scores, in nats a frame, the best first.

        Only the likeliest few are moved about until they lie as well as they can; the others' scores are a little low.
        """
        frames = self.clear_frames()
        first: list[tuple[float, Look, float]] = []
        for look in looks:
            score, factor = max(
                (_mean(self.start(look, frame, factor).score for frame in frames[::2]), factor) for factor in _SIZES
            )
            first.append((score, look, factor))
        first.sort(key=lambda one: -one[0])
        ranked = [(score, look) for score, look, _ in first[_FINALISTS:]]
        for _, look, factor in first[:_FINALISTS]:
            places = [self.refine(look, frame, self.start(look, frame, factor)) for frame in frames]
            ranked.append((_mean(place.score for place in places), look))
        return sorted(ranked, key=lambda one: -one[0])

    def clear_frames(self) -> list[int]:
        """Return a few frames that show the object well, spread over the clip."""
        areas = self.spot.areas
        good = np.flatnonzero(areas >= _FULL_AREA * self.spot.mass)
        return [int(frame) for frame in np.unique(good[np.linspace(0, len(good) - 1, _FRAMES).round().astype(int)])]


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
