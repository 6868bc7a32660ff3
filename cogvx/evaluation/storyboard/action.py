"""What an object does: each action's path is fitted to where the object was seen, and the likeliest is taken."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import log

import numpy as np
from numpy.typing import NDArray

from cogvx.data.storyboard.motion import GROWTH
from cogvx.data.storyboard.vocabulary import HORIZONTAL, SIZE_FRACTION, actions_of
from cogvx.evaluation.storyboard.fit import Fitter, Look

Series = NDArray[np.float64]
"""A number for every frame, (t)."""

_SEEN = 0.06  # of the largest area: less of an object does not say where it is
_CLEAR = 0.55  # of the same: frames that show where an object rests, and how large it is
_REST = 1.05  # a blot that rests is not to spin because it looks a little more like a turning square
# How far one-way moves, bounces and orbits may reach, in shorter sides of the frame; the world's own lie well inside.
_TRAVEL, _JUMP, _RADIUS = (0.12, 1.2), (0.08, 0.5), (0.06, 0.4)
_GROWTH_POWER = (0.5, 1.3)  # of the world's own change of size


@dataclass(frozen=True, eq=False)
class Motion:
    """An object through a clip, in the world: centres and sizes in frame heights.

    Attributes:
        action: Its name.
        look: What is drawn.
        x: Centre, from the left of the frame as it is before the camera moves.
        y: Centre, from the top.
        size: Of the object.
        opacity: 0 to 1.
        nominal_size: Of the object at rest.
        score: How much likelier the clip is with it, in nats.
        actions: The scores of all actions that it was chosen among.
    """

    action: str
    look: Look
    x: Series
    y: Series
    size: Series
    opacity: Series
    nominal_size: float
    score: float = 0.0
    actions: Mapping[str, float] = field(default_factory=dict)

    def sizes(self, unit: float) -> dict[str, float]:
        """Return how near every size is, 0 and less; `unit` is the shorter side of the frame in heights."""
        return {name: -abs(log(self.nominal_size / (unit * share))) for name, share in SIZE_FRACTION.items()}


def find_motion(fitter: Fitter, look: Look) -> Motion:
    """Return the likeliest motion of an object whose look is known."""
    motions = [replace(one, score=_score(fitter, one)) for one in _Track(fitter, look).motions()]
    motions = [replace(one, score=_REST * one.score) if one.action == "still" else one for one in motions]
    best = max(motions, key=lambda motion: motion.score)
    return replace(best, actions={motion.action: motion.score for motion in motions})


def to_screen(fitter: Fitter, motion: Motion, frame: int) -> tuple[float, float, float]:
    """Return centre and size in a frame, in pixels of the grid."""
    stage, view = fitter.stage, fitter.views[frame]
    x = ((motion.x[frame] - view.x) * view.zoom + stage.aspect / 2) * stage.rows
    y = ((motion.y[frame] - view.y) * view.zoom + 0.5) * stage.rows
    return float(x), float(y), float(motion.size[frame] * view.zoom * stage.rows)


def _score(fitter: Fitter, motion: Motion) -> float:
    total = 0.0
    for frame in range(len(motion.x)):
        template = fitter.template(motion.look, frame, *to_screen(fitter, motion, frame))
        total += fitter.evidence.score(frame, template, float(motion.opacity[frame]))
    return total


class _Track:
    """Where a look was seen, frame by frame, in the world, and the motions that could explain it."""

    def __init__(self, fitter: Fitter, look: Look) -> None:
        self.fitter, self.look, stage = fitter, look, fitter.stage
        areas = fitter.spot.areas
        self.unit = min(1.0, stage.aspect)
        self.times, self.progress = np.array(stage.times), np.array(stage.progress)
        self.weights = np.where(areas >= _SEEN * fitter.spot.mass, np.sqrt(areas), 0.0)
        self.clear = np.where(areas >= _CLEAR * fitter.spot.mass, areas, 0.0)
        num = len(areas)
        self.x, self.y, self.size = np.zeros(num), np.zeros(num), np.ones(num)
        for frame in np.flatnonzero(self.weights):
            place = fitter.refine(look, int(frame), fitter.start(look, int(frame)))
            view = fitter.views[frame]
            self.x[frame] = (place.x / stage.rows - stage.aspect / 2) / view.zoom + view.x
            self.y[frame] = (place.y / stage.rows - 0.5) / view.zoom + view.y
            self.size[frame] = place.size / stage.rows / view.zoom
        self.rest_x, self.rest_y = _middle(self.x, self.clear), _middle(self.y, self.clear)
        self.rest_size = _middle(self.size, self.clear)

    def motions(self) -> Iterator[Motion]:
        """Yield the best path of every action that the kind can take."""
        builders: dict[str, Callable[[str], Motion]] = {
            "bounce": self._jump,
            "jump": self._jump,
            "orbit": self._orbit,
            "grow": self._grow,
            "shrink": self._grow,
            "fade": self._fade,
        }
        for action in actions_of(self.look.kind):
            if action in HORIZONTAL or action in ("move_up", "move_down"):
                yield self._move(action)
            else:
                yield builders.get(action, self._rest)(action)

    def _rest(self, action: str) -> Motion:
        ones = np.ones(len(self.x))
        look = self._look(action)
        x, y, size = self.rest_x * ones, self.rest_y * ones, self.rest_size * ones
        return Motion(action, look, x, y, size, ones, self.rest_size)

    def _look(self, action: str) -> Look:
        if self.look.kind == "person":
            left = action.endswith("left") or (self.look.mirrored and not action.endswith("right"))
            return replace(self.look, action=action, mirrored=left)
        return replace(self.look, spinning=action == "spin")

    def _move(self, action: str) -> Motion:
        sign = -1.0 if action.endswith(("left", "up")) else 1.0
        basis = sign * (self.progress - 0.5)
        low, high = (self.unit * bound for bound in _TRAVEL)
        rest = self._rest(action)
        if action in HORIZONTAL:
            return replace(rest, x=_fitted(basis, self.x, self.weights, low, high))
        return replace(rest, y=_fitted(basis, self.y, self.weights, low, high))

    def _jump(self, action: str) -> Motion:
        basis = 0.5 - np.abs(np.sin(np.pi * self.times))
        return replace(self._rest(action), y=_fitted(basis, self.y, self.weights, *_JUMP))

    def _orbit(self, action: str) -> Motion:
        turn = np.pi * self.times - np.pi / 2
        across, down = np.cos(turn), np.sin(turn)
        weights = self.weights
        total = max(float(weights.sum()), 1e-9)
        centred = [values - (weights * values).sum() / total for values in (across, down, self.x, self.y)]
        scale = float((weights * (centred[0] ** 2 + centred[1] ** 2)).sum())
        radius = float((weights * (centred[0] * centred[2] + centred[1] * centred[3])).sum()) / max(scale, 1e-9)
        radius = float(np.clip(radius, self.unit * _RADIUS[0], self.unit * _RADIUS[1]))
        x = _middle(self.x - radius * across, weights) + radius * across
        y = _middle(self.y - radius * down, weights) + radius * down
        return replace(self._rest(action), x=x, y=y)

    def _grow(self, action: str) -> Motion:
        small, large = GROWTH
        progress = self.progress if action == "grow" else 1.0 - self.progress
        basis = np.log(small + (large - small) * progress)
        size = np.exp(_fitted(basis, np.log(self.size), self.weights, *_GROWTH_POWER))
        rest = self._rest(action)
        x, y = (np.full(len(self.x), _middle(values, self.weights)) for values in (self.x, self.y))
        return replace(rest, x=x, y=y, size=size, nominal_size=float(np.exp(np.log(size).mean() - basis.mean())))

    def _fade(self, action: str) -> Motion:
        return replace(self._rest(action), opacity=1.0 - 0.94 * self.progress)


def _fitted(basis: Series, values: Series, weights: Series, low: float, high: float) -> Series:
    """Return the nearest to some values among offset + amplitude * basis, with the amplitude from low to high."""
    total = max(float(weights.sum()), 1e-9)
    centred = basis - (weights * basis).sum() / total
    amplitude = float((weights * centred * values).sum()) / max(float((weights * centred**2).sum()), 1e-9)
    amplitude = float(np.clip(amplitude, low, high))
    return _middle(values - amplitude * basis, weights) + amplitude * basis


def _middle(values: Series, weights: Series) -> float:
    """Return the weighted median."""
    order = np.argsort(values, kind="stable")
    heap = np.cumsum(weights[order])
    return float(values[order[min(int(np.searchsorted(heap, heap[-1] / 2)), len(values) - 1)]])
