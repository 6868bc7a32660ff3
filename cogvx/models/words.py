"""Captions as words: lower case, no punctuation, and the numbers of the words that a network knows."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

MAX_WORDS = 50  # of a caption
PAD, START, END, UNKNOWN = range(4)
NUM_MARKS = 4  # tokens that are no words


def clean_words(caption: str, *, max_words: int = MAX_WORDS) -> list[str]:
    """Return the words of a caption: lower case, letters and digits only, the first max_words.

    Source: the student paper on CogVideoX, "Text Preprocessing": lower-cased, no punctuation, at most 50 tokens.
    """
    text = unicodedata.normalize("NFKC", caption).lower()
    # An apostrophe joins ("it's" is its), any other mark parts.
    text = "".join(letter for letter in text if letter not in "'\u2019")
    return "".join(letter if letter.isalnum() else " " for letter in text).split()[:max_words]


class Vocabulary:
    """The words of a network, each with its number; numbers below NUM_MARKS are padding, start, end and unknown."""

    def __init__(self, words: Sequence[str]) -> None:
        """Take the words in the order of their numbers.

        Raises:
            ValueError: A word stands there twice, or is none.
        """
        self.words = tuple(words)
        self._numbers = {word: number for number, word in enumerate(self.words, start=NUM_MARKS)}
        if len(self._numbers) < len(self.words):
            raise ValueError("a word stands twice in the vocabulary")
        wrong = [word for word in self.words if clean_words(word) != [word]]
        if wrong:
            raise ValueError(f"{wrong[0]!r:.40} in the vocabulary is no word in lower case")

    def __len__(self) -> int:
        """Return how many tokens there are, marks included."""
        return NUM_MARKS + len(self.words)

    @classmethod
    def of(cls, captions: Iterable[str], *, max_words: int) -> "Vocabulary":
        """Return the vocabulary of some captions: their most frequent words, at most so many."""
        counts = Counter(word for caption in captions for word in clean_words(caption))
        return cls(sorted(counts, key=lambda word: (-counts[word], word))[:max_words])

    def encode(self, caption: str) -> list[int]:
        """Return the tokens of a caption, without start and end."""
        return [self._numbers.get(word, UNKNOWN) for word in clean_words(caption)]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the words of tokens; marks are left out."""
        return " ".join(self.words[token - NUM_MARKS] for token in tokens if token >= NUM_MARKS)

    def batch(self, captions: Sequence[str], *, marks: bool) -> Tensor:
        """Return the tokens of captions (b l) int64, padded at the end.

        Args:
            captions: At least one.
            marks: Put the start in front of each and the end behind it.
        """
        rows = [self.encode(caption) for caption in captions]
        if marks:
            rows = [[START, *row, END] for row in rows]
        length = max([1, *map(len, rows)])
        return torch.tensor([row + [PAD] * (length - len(row)) for row in rows], dtype=torch.int64)
