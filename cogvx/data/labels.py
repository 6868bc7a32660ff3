"""The names of faults that clips are labelled with, and how the labels in a manifest are read as truth.

A label is a number from 0 to 1: 1 says that the clip has the fault, 0 that it has not.
"""

from collections.abc import Mapping
from typing import Any

from cogvx.errors import InputError

LABEL_TITLES: dict[str, str] = {
    "editing": "Editing",
    "static": "Lack of Motion Connectivity",
    "lecture": "Lecture Type",
    "text": "Text Dominated",
    "screenshot": "Noisy Screenshots",
    "low_quality": "Low Quality",
}
"""Name -> what the CogVideoX paper calls it ("Data"); the names and their order are those of its Table 14."""

NEGATIVE_LABELS: tuple[str, ...] = tuple(LABEL_TITLES)

LABEL_MEANINGS: dict[str, str] = {
    "editing": "The clip was visibly worked on: cuts, cross-fades, split screens, stickers, filters or other effects.",
    "static": "Its pictures do not follow from one another by motion: a slide show, a still, frozen or jumping frames.",
    "lecture": "It mostly shows a person who talks and hardly moves: a lesson, an interview, a live stream.",
    "text": "A large part of the picture is text, or text is what it is about: titles, slides, lyrics, captions.",
    "screenshot": "It was recorded from the screen of a computer or phone: windows, pages, menus, a pointer.",
    "low_quality": "It was badly filmed or stored: blurred, noisy, blocky, far too dark, or the camera shakes a lot.",
}
"""Name -> what it means, in a sentence, for people and for language models."""

_UNSURE = 0.5


def title_of(label: str) -> str:
    """Return what to call a label before people; one that we do not know keeps its name."""
    return LABEL_TITLES.get(label, label)


def truth_of(entry: Mapping[str, Any], label: str) -> bool | None:
    """Return whether a clip has a fault, by its entry's labels; None if nobody said, or 0.5 says "unsure"."""
    value = entry.get("labels", {}).get(label)
    return None if value is None or value == _UNSURE else bool(value > _UNSURE)


def source_of(entry: Mapping[str, Any]) -> str:
    """Return which original a clip comes from; clips of one original are never on both sides of a split.

    It is the entry's "source", which cutting writes, else its file.

    Raises:
        InputError: The entry names neither.
    """
    for field in ("source", "video", "image"):
        if isinstance(entry.get(field), str) and entry[field]:
            return str(entry[field])
    raise InputError("an entry names neither 'source', 'video' nor 'image'")
