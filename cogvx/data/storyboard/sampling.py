"""Random scenes with chosen odds; clip `index` of a seed is the same in every process and for every count."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal, TypeVar

import numpy as np

from cogvx.data.storyboard import vocabulary as words
from cogvx.data.storyboard.spec import ObjectSpec, SceneSpec, layout_of, split_of, why_illegal
from cogvx.errors import UsageError

ON_THE_GROUND = frozenset({"car", "tree", "house", "flower", "person"})  # these stand a little lower in the frame
MAX_TRIES = 2000

_Name = TypeVar("_Name", str, int)


def _even(names: tuple[str, ...]) -> Mapping[str, float]:
    return dict.fromkeys(names, 1.0)


@dataclass(frozen=True)
class StoryboardOptions:
    """The odds of everything, as weights (any positive scale); a name left out never comes."""

    objects: Mapping[str, float] = field(default_factory=lambda: _even(words.OBJECTS))
    colours: Mapping[str, float] = field(default_factory=lambda: _even(words.COLOURS))
    sizes: Mapping[str, float] = field(default_factory=lambda: {"small": 1.0, "medium": 2.0, "large": 1.5})
    actions: Mapping[str, float] = field(default_factory=lambda: _even(words.ACTIONS))
    scenes: Mapping[str, float] = field(default_factory=lambda: _even(words.SCENES))
    styles: Mapping[str, float] = field(
        default_factory=lambda: {"flat": 0.64, "pixel": 0.12, "sketch": 0.12, "watercolour": 0.12}
    )
    cameras: Mapping[str, float] = field(
        default_factory=lambda: {"still": 0.76, "pan_left": 0.06, "pan_right": 0.06, "zoom_in": 0.06, "zoom_out": 0.06}
    )
    counts: Mapping[int, float] = field(default_factory=lambda: {1: 0.72, 2: 0.21, 3: 0.07})
    split: Literal["train", "test", "any"] = "train"

    def __post_init__(self) -> None:
        for name, known in (
            ("objects", words.OBJECTS),
            ("colours", words.COLOURS),
            ("sizes", words.SIZES),
            ("actions", words.ACTIONS),
            ("scenes", words.SCENES),
            ("styles", words.STYLES),
            ("cameras", words.CAMERAS),
            ("counts", tuple(range(1, words.MAX_OBJECTS + 1))),
        ):
            odds = getattr(self, name)
            wrong = [key for key in odds if key not in known]
            if wrong:
                raise UsageError(f"storyboard {name}: unknown {wrong[0]!r}; choose from {', '.join(map(str, known))}")
            if not all(0 <= weight < inf for weight in odds.values()) or not sum(odds.values()) > 0:
                raise UsageError(f"storyboard {name}: weights must not be negative, and one of them must be positive")
        if self.split not in ("train", "test", "any"):
            raise UsageError(f"storyboard split: {self.split!r} is not train, test or any")


def _choose(rng: random.Random, odds: Mapping[_Name, float], legal: tuple[_Name, ...] | None = None) -> _Name | None:
    names = [name for name in odds if odds[name] > 0 and (legal is None or name in legal)]
    return rng.choices(names, weights=[odds[name] for name in names])[0] if names else None


def _place(rng: random.Random, kind: str, action: str, lane: int, count: int, columns: bool) -> tuple[float, float]:
    """Choose where the middle of an object's path lies, as fractions of the width and height."""
    if count == 1:
        if action == "orbit":
            return 0.5, 0.5
        x = rng.uniform(0.45, 0.55) if action in words.HORIZONTAL else rng.uniform(0.27, 0.73)
        y = rng.uniform(0.52, 0.66) if kind in ON_THE_GROUND else rng.uniform(0.36, 0.62)
    elif columns:
        x = (lane + 0.5) / count + rng.uniform(-0.03, 0.03)
        y = rng.uniform(0.42, 0.62)
    else:
        x = rng.uniform(0.46, 0.54) if action in words.HORIZONTAL else rng.uniform(0.25, 0.75)
        y = (lane + 0.5) / count + rng.uniform(-0.02, 0.02)
    return round(x, 3), round(y, 3)


def _draw(rng: random.Random, options: StoryboardOptions) -> SceneSpec | None:
    """Draw one scene, legal or not; None where the odds allow nothing."""
    scene, style = _choose(rng, options.scenes), _choose(rng, options.styles)
    camera, count = _choose(rng, options.cameras), _choose(rng, options.counts)
    assert scene and style and camera and count  # the options are checked when made
    objects: list[ObjectSpec] = []
    for _ in range(count):
        kind = _choose(rng, options.objects)
        assert kind
        taken = {one.colour for one in objects}
        colours = tuple(name for name in words.colours_in(scene, style) if name not in taken)
        colour = _choose(rng, options.colours, colours)
        action = _choose(rng, options.actions, words.actions_of(kind))
        size = _choose(rng, options.sizes, words.SIZES[: 4 - count])
        if colour is None or action is None or size is None or kind in {one.kind for one in objects}:
            return None
        objects.append(ObjectSpec(kind, colour, size, action))
    columns = layout_of(tuple(objects)) == "columns"
    placed = []
    for lane, one in enumerate(objects):
        x, y = _place(rng, one.kind, one.action, lane, count, columns)
        placed.append(replace(one, x=x, y=y))
    return SceneSpec(tuple(placed), scene, style, camera, rng.randrange(2**31))


def sample_spec(rng: random.Random | np.random.Generator, options: StoryboardOptions | None = None) -> SceneSpec:
    """Draw a legal scene of the split that the options ask for.

    Objects of one scene differ in kind and in colour. A scene that is not legal or not of the split is drawn again,
    so the weights hold before those rules.

    Raises:
        UsageError: The options leave nothing that can be drawn.
    """
    options = options or StoryboardOptions()
    if isinstance(rng, np.random.Generator):
        rng = random.Random(int(rng.integers(2**63)))
    for _ in range(MAX_TRIES):
        spec = _draw(rng, options)
        if spec and not why_illegal(spec) and options.split in ("any", split_of(spec)):
            return spec
    raise UsageError(f"storyboard: no legal scene of split {options.split!r} in {MAX_TRIES} tries; widen the options")


def rng_of(seed: int, index: int) -> random.Random:
    """Return the random numbers of clip `index` of a seed, the same in every process."""
    return random.Random(hashlib.sha256(f"storyboard/{seed}/{index}".encode()).digest())


def spec_at(seed: int, index: int, options: StoryboardOptions | None = None) -> SceneSpec:
    """Return clip `index` of a seed: a function of these three alone."""
    return sample_spec(rng_of(seed, index), options)
