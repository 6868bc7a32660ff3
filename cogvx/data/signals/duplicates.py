"""Clips that show the same: found by their perceptual hashes, in a manifest of any length.

Two clips are near duplicates if at least three quarters of their hashes differ by at most some bits, each compared with
the one of the same quarter of the other clip. Not all pairs are compared: of the hashes at each of the four places, a
number of tables take a few bits each, and only clips whose bits in some table are equal are compared. The tables take
more bits the more clips there are (b = log2 of their number - 2, but 10 to 28), so that needless comparisons grow only
as the number of clips does. Two hashes that differ by d bits of 64 meet in a table with a probability of about
(1 - d/64)^b. With 24 tables at each of four places, 99.7 % of the pairs that differ by 8 bits at every place meet if
there are a million clips, and 81 % if there are 35 million (of those that differ by 6, 99 %).
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cogvx.data.signals.phash import BITS, FRAMES

VERSION = 1
_TABLES = 24  # a place
_MOST_ROUNDS = 64  # of comparing clips whose bits are equal in one table with the first of them
_SEED = 20240812


@dataclass(frozen=True)
class Hashes:
    """The hashes of clips.

    Attributes:
        bits: uint64 (n 4).
        there: bool (n 4), whether a clip has a hash at this place.
    """

    bits: np.ndarray
    there: np.ndarray

    @classmethod
    def of(cls, lists: Iterable[Any]) -> "Hashes":
        """Return the hashes of lists as they stand under "phash" in entries; anything else is no hash."""
        bits, there = array("Q"), array("B")  # 36 bytes a clip
        for found in lists:
            texts = found[:FRAMES] if isinstance(found, list) else []
            values = [_number(text) for text in texts] + [None] * (FRAMES - len(texts))
            bits.extend(value or 0 for value in values)
            there.extend(value is not None for value in values)
        return cls(
            np.frombuffer(bits, dtype=np.uint64).reshape(-1, FRAMES),
            np.frombuffer(there, dtype=bool).reshape(-1, FRAMES),
        )


def first_of_each(hashes: Hashes, *, most_bits: int) -> np.ndarray:
    """Return for each clip the number of the first clip that is the same, int64 (n,); its own if it is the first.

    What is the same as the same is the same: a chain of near duplicates is one group.

    Args:
        hashes: Of all clips, in order.
        most_bits: How many bits of 64 two hashes may differ by.
    """
    count = len(hashes.bits)
    found = [np.zeros((0, 2), dtype=np.int64)]
    for place, key in _tables(hashes):
        members = np.flatnonzero(hashes.there[:, place])
        found.append(_equal_pairs(hashes, members, key[members], most_bits))
    return _joined(np.unique(np.concatenate(found), axis=0), count)


def same(hashes: Hashes, left: np.ndarray, right: np.ndarray, *, most_bits: int) -> np.ndarray:
    """Return whether clips are near duplicates of others, bool (m,).

    Args:
        hashes: Of all clips.
        left: Numbers of clips, (m,).
        right: Numbers of those that they are compared with, (m,).
        most_bits: How many bits of 64 two hashes may differ by.
    """
    apart = np.bitwise_count(hashes.bits[left] ^ hashes.bits[right])
    equal = ((apart <= most_bits) & hashes.there[left] & hashes.there[right]).sum(axis=1)
    most = np.maximum(hashes.there[left].sum(axis=1), hashes.there[right].sum(axis=1))
    return (equal * 4 >= most * 3) & (equal > 0)


def _tables(hashes: Hashes) -> Iterator[tuple[int, np.ndarray]]:
    """Yield for each table its place, and the bits that it takes of every clip's hash there, (n,)."""
    generator = np.random.default_rng(_SEED)
    width = min(28, max(10, int(np.ceil(np.log2(max(len(hashes.bits), 2)))) - 2))
    for place in range(FRAMES):
        for _ in range(_TABLES):
            chosen = np.sort(generator.permutation(BITS)[:width])
            mask = np.uint64(sum(1 << int(bit) for bit in chosen))
            yield place, hashes.bits[:, place] & mask


def _equal_pairs(hashes: Hashes, members: np.ndarray, keys: np.ndarray, most_bits: int) -> np.ndarray:
    """Return pairs of near duplicates among clips with equal keys, (m 2).

    In each group of equal keys all are compared with the first one; those that are not the same as it are then compared
    with the first one of them, and so on: a thousand copies of a clip take a thousand comparisons.
    """
    order = np.argsort(keys, kind="stable")
    members, keys = members[order], keys[order]
    pairs = []
    for _ in range(_MOST_ROUNDS):
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, int)
        sizes = np.diff(np.append(starts, len(keys)))
        if not (sizes > 1).any():
            break
        first = np.repeat(members[starts], sizes)
        leads = np.zeros(len(members), dtype=bool)
        leads[starts] = True
        equal = ~leads
        equal[equal] = same(hashes, first[equal], members[equal], most_bits=most_bits)
        pairs.append(np.stack([first[equal], members[equal]], axis=1))
        left = ~(equal | leads)
        members, keys = members[left], keys[left]
    return np.concatenate(pairs) if pairs else np.zeros((0, 2), dtype=np.int64)


def _joined(pairs: np.ndarray, count: int) -> np.ndarray:
    """Return the smallest number of the group that each number belongs to, where pairs belong together."""
    first = np.arange(count)
    while len(pairs):
        before = first.copy()
        least = np.minimum(first[pairs[:, 0]], first[pairs[:, 1]])
        for side in (0, 1):
            np.minimum.at(first, first[pairs[:, side]], least)
        first = first[first]  # halves the way to the group's smallest
        if np.array_equal(before, first):
            break
    return first


def _number(text: object) -> int | None:
    if not isinstance(text, str) or len(text) != BITS // 4:
        return None
    try:
        return int(text, 16)
    except ValueError:
        return None
