"""The exact truth about a Storyboard clip, as JSON and back, and the split that it belongs to."""

import hashlib
from dataclasses import asdict, dataclass, fields
from typing import Any

from cogvx.data.storyboard import vocabulary as words
from cogvx.errors import InputError


@dataclass(frozen=True)
class ObjectSpec:
    """One object: what it is, and where the middle of its path lies.

    `x` and `y` are fractions of the frame's width and height (0, 0 is the top left corner), before the camera moves;
    a renderer moves them inwards where the path would leave the frame.
    """

    kind: str
    colour: str
    size: str
    action: str
    x: float = 0.5
    y: float = 0.5


@dataclass(frozen=True)
class SceneSpec:
    """One clip: everything that decides its pixels, but for its length, rate and resolution.

    `seed` only varies the small details of the background.
    """

    objects: tuple[ObjectSpec, ...]
    scene: str
    style: str = "flat"
    camera: str = "still"
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the truth as JSON values."""
        record = asdict(self)
        record["objects"] = [asdict(one) for one in self.objects]
        return record

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "SceneSpec":
        """Read the truth from JSON values.

        Raises:
            InputError: A key is unknown or missing, or the scene is not legal.
        """
        try:
            unknown = set(record) - {field.name for field in fields(cls)}
            if unknown:
                raise InputError(f"storyboard truth: unknown key {sorted(unknown)[0]!r}")
            spec = cls(**{**record, "objects": tuple(ObjectSpec(**one) for one in record["objects"])})
            problem = why_illegal(spec) if isinstance(spec.seed, int) else f"seed {spec.seed!r} is not a whole number"
        except (TypeError, KeyError, AttributeError) as error:
            raise InputError(f"storyboard truth: {error}") from error
        if problem:
            raise InputError(f"storyboard truth: {problem}")
        return spec


def layout_of(objects: tuple[ObjectSpec, ...]) -> str:
    """Say how objects share the frame: "single", "rows" or "columns"."""
    if len(objects) == 1:
        return "single"
    actions = {one.action for one in objects}
    return "rows" if actions & words.HORIZONTAL and not actions & words.VERTICAL else "columns"


def why_illegal(spec: SceneSpec) -> str | None:
    """Say what is wrong with a scene, or None if it can be drawn and everything in it be seen."""
    for value, known, what in (
        (spec.scene, words.SCENES, "scene"),
        (spec.style, words.STYLES, "style"),
        (spec.camera, words.CAMERAS, "camera"),
    ):
        if value not in known:
            return f"unknown {what} {value!r}; choose from {', '.join(known)}"
    count = len(spec.objects)
    if not 1 <= count <= words.MAX_OBJECTS:
        return f"{count} objects; from 1 to {words.MAX_OBJECTS} are possible"
    for one in spec.objects:
        problem = _why_object_illegal(one, spec, count)
        if problem:
            return problem
    actions = {one.action for one in spec.objects}
    if count == 3 and (actions & words.HORIZONTAL and actions & words.VERTICAL or "orbit" in actions):
        return "three objects cannot move sideways and up or down together, nor orbit"
    return None


def _why_object_illegal(one: ObjectSpec, spec: SceneSpec, count: int) -> str | None:
    for value, known, what in (
        (one.kind, words.OBJECTS, "object"),
        (one.colour, words.COLOURS, "colour"),
        (one.size, words.SIZES, "size"),
    ):
        if value not in known:
            return f"unknown {what} {value!r}; choose from {', '.join(known)}"
    if one.action not in words.actions_of(one.kind):
        return f"a {one.kind} cannot {one.action!r}; choose from {', '.join(words.actions_of(one.kind))}"
    if one.colour not in words.colours_in(spec.scene, spec.style):
        return f"a {one.colour} {one.kind} would not be seen in the scene {spec.scene!r}, style {spec.style!r}"
    if one.size not in words.SIZES[: 4 - count]:
        return f"a {one.size} {one.kind} is too big among {count} objects"
    if not (0.0 <= one.x <= 1.0 and 0.0 <= one.y <= 1.0):
        return f"position ({one.x}, {one.y}) is not inside the frame (0 to 1)"
    return None


def combinations_of(spec: SceneSpec) -> tuple[str, ...]:
    """Name the combination "kind/colour/action/scene" of every object."""
    return tuple(f"{one.kind}/{one.colour}/{one.action}/{spec.scene}" for one in spec.objects)


def is_held_out(combination: str) -> bool:
    """Whether a combination "kind/colour/action/scene" is in the fixed tenth that training never sees."""
    return int.from_bytes(hashlib.sha256(combination.encode()).digest(), "big") % 10 == 0


def split_of(spec: SceneSpec) -> str:
    """Return "test" if the combination of any object is held out, else "train"."""
    return "test" if any(map(is_held_out, combinations_of(spec))) else "train"
