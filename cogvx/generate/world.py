"""What the embedded model was shown, so that a prompt about other things can be answered with a word about it."""

import functools
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_GLUE = """
a an the and or but while with without of to in on at by for from into onto over under above below through across along
around near next beside behind between past towards toward up down left right is are was be being been it its his her
their this that these those there here then as so very slowly quickly fast gently one two three some many few small
little big large tiny video clip scene picture style drawing drawn simple background camera
""".split()


def outside_world(prompt: str) -> list[str]:
    """Return the words of a prompt that no caption of the embedded model's training has, in order, each once."""
    known = _known_words()
    words = re.findall(r"[^\W\d_]+", prompt.lower())
    return list(dict.fromkeys(word for word in words if not known & {word, *_stems(word)}))


@functools.cache
def _known_words() -> frozenset[str]:
    from cogvx.data.storyboard import vocabulary, wording

    words = set(_GLUE)
    for text in [*_texts(vocabulary), *_texts(wording)]:
        for word in re.findall(r"[^\W\d_]+", text.lower()):
            words |= {word, *_stems(word)}
    return frozenset(words)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a module's tables."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, ModuleType):
        for name, item in vars(value).items():
            if not name.startswith("__") and isinstance(item, dict | list | tuple | frozenset):
                yield from _texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple | frozenset | set):
        for item in value:
            yield from _texts(item)


def _stems(word: str) -> set[str]:
    """The singular or plain forms that a word may be of; rough, as it only saves needless notes."""
    return {
        word[: -len(end)] for end in ("s", "es", "ing", "ed", "y") if word.endswith(end) and len(word) > len(end) + 2
    }
