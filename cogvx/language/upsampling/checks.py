"""Whether an answer can be given to the model as a prompt."""

import re
from collections import Counter
from collections.abc import Callable

from cogvx.language.upsampling.preset import Limits

MIN_ASCII_SHARE = 0.9  # of the letters
MIN_STOP_WORD_SHARE = 0.15  # of the words; running English text has 0.35 to 0.5
MAX_REPEATS = 2  # how often the same eight words may come
LOOP = "it says the same over and over"

_STOP_WORDS = frozenset(
    """
    a about above across after against all along an and any are around as at be been before behind below beneath beside
    between beyond but by down during each for from has have he her him his how in into is it its itself like more near
    no not of off on onto or other out over past she so some than that the their them then there they this those through
    to toward towards under until up upon was were what when where which while who whose with within without you your
    """.split()
)
_REFUSALS = re.compile(
    r"^\W*(i'?m (really |very )?sorry|sorry\b|i apologi[sz]e|i (can'?t|can ?not|won'?t|will not|am unable|am not able|"
    r"don'?t feel comfortable)|as an? (ai|artificial|language model|assistant)|unfortunately,? i)\b|"
    r"\b(i (can ?not|can'?t) (help|assist|comply|fulfil|create|generate|provide)|as an ai (language )?model|"
    r"against my (guidelines|policy|programming))\b",
    re.IGNORECASE,
)
_CHATTER = re.compile(
    r"^\W*(sure|certainly|of course|absolutely|okay|ok|great)\b\s*[,.!:]|^\W*(here'?s|here is|here are|below is)\b|"
    r"^\W*(description|caption|prompt|answer|output|shot|request)\s*:",
    re.IGNORECASE,
)
_MARKDOWN = re.compile(
    r"(^|\s)#{1,6} |\*\*|__|```|`|^\s*([-*•]|\d{1,2}[.)]) |\n\s*([-*•]|\d{1,2}[.)]) |\[[^\]]*\]\([^)]*\)|(^|\n)\s*[>|]"
)
_QUOTES = "\"'“”‘’«»„`"


def tidy(text: str) -> str:
    """Return an answer as one line, without the quotes that some models put around all of it.

    Only line ends within a paragraph become spaces: several paragraphs stay several, for the check to find.
    """
    text = text.replace("\r\n", "\n").strip()
    while len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES and not set(text[1:-1]) & set('"“”«»„'):
        text = text[1:-1].strip()
    paragraphs = re.split(r"\n\s*\n", text)
    if _MARKDOWN.search(text):
        return text
    return "\n\n".join(" ".join(part.split()) for part in paragraphs)


def why_unfit(text: str, limits: Limits, *, count_tokens: Callable[[str], int] | None = None) -> str | None:
    """Say why an answer is no prompt, or None if it is one.

    The rules: it is not empty; one paragraph; no markup, and no quotes around it; no refusal and no talk about the
    task; English, as far as letters and words tell (at least 90 % of the letters are ASCII, at least 15 % of the words
    are among the commonest of English); not the same eight words more than twice; and of the right length.

    Args:
        text: What `tidy` has made of the answer.
        limits: The length.
        count_tokens: Counts the tokens of T5; without it words are counted.
    """
    if not text:
        return "it is empty"
    if _REFUSALS.search(text[:400]):
        return "it refuses"
    if _CHATTER.search(text):
        return "it talks about the task instead of beginning with the subject"
    if _MARKDOWN.search(text):
        return "it has markup or a list in it"
    if "\n" in text:
        return "it has several paragraphs"
    if text[0] in _QUOTES or (text[-1] in _QUOTES and text.count(text[-1]) % 2):
        return "it begins or ends with a quote"
    return _why_not_english(text) or _why_length(text, limits, count_tokens)


def shortened(
    text: str, limits: Limits, *, cut_off: bool = False, count_tokens: Callable[[str], int] | None = None
) -> str:
    """Return the whole sentences at the beginning of an answer that are not too long, each once; empty if none are.

    The model would read no more of it, and would read the last sentence broken off.

    Args:
        text: What `tidy` has made of the answer.
        limits: The length.
        cut_off: Whether the answer ends where the language model had to stop, so that its last sentence is broken.
        count_tokens: Counts the tokens of T5; without it words are counted.
    """
    sentences = re.split(r"(?<=[.!?])\s+", text)
    if cut_off and not re.search(r"[.!?]$", text):
        sentences = sentences[:-1]
    sentences = list(dict.fromkeys(sentences))
    while sentences and "too long" in (_why_length(" ".join(sentences), limits, count_tokens) or ""):
        sentences = sentences[:-1]
    return " ".join(sentences)


def _why_not_english(text: str) -> str | None:
    letters = [letter for letter in text if letter.isalpha()]
    if not letters or sum(letter.isascii() for letter in letters) < MIN_ASCII_SHARE * len(letters):
        return "it is not in English letters"
    words = re.findall(r"[^\W\d_]+", text.lower())
    if sum(word in _STOP_WORDS for word in words) < MIN_STOP_WORD_SHARE * len(words):
        return "it does not read like English sentences"
    runs = Counter(tuple(words[start : start + 8]) for start in range(len(words) - 7))
    if runs and max(runs.values()) > MAX_REPEATS:
        return LOOP
    return None


def _why_length(text: str, limits: Limits, count_tokens: Callable[[str], int] | None) -> str | None:
    if count_tokens is not None:
        count, low, high, unit = count_tokens(text), limits.min_tokens, limits.max_tokens, "tokens"
    else:
        count, low, high, unit = len(text.split()), limits.min_words, limits.max_words, "words"
    if count < low:
        return f"it is too short: {count} {unit}, and {low} are needed"
    if count > high:
        return f"it is too long: {count} {unit}, and at most {high} are read"
    return None
