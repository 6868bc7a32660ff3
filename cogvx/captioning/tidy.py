"""Answers of language models -> captions: no markdown, no "The video shows", one paragraph, not too long."""

import re
from collections.abc import Callable

from cogvx.files import clean

_KIND = r"(?:video|clip|footage|film|sequence|scene|recording|animation|gif|image|picture|photo|frame|shot)"
_WHICH = r"(?:the|this|that|our|an?)\s+(?:(?:short|brief|provided|given|whole|entire|single|opening|first)\s+){0,2}"
_VERB = (
    r"(?:(?:then|primarily|mainly|also|vividly|clearly|beautifully)\s+)?"
    r"(?:shows?|captures?|features?|depicts?|presents?|displays?|showcases?|portrays?|illustrates?|contains?|describes?"
    r"|documents?|follows|highlights?|reveals?|demonstrates?|starts? with|begins? with|opens? (?:with|on|to)"
    r"|consists? of|is (?:about|of|showing|showcasing|displaying)|is (?=an? ))"
)
_OPENERS = (
    # "Sure! Here is a detailed description of the clip:", "Caption:", "Summary -"
    r"(?:sure|certainly|of course|absolutely|okay|ok)[\s,.!:]+",
    r"(?:here(?:'s|\u2019s| is| are)|below is)\s[^.:]{0,60}"
    r"\b(?:captions?|descriptions?|summary|answer|sentence)\b[^.:]{0,60}:",
    r"(?:(?:video|clip|short|detailed|dense|final|one[- ]sentence)\s+)*"
    r"(?:caption|summary|description|answer|output|response)\s*(?::|\s-)\s+",
    # "In this short video, we see", "As the clip begins, "
    rf"(?:in|throughout|across|as|when)\s+{_WHICH}{_KIND}s?(?:\s+(?:begins|starts|opens|unfolds|progresses))?\s*,",
    # "The video shows that", "This short clip opens with"
    rf"{_WHICH}{_KIND}s?\s+{_VERB}(?:\s+us\b)?(?:\s+(?:that|how)\b(?=\s+(?:an?|the|two|some|people)\b))?",
    rf"(?:this|it|that)\s+is\s+(?:an?|the)\s+(?:(?:short|brief)\s+)?{_KIND}\s+(?:of|showing|about|in which|where)\b",
    r"an?\s+(?:(?:short|brief)\s+)?(?:video|clip|footage|recording)\s+(?:of|showing|about|in which|where)\b",
    r"(?:we|you|viewers|the viewer)\s+(?:can\s+)?(?:sees?|observes?|are shown)\b",
    r"there\s+(?:is|are)\s+(?=an?\s+(?:video|clip))",
)
_OPENER = re.compile(rf"(?:{'|'.join(_OPENERS)})\s*", re.IGNORECASE)
_FENCE = re.compile(r"```[\w-]*")
_HEADING = re.compile(r"^[ \t]*(?:#{1,6}|>+)[ \t]+", re.MULTILINE)
_BULLET = re.compile(r"^[ \t]*(?:[-*+\u2022]|\d{1,2}[.)])[ \t]+", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:[-*_=][ \t]*){3,}$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\s]*\)")
_STRESS = re.compile(r"(\*{1,3}|_{1,3}|`+)(?=\S)(.+?)(?<=\S)\1(?![^\W_])")
_QUOTES = {'"': '"', "\u201c": "\u201d", "'": "'", "\u2018": "\u2019", "\u00ab": "\u00bb"}
# An end mark, perhaps a closing quote, and a space or a letter of a script that has no spaces.
_SENTENCE = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)\]]*\s+|(?<=[\u3002\uff01\uff1f])\s*")
# "a cart, a cart, and a cart"
_AGAIN = re.compile(r"\b(\w[^,;.!?]{1,60}?)(?:,\s*(?:and\s+)?\1\b)+", re.IGNORECASE)
_MIN_WORDS = 2  # of what an opener leaves over


def tidy(text: str) -> str:
    """Return a model's answer as a caption: one paragraph of plain sentences that begins with what is seen.

    Markdown, line breaks, quotes around the whole, announcements ("Here is a caption:") and openers ("The video
    shows") go, the first letter is a capital one, and what small models say over and over ("a cart, a cart, a cart",
    the same sentence twice) stays once.
    """
    text = _FENCE.sub(" ", text)
    for pattern in (_RULE, _HEADING, _BULLET):
        text = pattern.sub("", text)
    text = _LINK.sub(r"\1", text)
    text = _STRESS.sub(r"\2", _STRESS.sub(r"\2", text))
    text = _unquoted(" ".join(clean(text).split()))
    while (opener := _OPENER.match(text)) is not None:
        rest = _unquoted(text[opener.end() :].lstrip(" ,;:-"))
        if len(rest.split()) < _MIN_WORDS:
            break
        text = rest
    text = _AGAIN.sub(r"\1", text)
    kept = _unique(found := sentences(text))
    return _capital(text if len(kept) == len(found) else " ".join(kept))


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, each with its end mark."""
    found, start = [], 0
    for gap in _SENTENCE.finditer(text):
        end = gap.end()
        if sentence := text[start:end].strip():
            found.append(sentence)
        start = end
    return [*found, text[start:].strip()] if text[start:].strip() else found


def cut(text: str, fits: Callable[[str], bool]) -> tuple[str, bool]:
    """Return as much of a text as fits, and whether something was cut off.

    Whole sentences are kept; of a first sentence that is too long, as many words, closed with a full stop.

    Args:
        text: One paragraph.
        fits: Whether a text is short enough; if it is, so is every beginning of it.
    """
    if fits(text):
        return text, False
    kept = _longest(sentences(text), fits)
    if kept:
        return kept, True
    kept = _longest(text.split(" "), lambda part: fits(_closed(part)))
    return (_closed(kept) if kept else ""), True


def _longest(parts: list[str], fits: Callable[[str], bool]) -> str:
    """Return the most of the first parts that fit, joined."""
    low, high = 0, len(parts)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(" ".join(parts[:middle])) else (low, middle - 1)
    return " ".join(parts[:low])


def _closed(text: str) -> str:
    return re.sub(r"[\s,;:\u2013-]+$", "", text) + "."


def _unquoted(text: str) -> str:
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def _unique(texts: list[str]) -> list[str]:
    """Return texts without those that stood there before, but for their case and marks."""
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(re.sub(r"\W+", " ", text).strip().lower(), text)
    return list(first.values())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
