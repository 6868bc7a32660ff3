"""English captions of a scene in many wordings: short ones, and dense ones that state everything."""

import random
from collections.abc import Callable

import numpy as np

from cogvx.data.storyboard import vocabulary as words
from cogvx.data.storyboard.spec import ObjectSpec, SceneSpec, layout_of
from cogvx.data.storyboard.wording import (
    ACTION_WORDS,
    CAMERA_WORDS,
    OBJECT_WORDS,
    PLACE_WORDS,
    SCENE_WORDS,
    SIZE_WORDS,
    STILL_CAMERA_WORDS,
    STYLE_PREFIX,
    STYLE_WORDS,
    an,
)

MAX_DENSE_WORDS = 45
PLAIN = 0.3  # share of short captions in the canonical wording


def _rng(rng: "random.Random | np.random.Generator") -> random.Random:
    return random.Random(int(rng.integers(2**63))) if isinstance(rng, np.random.Generator) else rng


def _verb(one: ObjectSpec, form: int, rng: random.Random, *, plain: bool) -> str:
    """Return an action as "moves to the right" (form 0) or "moving to the right" (form 1)."""
    key = "stand" if one.kind == "person" and one.action == "still" else one.action
    choices = ACTION_WORDS[key]
    return (choices[0] if plain else rng.choice(choices))[form]


def _noun(one: ObjectSpec, rng: random.Random, *, plain: bool, sized: bool) -> str:
    """Return an object as "a big red car"."""
    nouns = OBJECT_WORDS[one.kind]
    if one.kind == "person" and one.colour in ("white", "yellow"):  # the clothes have the colour: say no less
        nouns = [noun for noun in nouns if "{colour}" in noun]
    noun = nouns[0] if plain else rng.choice(nouns)
    size = rng.choice(SIZE_WORDS[one.size]) + " " if sized else ""
    who = noun.format(colour=one.colour) if "{colour}" in noun else f"{one.colour} {noun}"
    return an(size + who)


def _place(one: ObjectSpec, spec: SceneSpec, rng: random.Random) -> str:
    """Return where an object is or passes, as far as its action leaves that open."""
    if one.action == "orbit" and len(spec.objects) == 1:
        return ""
    across = "left" if one.x < 0.42 else "right" if one.x > 0.58 else "middle"
    down = "top" if one.y < 0.40 else "bottom" if one.y > 0.60 else "middle"
    layout = layout_of(spec.objects)
    if layout == "columns" or one.action in ("move_up", "move_down"):
        return rng.choice(PLACE_WORDS[f"x-{across}"])
    if layout == "rows" or one.action in words.HORIZONTAL:
        return rng.choice(PLACE_WORDS[f"y-{down}"])
    return rng.choice(PLACE_WORDS[f"{down}-{across}"])


def _subject(one: ObjectSpec, spec: SceneSpec, rng: random.Random, *, dense: bool, plain: bool, form: int) -> str:
    """Return an object, what it does and, in dense captions, where."""
    sized = dense or (not plain and rng.random() < 0.4)
    text = _noun(one, rng, plain=plain, sized=sized)
    verb = _verb(one, form if form != 2 else 1, rng, plain=plain)
    joiner = " is " if form == 2 else " "
    place = _place(one, spec, rng) if dense else ""
    return text + joiner + verb + (f" {place}" if place else "")


def _join(items: list[str], rng: random.Random, *, plain: bool) -> str:
    if len(items) == 1:
        return items[0]
    last = " and " if plain or rng.random() < 0.7 else " while "
    return ", ".join(items[:-1]) + last + items[-1]


def _body(spec: SceneSpec, rng: random.Random, *, dense: bool, plain: bool) -> str:
    """Return the objects and the scene as one clause."""
    scene = SCENE_WORDS[spec.scene][0] if plain else rng.choice(SCENE_WORDS[spec.scene])
    form = 0 if plain else rng.choices((0, 1, 2), weights=(5, 3, 3))[0]
    items = [_subject(one, spec, rng, dense=dense, plain=plain, form=form) for one in spec.objects]
    joined = _join(items, rng, plain=plain or form == 1)
    if not plain and rng.random() < 0.15:
        return f"{scene}, {joined}"
    return f"{joined} {scene}"


def _with_style(body: str, spec: SceneSpec, rng: random.Random, *, plain: bool, stated: bool) -> str:
    if not stated:
        return body
    if not plain and rng.random() < 0.35:
        return f"{rng.choice(STYLE_PREFIX[spec.style])}: {body}"
    return f"{body}, {rng.choice(STYLE_WORDS[spec.style][:1] if plain else STYLE_WORDS[spec.style])}"


def _sentence(text: str, rng: random.Random, *, plain: bool) -> str:
    """Return a caption in lower case without a full stop, or as a sentence."""
    if plain or rng.random() < 0.4:
        return text
    return text[0].upper() + text[1:] + "."


def short_caption(spec: SceneSpec, rng: "random.Random | np.random.Generator") -> str:
    """Return a short caption: objects, colours, actions and the scene.

    A style other than flat and a camera that moves are stated, sizes only at times.
    """
    rng = _rng(rng)
    plain = rng.random() < PLAIN
    text = _with_style(_body(spec, rng, dense=False, plain=plain), spec, rng, plain=plain, stated=spec.style != "flat")
    if spec.camera != "still":
        text += ", " + (CAMERA_WORDS[spec.camera][0] if plain else rng.choice(CAMERA_WORDS[spec.camera]))
    return _sentence(text, rng, plain=plain)


def dense_caption(spec: SceneSpec, rng: "random.Random | np.random.Generator") -> str:
    """Return a caption of at most 45 words that states everything: sizes, places, style and camera too."""
    rng = _rng(rng)
    camera_words = STILL_CAMERA_WORDS if spec.camera == "still" else CAMERA_WORDS[spec.camera]
    text = ""
    for _ in range(20):
        body = _body(spec, rng, dense=True, plain=False)
        text = _with_style(body, spec, rng, plain=False, stated=True) + ", " + rng.choice(camera_words)
        if len(text.split()) <= MAX_DENSE_WORDS:
            break
    return text[0].upper() + text[1:] + "."


def captions(spec: SceneSpec, rng: "random.Random | np.random.Generator") -> dict[str, str]:
    """Return one caption of each length, drawn at random: {"short": …, "dense": …}."""
    rng = _rng(rng)
    return {"short": short_caption(spec, rng), "dense": dense_caption(spec, rng)}


def plain_caption(spec: SceneSpec) -> str:
    """Return the canonical caption, as in "a red star moves to the right over a green field"."""
    rng = random.Random(0)
    text = _with_style(_body(spec, rng, dense=False, plain=True), spec, rng, plain=True, stated=spec.style != "flat")
    return text if spec.camera == "still" else f"{text}, {CAMERA_WORDS[spec.camera][0]}"


def caption_variants(spec: SceneSpec, num: int = 10, *, seed: int = 0, length: str = "short") -> list[str]:
    """Return up to `num` different captions of a length ("short" or "dense"), the plain one first among the short."""
    make: Callable[[SceneSpec, random.Random], str] = short_caption if length == "short" else dense_caption
    rng = random.Random(f"{seed}")
    found = dict.fromkeys([plain_caption(spec)] if length == "short" else [])
    for _ in range(20 * num):
        if len(found) >= num:
            break
        found.setdefault(make(spec, rng))
    return list(found)[:num]
