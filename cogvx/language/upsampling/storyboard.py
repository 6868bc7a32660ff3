"""Free prompts to the captions that the embedded models were trained on, by rules; nothing is asked or loaded.

The embedded models know a small drawn world (cogvx.data.storyboard). These rules look for its objects, colours,
actions and scenes in a prompt, under many other names, fill in what the prompt leaves open, and write the caption of
that scene. Whatever that world has not is left out, and said so.
"""

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cogvx.data.storyboard import vocabulary as world
from cogvx.data.storyboard.captions import dense_caption, plain_caption
from cogvx.data.storyboard.spec import ObjectSpec, SceneSpec, layout_of, why_illegal
from cogvx.data.storyboard.wording import ACTION_WORDS, CAMERA_WORDS, OBJECT_WORDS, SCENE_WORDS, SIZE_WORDS, STYLE_WORDS
from cogvx.errors import InputError
from cogvx.language.upsampling.rewrite import Rewritten

if TYPE_CHECKING:
    import numpy as np

# Other names, besides those that the captions use.
_OBJECTS = {
    "circle": "balloon bubble coin dot globe moon planet ring sphere sun wheel",
    "square": "block crate cube gift package parcel present rectangle tile",
    "triangle": "cone pyramid",
    "star": "comet starfish",
    "heart": "valentine",
    "diamond": "crystal jewel kite rhombus",
    "car": "bus cab jeep taxi truck van vehicle",
    "boat": "canoe ferry raft ship vessel yacht",
    "fish": "dolphin goldfish salmon shark whale",
    "bird": "crow dove duck eagle goose gull hawk owl parrot pigeon robin seagull sparrow swan",
    "tree": "birch fir oak palm pine willow",
    "house": "barn building cabin castle hut villa",
    "flower": "daisy lily poppy rose sunflower tulip",
    "person": "boy child dancer girl kid lady man people runner somebody someone walker woman",
}
_COLOURS = {
    "red": "crimson ruby scarlet",
    "orange": "amber tangerine",
    "yellow": "gold golden lemon",
    "green": "emerald lime olive",
    "blue": "azure cyan navy turquoise",
    "purple": "indigo lavender lilac violet",
    "pink": "magenta",
    "white": "ivory silver",
}
_ACTIONS = {
    "move": "come cross cruise drift drive float fly glide go head hurry move pass race ride roll run rush sail slide "
    "soar speed swim travel walk stroll march jog wander",
    "move_up": "ascend climb lift rise",
    "move_down": "descend dive drop fall land sink",
    "bounce": "bob bounce hop",
    "jump": "jump leap skip",
    "spin": "pirouette revolve rotate spin swirl turn twirl twist whirl dance",
    "grow": "bloom blossom enlarge expand grow inflate swell",
    "shrink": "contract deflate shrink",
    "orbit": "orbit",
    "fade": "disappear dissolve fade vanish",
    "wave": "greet wave",
    "still": "hover lie park pause pose rest sit sleep stand stay wait",
}
_SCENES = {
    "field": "farm garden grass grassland hill lawn meadow park pasture",
    "sea": "aquarium bay beach harbour harbor lake ocean pond river shore underwater water",
    "night": "galaxy midnight moonlight space starlight starry",
    "desert": "dune dunes sahara sand",
    "snow": "arctic blizzard ice snowy winter",
    "city": "downtown road street town traffic urban",
    "room": "bedroom indoor indoors inside kitchen",
    "sunset": "dawn dusk evening sunrise twilight",
}
_SIZES = {"small": "little mini miniature tiny", "large": "big enormous giant gigantic great huge"}
_STYLES = {
    "pixel": "8bit pixelated pixels",
    "sketch": "doodle drawing pencil sketched",
    "watercolour": "aquarelle painted painting watercolor",
    "flat": "cartoon",
}
_CLOTHES = "clothes coat dress hat hoodie jacket jumper pullover robe shirt suit sweater trousers uniform"
_SIDES = {"left": "left leftward leftwards", "right": "right rightward rightwards"}
_HEIGHTS = {"up": "up upward upwards skyward", "down": "down downward downwards"}

# What an object is and does when the prompt does not say: colours in the order in which they are tried.
_OWN_COLOUR = {"tree": "green", "fish": "orange", "house": "red", "flower": "pink", "heart": "red", "star": "yellow"}
_COLOUR_ORDER = ("red", "yellow", "blue", "orange", "purple", "green", "white", "pink")
_OWN_ACTION = {"car": "move_right", "boat": "move_right", "fish": "move_right", "bird": "move_right"}
_OWN_ACTION |= {"person": "walk_right", "tree": "still", "house": "still", "flower": "grow", "heart": "bounce"}
_OWN_SCENE = {"boat": "sea", "fish": "sea", "car": "city", "house": "field"}


@dataclass
class _Found:
    """What a prompt says, as far as the world has it."""

    objects: list[dict[str, str]] = field(default_factory=list)
    scene: str | None = None
    style: str = "flat"
    camera: str = "still"
    sized: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StoryboardUpsampler:
    """Rewrites prompts for the embedded models by rules."""

    name: str = "storyboard"
    concurrent: bool = False

    def settings(self) -> dict[str, Any]:
        """Return what decides the result besides the prompt."""
        return {"engine": "storyboard", "rules": 1}

    def rewrite(self, prompt: str, image: "np.ndarray | None" = None) -> Rewritten:
        """Rewrite one prompt; the image is not looked at.

        Raises:
            InputError: Nothing in it can be drawn.
        """
        found = _read(prompt)
        if not found.objects:
            shown = ", ".join(world.OBJECTS)
            raise InputError(f"--lm storyboard found nothing in the prompt that the embedded models can draw: {shown}")
        spec = _complete(found)
        text = dense_caption(spec, random.Random(0)) if found.sized else plain_caption(spec)
        return Rewritten(text, prompt, self.name, self.settings(), notes=tuple(found.notes))


def _read(prompt: str) -> _Found:
    """Find the things of the world in a prompt, from left to right."""
    found = _Found()
    waiting: dict[str, str] = {}  # what was said before the object that it belongs to
    for kind, value in _marks(prompt.lower()):
        last = found.objects[-1] if found.objects else None
        if kind == "object":
            found.objects.append({"kind": value, **waiting})
            waiting = {}
        elif kind == "clothes":
            (last if last is not None else waiting).setdefault("colour", value)
        elif kind in ("colour", "size"):
            waiting[kind] = value
            found.sized = found.sized or kind == "size"
        elif kind == "action":
            (last if last is not None else waiting).setdefault("action", value)
        elif kind in ("side", "height"):
            (last if last is not None else waiting).setdefault("way", value)
        elif kind == "scene":
            found.scene = found.scene or value
        elif kind == "style":
            found.style = value
        else:
            found.camera = value
    return found


def _marks(text: str) -> Iterator[tuple[str, str]]:
    """Yield what the words of a text mean, in order: ("object", "car"), ("colour", "red")."""
    for phrase in _PHRASE.finditer(text):
        meaning = _PHRASES.get(phrase[0])
        if meaning is None:
            meaning = next((_WORDS[word] for word in _forms(phrase[0]) if word in _WORDS), None)
        if meaning is not None:
            yield meaning


def _forms(word: str) -> Iterator[str]:
    """The forms under which a word may stand in the tables: itself, then without its ending."""
    yield word
    for end in ("ies", "es", "s", "ing", "ed", "d"):
        if word.endswith(end) and len(word) > len(end) + 1:
            stem = word[: -len(end)]
            yield stem
            if end in ("ing", "ed"):
                yield stem + "e"
                if len(stem) > 2 and stem[-1] == stem[-2]:
                    yield stem[:-1]
            if end == "ies":
                yield stem + "y"


def _complete(found: _Found) -> SceneSpec:
    """Make a scene that can be drawn of what was found, and note what had to give way."""
    wanted: dict[str, dict[str, str]] = {}
    for one in found.objects:
        wanted.setdefault(one["kind"], one)
    chosen = list(wanted.values())[: world.MAX_OBJECTS]
    if len(wanted) > len(chosen):
        found.notes.append(f"left out, as three objects are the most: {', '.join(list(wanted)[world.MAX_OBJECTS :])}")
    scene = found.scene or next((_OWN_SCENE[one["kind"]] for one in chosen if one["kind"] in _OWN_SCENE), "field")
    visible = world.colours_in(scene, found.style)
    said = {one["colour"] for one in chosen if one.get("colour") in visible}
    objects: list[ObjectSpec] = []
    for one in chosen:
        kind, taken = one["kind"], {other.colour for other in objects}
        colour = one.get("colour") or ""
        if colour not in visible or colour in taken:
            free = [name for name in (_OWN_COLOUR.get(kind, ""), *_COLOUR_ORDER) if name in visible]
            other = next(name for name in free if name not in taken | said)
            if colour:
                found.notes.append(f"the {kind} is {other}: {colour} would not be told apart there")
            colour = other
        sizes = world.SIZES[: 4 - len(chosen)]
        size = one.get("size", "medium")
        objects.append(ObjectSpec(kind, colour, size if size in sizes else sizes[-1], _action(one, found)))
    spec = SceneSpec(_placed(tuple(objects)), scene, found.style, found.camera)
    problem = why_illegal(spec)
    if problem:  # three that move in all directions: the later ones stay
        found.notes.append(problem)
        kept = [objects[0], *(replace(one, action="still") for one in objects[1:])]
        spec = replace(spec, objects=_placed(tuple(kept)))
    return spec


def _placed(objects: tuple[ObjectSpec, ...]) -> tuple[ObjectSpec, ...]:
    """Put objects beside each other, or above each other where they move sideways."""
    if len(objects) == 1:
        return objects
    lanes = [(lane + 0.5) / len(objects) for lane in range(len(objects))]
    columns = layout_of(objects) == "columns"
    return tuple(
        replace(one, x=lane if columns else 0.5, y=0.5 if columns else lane)
        for one, lane in zip(objects, lanes, strict=True)
    )


def _action(one: dict[str, str], found: _Found) -> str:
    """The action of an object: what was said, as far as it can do that."""
    kind, said, way = one["kind"], one.get("action"), one.get("way")
    person = kind == "person"
    action = said or (f"move_{way}" if way else _OWN_ACTION.get(kind, "move_right"))
    if action == "move" or (action in world.MOVES and way in ("left", "right") and person):
        action = f"move_{way or 'right'}"
    if action == "still" and way and said is None:
        action = f"move_{way}"
    if person:
        action = {"move_left": "walk_left", "move_right": "walk_right", "bounce": "jump", "move_up": "jump"}.get(
            action, action
        )
    else:
        action = {"jump": "bounce", "walk_left": "move_left", "walk_right": "move_right"}.get(action, action)
    able = world.actions_of(kind)
    if action not in able:
        other = _OWN_ACTION.get(kind, "move_right")
        verb = ACTION_WORDS[action][0][0]
        found.notes.append(f"a {kind} {ACTION_WORDS[other][0][0]} here, as none {verb}")
        action = other
    return action


def _tables() -> tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]]]:
    """Single words, and phrases, with what they mean."""
    words: dict[str, tuple[str, str]] = {}
    phrases: dict[str, tuple[str, str]] = {}

    def add(kind: str, name: str, texts: Iterable[str]) -> None:
        for text in texts:
            if "{" not in text:
                (phrases if " " in text else words).setdefault(text, (kind, name))

    for kind, name, texts in (
        *(("camera", name, texts) for name, texts in CAMERA_WORDS.items()),
        *(("style", name, texts) for name, texts in STYLE_WORDS.items()),
        *(("scene", name, texts) for name, texts in SCENE_WORDS.items()),
        *(("object", name, texts) for name, texts in OBJECT_WORDS.items()),
        *(("size", name, texts) for name, texts in SIZE_WORDS.items()),
    ):
        add(kind, name, [name.replace("_", " "), *texts])
    for name, pairs in ACTION_WORDS.items():
        add("action", "still" if name == "stand" else name, [form for pair in pairs for form in pair])
    for kind, table in (
        *(("object", _OBJECTS), ("colour", _COLOURS), ("action", _ACTIONS), ("scene", _SCENES), ("size", _SIZES)),
        *(("style", _STYLES), ("side", _SIDES), ("height", _HEIGHTS)),
    ):
        for name, listed in table.items():
            add(kind, name, listed.split())
    for colour in world.COLOURS:
        words[colour] = ("colour", colour)
        for before in ("in", "wearing", "dressed in", "wears"):  # "a man in red", and what he wears
            phrases[f"{before} {colour}"] = ("clothes", colour)
            for thing in _CLOTHES.split():
                phrases[f"{before} a {colour} {thing}"] = ("clothes", colour)
                phrases[f"{before} {colour} {thing}"] = ("clothes", colour)
    return words, phrases


_WORDS, _PHRASES = _tables()
_LONGEST_FIRST = sorted(_PHRASES, key=len, reverse=True)
_PHRASE = re.compile("|".join([*(rf"\b{re.escape(phrase)}\b" for phrase in _LONGEST_FIRST), r"[a-z0-9-]+"]))
