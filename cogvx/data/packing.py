"""Frame pack, planned ahead: which clips share one sequence, so that hardly a token of it is empty.

Source: CogVideoX paper (arXiv 2408.06072), "Multi-Resolution Frame Pack"; the released code has no such packing.
"""

import bisect
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cogvx.errors import InputError, UsageError

_WINDOW = 64  # budgets' worth of clips that are packed together: more fills better, less keeps the order more random
_FULL = 0.985  # a pack below this share waits for the clips of the next window
_CARRIED = 0.25  # of a window at most, so that clips which fit nowhere do not gather


@dataclass(frozen=True)
class Pack:
    """Clips that share one sequence.

    Attributes:
        items: Their indices.
        tokens: Their lengths together.
    """

    items: tuple[int, ...]
    tokens: int


def pack(lengths: Sequence[int], *, budget: int, seed: int, epoch: int) -> list[Pack]:
    """Return packs in which every clip stands once, in a random order that seed and epoch alone decide.

    The clips are shuffled and cut into windows. Within each, the longest go first, each into the pack where the least
    room is left; a pack that stays unfilled is taken apart and joins the next window. The order of the packs is
    shuffled again, as it would otherwise be sorted by length.

    Args:
        lengths: Tokens of each clip, those of its text included.
        budget: Tokens that a pack may have.
        seed: Of the run.
        epoch: How often all clips have been used.

    Raises:
        UsageError: The budget is not above zero.
        InputError: A clip is longer than the budget, or has no tokens.
    """
    if budget < 1:
        raise UsageError(f"a pack needs a budget of at least 1 token, got {budget}")
    wrong = [index for index, length in enumerate(lengths) if not 0 < length <= budget]
    if wrong:
        raise InputError(
            f"{len(wrong)} of {len(lengths)} clips do not fit into a pack of {budget} tokens; the first is clip "
            f"{wrong[0]} of {lengths[wrong[0]]} tokens"
        )
    packs: list[Pack] = []
    window: list[int] = []
    tokens = 0
    for index in _shuffled(len(lengths), f"clips/{seed}/{epoch}"):
        window.append(index)
        tokens += lengths[index]
        if tokens >= _WINDOW * budget:
            made = _best_fit(window, lengths, budget)
            done, window = _split(made, budget)
            tokens = sum(lengths[index] for index in window)
            packs += done
    packs += _best_fit(window, lengths, budget)
    return [packs[i] for i in _shuffled(len(packs), f"packs/{seed}/{epoch}")]


def fill(packs: Sequence[Pack], budget: int) -> float:
    """Return the share of the packs' tokens that are not empty, in [0, 1]; 1 for no packs."""
    return sum(one.tokens for one in packs) / (len(packs) * budget) if packs else 1.0


def _shuffled(count: int, key: str) -> list[int]:
    """Return 0 … count - 1 in an order that is the same on every machine and with every version."""

    def place(index: int) -> bytes:
        return hashlib.sha256(f"cogvx/pack/{key}/{index}".encode()).digest()

    return sorted(range(count), key=place)


def _best_fit(items: list[int], lengths: Sequence[int], budget: int) -> list[Pack]:
    """Pack by best-fit decreasing."""
    rooms: list[tuple[int, int]] = []  # (tokens left, number of the pack), sorted
    contents: list[list[int]] = []
    for index in sorted(items, key=lambda index: -lengths[index]):
        at = bisect.bisect_left(rooms, (lengths[index], -1))
        if at < len(rooms):
            left, number = rooms.pop(at)
        else:
            left, number = budget, len(contents)
            contents.append([])
        contents[number].append(index)
        bisect.insort(rooms, (left - lengths[index], number))
    return [Pack(tuple(content), sum(lengths[index] for index in content)) for content in contents]


def _split(packs: list[Pack], budget: int) -> tuple[list[Pack], list[int]]:
    """Return the packs that are full, and the clips of the others; of too many others only the emptiest."""
    poor = sorted((one for one in packs if one.tokens < _FULL * budget), key=lambda one: one.tokens)
    again = set(poor[: max(1, int(_CARRIED * len(packs)))])
    return [one for one in packs if one not in again], [index for one in poor if one in again for index in one.items]
