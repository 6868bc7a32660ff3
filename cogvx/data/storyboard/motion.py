"""Where everything is at a time: the poses of objects, the camera, and the boxes on the screen.

One-way changes (moves, walks, grows, shrinks, fades, and the camera's) are stretched over the whole clip, but never
take less than `ONE_WAY_SECONDS`; rhythms (bounces, spins, orbits, steps, jumps, waves) keep their pace and go on. So
any length and rate shows what the caption says, and no object leaves the frame for good.

Lengths are in frame heights: the frame is 1 high and `aspect` wide.
"""

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from cogvx.data.storyboard import vocabulary as words
from cogvx.data.storyboard.person import SCALE as PERSON_SCALE
from cogvx.data.storyboard.person import parts_of_person
from cogvx.data.storyboard.shapes import Part, parts_of
from cogvx.data.storyboard.spec import ObjectSpec, SceneSpec, layout_of

ONE_WAY_SECONDS = 2.0
PAN = 0.24  # of the frame's width, in all
ZOOM = 1.4  # magnification at the near end
PAN_MANY, ZOOM_MANY = 0.14, 1.2  # with several objects, so that the outer ones stay in view
GROWTH = (0.45, 1.25)  # of the object's size


@dataclass(frozen=True)
class Pose:
    """An object at one time: centre (x, y) and size in frame heights, angle in radians clockwise, opacity 0 to 1."""

    x: float
    y: float
    size: float
    angle: float = 0.0
    opacity: float = 1.0
    mirrored: bool = False
    lift: float = 0.0


@dataclass(frozen=True)
class View:
    """The camera at one time: it looks at (x, y), in frame heights, with a magnification."""

    x: float
    y: float
    zoom: float


def progress_at(seconds: float, duration: float) -> float:
    """Return how far a one-way change is, 0 to 1."""
    return min(1.0, seconds / max(duration, ONE_WAY_SECONDS))


def view_at(spec: SceneSpec, progress: float, aspect: float) -> View:
    """Return where the camera looks at a progress of 0 to 1."""
    camera, single = spec.camera, len(spec.objects) == 1
    x, zoom = aspect / 2, 1.0
    if camera in ("pan_left", "pan_right"):
        sign = 1.0 if camera == "pan_right" else -1.0
        x += sign * (PAN if single else PAN_MANY) * aspect * (progress - 0.5)
    elif camera in ("zoom_in", "zoom_out"):
        near = progress if camera == "zoom_in" else 1.0 - progress
        zoom = (ZOOM if single else ZOOM_MANY) ** near
    return View(x, 0.5, zoom)


def _inside(centre: float, reach: float, length: float) -> float:
    """Move a centre so that it keeps `reach` from both ends, or to the middle where that is impossible."""
    return min(max(centre, reach), length - reach) if 2 * reach <= length else length / 2


class Path:
    """The path of one object through a clip of some aspect and duration (seconds)."""

    def __init__(self, spec: SceneSpec, index: int, *, aspect: float, duration: float) -> None:
        one = spec.objects[index]
        self.action = one.action
        self.duration = duration
        unit = min(1.0, aspect)
        self.size = size = words.SIZE_FRACTION[one.size] * unit
        lanes = len(spec.objects)
        columns = layout_of(spec.objects) == "columns"
        self.travel_x = 0.5 * aspect if not columns else max(0.2 * unit, aspect / lanes - 0.95 * size)
        self.travel_y = 0.46
        self.radius = min(0.27 * unit, 0.53 * unit - size / 2) if lanes == 1 else min(0.2 * unit, aspect / 4 - size / 2)
        tall = size * (PERSON_SCALE if one.kind == "person" else 1.0)
        self.jump = {"bounce": 0.34, "jump": 0.22}.get(one.action, 0.0)
        self.jump = min(self.jump, max(0.1, 1.04 - tall))
        reach_x = reach_y = 0.0
        if one.action in words.HORIZONTAL:
            reach_x = self.travel_x / 2
        elif one.action in ("move_up", "move_down"):
            reach_y = self.travel_y / 2
        elif one.action == "orbit":
            reach_x = reach_y = self.radius
        largest = GROWTH[1] if one.action in ("grow", "shrink") else 1.0
        self.x = _inside(one.x * aspect, reach_x + size * largest / 2, aspect)
        self.y = _inside(one.y, reach_y + self.jump / 2 + tall * largest / 2, 1.0)

    def at(self, seconds: float) -> Pose:
        """Return the pose at a time."""
        action, x, y, size = self.action, self.x, self.y, self.size
        progress = progress_at(seconds, self.duration)
        angle, opacity, lift = 0.0, 1.0, 0.0
        if action in words.HORIZONTAL:
            x += self.travel_x * (progress - 0.5) * (1 if action.endswith("right") else -1)
        elif action in ("move_up", "move_down"):
            y += self.travel_y * (progress - 0.5) * (1 if action.endswith("down") else -1)
        elif action in ("bounce", "jump"):
            lift = abs(sin(pi * seconds))
            y += self.jump * (0.5 - lift)
        elif action == "spin":
            angle = pi * seconds
        elif action in ("grow", "shrink"):
            small, large = GROWTH
            size *= small + (large - small) * (progress if action == "grow" else 1.0 - progress)
        elif action == "orbit":
            turn = pi * seconds - pi / 2
            x, y = x + self.radius * cos(turn), y + self.radius * sin(turn)
        elif action == "fade":
            opacity = 1.0 - 0.94 * progress
        return Pose(x, y, size, angle, opacity, action.endswith("left"), lift)


def placed_parts(one: ObjectSpec, pose: Pose, seconds: float) -> tuple[list[Part], NDArray[np.float64]]:
    """Return an object's polygons in the world (frame heights), and all their corners together (n 2)."""
    if one.kind == "person":
        parts, size = parts_of_person(one.action, seconds, pose.lift), pose.size * PERSON_SCALE
    else:
        parts, size = parts_of(one.kind), pose.size
    corners = np.concatenate([part.points for part in parts])
    c, s = cos(pose.angle) * size, sin(pose.angle) * size
    mirror = -1.0 if pose.mirrored else 1.0
    turn = np.array([[c * mirror, s * mirror], [-s, c]])
    corners = corners @ turn + (pose.x, pose.y)
    placed, start = [], 0
    for part in parts:
        stop = start + len(part.points)
        placed.append(Part(part.role, corners[start:stop]))
        start = stop
    return placed, corners


def times_of(num_frames: int, fps: float) -> tuple[list[float], float]:
    """Return the time of every frame and the time of the last, in seconds."""
    times = [index / fps for index in range(num_frames)]
    return times, times[-1]


def trajectory(
    spec: SceneSpec, *, num_frames: int = 17, fps: float = 8.0, height: int = 64, width: int = 96
) -> NDArray[np.float64]:
    """Compute the box around every object in every frame.

    Returns:
        (objects t 4): left, top, right, bottom in pixels, edges of the frame at 0 and width or height; a box may
        reach outside the frame. The line around an object is not counted.
    """
    aspect = width / height
    times, duration = times_of(num_frames, fps)
    boxes = np.zeros((len(spec.objects), num_frames, 4))
    for index, one in enumerate(spec.objects):
        path = Path(spec, index, aspect=aspect, duration=duration)
        for frame, seconds in enumerate(times):
            view = view_at(spec, progress_at(seconds, duration), aspect)
            _, corners = placed_parts(one, path.at(seconds), seconds)
            screen = ((corners - (view.x, view.y)) * view.zoom + (aspect / 2, 0.5)) * height
            boxes[index, frame] = *screen.min(axis=0), *screen.max(axis=0)
    return boxes
