"""A clip to what it shows: scene, style, camera, and every object with its colour, kind, size and action."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogvx.data.storyboard.vocabulary import colours_in
from cogvx.evaluation.storyboard.action import Motion, find_motion, to_screen
from cogvx.evaluation.storyboard.backdrop import Floats
from cogvx.evaluation.storyboard.colours import REACH, Spot, colour_masks, find_spot
from cogvx.evaluation.storyboard.evidence import Evidence, stamp
from cogvx.evaluation.storyboard.fit import Fitter, Look, looks_of
from cogvx.evaluation.storyboard.margins import Scores, margin
from cogvx.evaluation.storyboard.stage import Stage, set_stage

MAX_OBJECTS = 4  # one more than the world shows: that is too many, however many they are
_MIN_MASS = 0.005  # of the squared frame height, of what has an object's own colour
_MIN_COMPACTNESS = 0.06  # windows of a city that look white come to 0.03, a person in sketch style to 0.11
# A spot that is so compact and large is an object, even if its motion is none of the world's.
_SURE_COMPACTNESS, _SURE_MASS = 0.25, 0.02
_SECOND_SHARE = 0.5  # of the first object of a colour: smaller spots are its frayed edges
# A spot with such a share of the largest one's area, so near it in frame heights, may be the same object.
_RIVAL_MASS, _RIVAL_DISTANCE = 0.4, 0.25
_RIVAL = 0.85  # a kind with such a share of the best score is followed too
_MARGIN = 2  # pixels around an object that its colour bleeds into
# Margins, and a fit, below which something is in doubt: of drawn clips, one in fifty or fewer is, for each.
_CLEAR = {"scene": 0.2, "style": 0.2, "camera": 0.25, "kind": 0.12, "colour": 0.5, "action": 0.12, "fit": 0.6}
_FULL_AREA, _FULL_OPACITY = 0.55, 0.7  # of the largest: frames that show an object well


@dataclass(frozen=True)
class SeenObject:
    """One object, in the words of the world.

    Attributes:
        kind: What it is.
        colour: Of its body.
        size: At rest.
        action: What it does.
        x: Middle of its path, as a fraction of the frame's width.
        y: The same of its height.
        fit: How much of what is there agrees with such an object where it is seen best, 0 to 1.
        scores: Of every "kind", "colour", "size" and "action" that it could be; the more, the likelier.
    """

    kind: str
    colour: str
    size: str
    action: str
    x: float
    y: float
    fit: float
    scores: Mapping[str, Scores]


@dataclass(frozen=True)
class Sight:
    """What a clip shows, in the words of the world.

    Attributes:
        scene: The background.
        style: How it is drawn.
        camera: How it moves.
        objects: The largest first.
        scores: Of every "scene", "style" and "camera"; the more, the likelier.
    """

    scene: str
    style: str
    camera: str
    objects: tuple[SeenObject, ...]
    scores: Mapping[str, Scores]

    def doubts(self) -> tuple[str, ...]:
        """Return the attributes that could nearly as well be something else; "fit" if an object is hardly one."""
        found = [(name, margin(scores, getattr(self, name))) for name, scores in self.scores.items()]
        for one in self.objects:
            found += [(name, margin(one.scores[name], getattr(one, name))) for name in ("kind", "colour", "action")]
            found.append(("fit", one.fit))
        doubts = {"object" if name == "kind" else name for name, value in found if value < _CLEAR[name]}
        return tuple(sorted(doubts))

    def to_dict(self) -> dict[str, Any]:
        """Return what is seen as JSON values, without the scores."""
        objects = [
            {item.name: getattr(one, item.name) for item in fields(one) if item.name != "scores"}
            for one in self.objects
        ]
        return {"scene": self.scene, "style": self.style, "camera": self.camera, "objects": objects}


def look_at(frames: NDArray[np.uint8], fps: float) -> Sight:
    """Say what a clip shows, from its pixels alone.

    Args:
        frames: uint8 (t h w 3).
        fps: Frames a second.

    Raises:
        InputError: There are too few frames or pixels to see anything.
    """
    stage = set_stage(frames, fps)
    scores = {"scene": stage.scenes, "style": stage.styles, "camera": stage.cameras}
    return Sight(stage.scene, stage.style, stage.camera.name, tuple(_find_objects(stage)), scores)


def _find_objects(stage: Stage) -> list[SeenObject]:
    evidence, masks = Evidence(stage), colour_masks(stage)
    objects: list[SeenObject] = []
    found_masses: dict[str, float] = {}  # by colour, of its first object
    while masks and len(objects) < MAX_OBJECTS:
        spots = sorted((find_spot(name, mask) for name, mask in masks.items()), key=lambda one: -one.mass)
        largest, area = spots[0], stage.rows**2
        if largest.mass < _MIN_MASS * area:
            break
        if largest.mass < _SECOND_SHARE * found_masses.get(largest.colour, 0) or not _is_compact(largest):
            del masks[largest.colour]
            continue
        fitters = [Fitter(evidence, spot) for spot in spots if spot is largest or _is_rival(spot, largest, stage.rows)]
        followed = [(fitter, *_follow(fitter)) for fitter in fitters]
        fitter, motion, kinds = max(followed, key=lambda one: one[1].score)
        spot = fitter.spot
        erratic = motion.score <= 0  # nothing in the world moves so
        sure = spot.compactness >= _SURE_COMPACTNESS and spot.mass >= _SURE_MASS * area and max(kinds.values()) > 0
        if erratic and (spot.colour in found_masses or not sure):
            del masks[spot.colour]
            continue
        found_masses.setdefault(spot.colour, spot.mass)
        objects.append(_seen(fitter, motion, kinds, masks[spot.colour]))
        _erase(masks, fitter, motion)
        if erratic:  # it was not erased where it is
            del masks[spot.colour]
    return objects


def _is_compact(spot: Spot) -> bool:
    return spot.compactness >= _MIN_COMPACTNESS


def _is_rival(spot: Spot, largest: Spot, rows: int) -> bool:
    """Whether a spot may be the same object by its right colour: what fades takes on other ones on the way."""
    if spot.mass < _RIVAL_MASS * largest.mass or not _is_compact(spot):
        return False
    middles = [np.average(one.centres, axis=0, weights=one.areas) for one in (spot, largest)]
    return spot is not largest and float(np.hypot(*(middles[0] - middles[1]))) < _RIVAL_DISTANCE * rows


def _follow(fitter: Fitter) -> tuple[Motion, Scores]:
    """Return the likeliest kind and motion of what has a colour, and the scores of all kinds."""
    spot, stage = fitter.spot, fitter.stage
    ranked = fitter.best_looks(list(looks_of(spot.colour, stage.style, direction=_direction(fitter))))
    kinds: dict[str, float] = {}
    followed: dict[str, Look] = {}
    for score, look in ranked:
        kinds.setdefault(look.kind, score)
        if score >= _RIVAL * ranked[0][0] and len(followed) < 2:
            followed.setdefault(look.kind, look)
    if not followed:  # the best score is negative
        followed[ranked[0][1].kind] = ranked[0][1]
    motions = sorted((find_motion(fitter, look) for look in followed.values()), key=lambda one: -one.score)
    best = motions[0]
    for other in motions[1:]:  # over the whole clip, which may overrule the few frames
        share = max(other.score, 0.0) / best.score if best.score > 0 else 0.0
        kinds[other.look.kind] = min(kinds[other.look.kind], kinds[best.look.kind] * share)
    return best, kinds


def _direction(fitter: Fitter) -> float:
    """Return how far the spot goes to the right over the clip, in frame heights of the world."""
    stage, spot = fitter.stage, fitter.spot
    xs = np.array(
        [
            (x / stage.rows - stage.aspect / 2) / view.zoom + view.x
            for (x, _), view in zip(spot.centres, fitter.views, strict=True)
        ]
    )
    seen = spot.areas > 0.06 * spot.mass
    progress = np.array(stage.progress)[seen]
    if len(progress) < 2:
        return 0.0
    return float(np.polyfit(progress, xs[seen], 1)[0])


def _seen(fitter: Fitter, motion: Motion, kinds: Scores, mask: Floats) -> SeenObject:
    stage, spot = fitter.stage, fitter.spot
    ys, xs = np.mgrid[0 : stage.rows, 0 : stage.frames.shape[2]] + 0.5
    clear = spot.areas >= _FULL_AREA * spot.mass
    if (clear & (motion.opacity >= _FULL_OPACITY)).any():
        clear &= motion.opacity >= _FULL_OPACITY
    fits = []
    for frame in map(int, np.flatnonzero(clear)):
        x, y, size = to_screen(fitter, motion, frame)
        near = mask[frame] * ((xs - x) ** 2 + (ys - y) ** 2 < (REACH * stage.rows) ** 2)
        fits.append(fitter.evidence.agreement(frame, fitter.template(motion.look, frame, x, y, size), near))
    sizes = motion.sizes(min(1.0, stage.aspect))
    return SeenObject(
        motion.look.kind,
        spot.colour,
        max(sizes, key=lambda name: sizes[name]),
        motion.action,
        round(float(motion.x.mean()) / stage.aspect, 3),
        round(float(motion.y.mean()), 3),
        round(float(np.median(fits)), 3),
        {"kind": kinds, "colour": _colours(fitter, motion), "size": sizes, "action": motion.actions},
    )


def _colours(fitter: Fitter, motion: Motion) -> Scores:
    """Return how well an object in each colour explains a few frames that show it well."""
    stage, scores = fitter.stage, {}
    for colour in colours_in(stage.scene, stage.style):
        look = replace(motion.look, colour=colour)
        scores[colour] = sum(
            fitter.evidence.score(
                frame,
                fitter.template(look, frame, *to_screen(fitter, motion, frame)),
                float(motion.opacity[frame]),
            )
            for frame in fitter.clear_frames()
        )
    return scores


def _erase(masks: dict[str, Floats], fitter: Fitter, motion: Motion) -> None:
    """Take an object's pixels away from all masks, and all that is near it from the mask of its colour."""
    stage = fitter.stage
    num_frames, height, width, _ = stage.frames.shape
    ys, xs = np.mgrid[0:height, 0:width] + 0.5
    for frame in range(num_frames):
        place = to_screen(fitter, motion, frame)
        covered = np.zeros((height, width), dtype=bool)
        stamp(covered, fitter.template(motion.look, frame, *place))
        for _ in range(_MARGIN):
            grown = covered.copy()
            grown[1:] |= covered[:-1]
            grown[:-1] |= covered[1:]
            grown[:, 1:] |= covered[:, :-1]
            grown[:, :-1] |= covered[:, 1:]
            covered = grown
        for name, mask in masks.items():
            mask[frame][covered] = 0.0
            if name == fitter.spot.colour:
                mask[frame][(xs - place[0]) ** 2 + (ys - place[1]) ** 2 < (0.75 * place[2]) ** 2] = 0.0
