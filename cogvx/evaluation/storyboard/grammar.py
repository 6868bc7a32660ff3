"""A prompt to what it asks for: the captions' grammar read backwards, every word of it.

A prompt is what `cogvx.data.storyboard.captions` writes: a style and a colon, or none; objects with what they do, and
where, joined by commas, "and" or "while"; the scene, before or after them; a style; a camera. Anything may be left out
but one object, scenes may be named a little more freely, and marks may be missing, as a captioner writes none. What is
left over is an error, not a guess.
"""

import re
from collections.abc import Iterable, Mapping

from cogvx.data.storyboard import vocabulary as words
from cogvx.data.storyboard import wording
from cogvx.errors import InputError
from cogvx.evaluation.storyboard.request import AskedObject, Request, action_of

_PREPOSITIONS = tuple("over|on|in|above|under|against|at|inside|in front of|indoors in|across".split("|"))
_ARTICLES = ("a", "an", "the")
_SHORT_SCENES = {  # beside the captions' own: how people call the scenes
    "field": ("field", "meadow", "grass"),
    "sea": ("sea", "water"),
    "night": ("night", "night sky"),
    "desert": ("dunes",),
    "snow": ("hills in winter", "winter hills"),
    "city": ("street", "town"),
    "sunset": ("pink sky",),
}
_IGNORED_BEFORE_END = " ,.;!"


def read_prompt(prompt: str) -> Request:
    """Return what a prompt asks for; what it leaves open is None.

    As in the world's captions, a prompt without a style asks for the flat one, and without a camera for a still one.

    Raises:
        InputError: It says something that is not in the words of the world, or that no clip of the world can show.
    """
    text = _normal(prompt)
    reader = _Reader(text)
    prefix = reader.take(_PREFIX)
    scene = reader.take(_SCENE_FIRST)
    objects = [_read_object(reader)]
    while reader.match(_JOINED_OBJECT):
        reader.take(_JOINER)
        objects.append(_read_object(reader))
    scene = scene or reader.take(_SCENE)
    style, camera = prefix, None
    for _ in range(2):  # in either order
        style = style or reader.take(_STYLE)
        camera = camera or reader.take(_CAMERA)
    if reader.rest:
        raise InputError(
            f"the prompt {prompt[:100]!r} is not in the words of Storyboard from {reader.rest[:40]!r} on; word it as "
            "the captions of `cogvx data synth` are"
        )
    return Request(tuple(objects), scene, style or "flat", camera or "still").check()


class _Reader:
    """A text and how far it was read."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0

    @property
    def rest(self) -> str:
        return self.text[self.place :].strip(_IGNORED_BEFORE_END)

    def match(self, pattern: re.Pattern[str]) -> "re.Match[str] | None":
        return pattern.match(self.text, self.place)

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """Read what a pattern matches here, and return the name of the group that did; None if it does not match."""
        found = self.match(pattern)
        if found is None:
            return None
        self.place = found.end()
        return _name(found.lastgroup) if found.lastgroup else ""


def _read_object(reader: _Reader) -> AskedObject:
    found = reader.match(_OBJECT)
    if found is None:
        raise InputError(
            f"the prompt {reader.text[:100]!r} names no object of Storyboard at {reader.rest[:40]!r}; it knows "
            f"{', '.join(words.OBJECTS)}"
        )
    reader.place = found.end()
    kind, colour = _NOUNS[found["noun"]], found["colour"] or found["clothes"]
    action = reader.take(_VERB)
    reader.take(_PLACE)
    size = _SIZES[found["size"]] if found["size"] else None
    return AskedObject(kind, colour, size, action_of(kind, action) if action else None)


def _normal(text: str) -> str:
    """Return a text in lower case and one spelling, with single spaces and no hyphens and full stop."""
    text = re.sub(r"\bwatercolor\b", "watercolour", text.lower().replace("-", " "))
    return " ".join(text.split()).strip(_IGNORED_BEFORE_END)


def _any(phrases: Iterable[str]) -> str:
    """Return a pattern of any of some phrases, the longest that fits, as whole words."""
    phrases = map(_normal, phrases)
    return rf"(?:{'|'.join(re.escape(phrase) for phrase in sorted(set(phrases), key=lambda one: (-len(one), one)))})\b"


def _named(table: Mapping[str, Iterable[str]]) -> str:
    """Return a pattern with a group for every phrase, the longest first, whose name is the table's key."""
    pairs = sorted(
        ((phrase, name) for name, phrases in table.items() for phrase in set(map(_normal, phrases))), key=_longest
    )
    groups = (rf"(?P<{name}__{index}>{re.escape(phrase)})" for index, (phrase, name) in enumerate(pairs))
    return rf"(?:{'|'.join(groups)})\b"


def _longest(pair: tuple[str, str]) -> tuple[int, str]:
    return -len(pair[0]), pair[0]


def _name(group: str) -> str:
    return group.rpartition("__")[0]


def _bare(phrase: str) -> str:
    """Return a scene's phrase without its preposition and article."""
    found = re.match(rf"(?:(?:{_any(_PREPOSITIONS)}) )?(?:(?:{_any(_ARTICLES)}) )?", phrase)
    return phrase[found.end() :] if found else phrase


_SIZES = {_normal(phrase): name for name, phrases in wording.SIZE_WORDS.items() for phrase in phrases}
_NOUNS = {  # of "person in {colour}" the noun alone: the clothes are read apart
    _normal(noun.partition(" in {")[0].partition(" dressed")[0]): kind
    for kind, nouns in wording.OBJECT_WORDS.items()
    for noun in nouns
} | {"woman": "person"}
_COLOURS = _any(words.COLOURS)
_OBJECT = re.compile(
    rf"(?:{_any(_ARTICLES)} )?(?:(?P<size>{_any(_SIZES)}) )?(?:(?P<colour>{_COLOURS}) )?(?P<noun>{_any(_NOUNS)})"
    rf"(?: (?:dressed )?in (?P<clothes>{_COLOURS})(?: clothes\b)?)?"
)
_JOINER = re.compile(rf",? (?:and|while) |, | (?={_any(_ARTICLES)} )")
_JOINED_OBJECT = re.compile(rf"(?:{_JOINER.pattern}){_OBJECT.pattern}")
_ACTIONS = {
    name: [form for pair in pairs for form in pair]
    for name, pairs in (
        wording.ACTION_WORDS | {"still": [*wording.ACTION_WORDS["still"], *wording.ACTION_WORDS["stand"]]}
    ).items()
    if name != "stand"
}
_VERB = re.compile(rf" (?:is )?{_named(_ACTIONS)}")
_PLACE = re.compile(rf" {_any(phrase for phrases in wording.PLACE_WORDS.values() for phrase in phrases)}")
_SCENE_NAMES = {
    name: [*map(_bare, phrases), *_SHORT_SCENES.get(name, ())] for name, phrases in wording.SCENE_WORDS.items()
}
_SCENE_PATTERN = rf"(?:(?:{_any(_PREPOSITIONS)}) )?(?:(?:{_any(_ARTICLES)}) )?{_named(_SCENE_NAMES)}"
_SCENE = re.compile(rf",? {_SCENE_PATTERN}")
_SCENE_FIRST = re.compile(rf"{_SCENE_PATTERN},? ")
_STYLE = re.compile(rf",? {_named(wording.STYLE_WORDS)}")
_PREFIX = re.compile(rf"{_named(wording.STYLE_PREFIX)}:? ")
_CAMERA = re.compile(rf",? {_named(wording.CAMERA_WORDS | {'still': wording.STILL_CAMERA_WORDS})}")
