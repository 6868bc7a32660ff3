"""Clips into parts by their source, so that no two parts share an original, and labels are spread evenly."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cogvx.errors import InputError

TEST = "test"
_HELD_OUT = (TEST, "validation")


def held_out(
    sources: Sequence[str], splits: Sequence[str | None], truth: Tensor, *, ratio: float, seed: int
) -> np.ndarray:
    """Return which clips are kept for the test, (n,) booleans: those whose split says so, else a share of the sources.

    Args:
        sources: Of each clip, its original.
        splits: Of each clip, what its entry says: "test" and "validation" are held out, if any entry says so.
        truth: (n labels) 0 or 1, NaN where nobody judged.
        ratio: Share of the clips.
        seed: Which sources are drawn.

    Raises:
        InputError: A source is on both sides, all clips come from one source, or all are held out.
    """
    named = np.array([split in _HELD_OUT for split in splits])
    if named.any():
        both = {sources[i] for i in np.flatnonzero(named).tolist()} & {
            sources[i] for i in np.flatnonzero(~named).tolist()
        }
        if both:
            raise InputError(f"clips of {min(both)} are both in the test split and outside it: the test would be void")
        if named.all():
            raise InputError("every clip is in the test split; none is left to train on")
        return named
    count = len(set(sources))
    if count < 3:
        raise InputError(
            f"the {len(sources)} clips come from {count} source{'s' if count > 1 else ''}; at least 3 are needed: one "
            "to test with, and two to compare"
        )
    num_parts = min(max(2, round(1 / ratio)), count)
    parts = spread(sources, truth, num_parts=num_parts, seed=seed)
    # A large source may fill a part alone: take one of those whose size is right.
    misses = np.abs(np.bincount(parts, minlength=num_parts) - ratio * len(sources))
    best = np.flatnonzero(misses <= misses.min() + 1e-9)
    return parts == best[seed % len(best)]


def spread(sources: Sequence[str], truth: Tensor, *, num_parts: int, seed: int) -> np.ndarray:
    """Return which of some parts each clip is in, (n,), all clips of a source in one.

    The sources are dealt out, large ones first, each to the part where it makes the numbers of clips and of clips with
    and without each label most equal. Ties are broken by a hash of seed and name, so that the same sources give the
    same parts on every machine.

    Raises:
        InputError: There are fewer than two sources, or fewer sources than parts.
    """
    names = sorted(set(sources))
    if len(names) < 2:
        raise InputError(
            f"all {len(sources)} clips come from one source, {names[0] if names else '(none)'}: nothing can be held out"
        )
    if len(names) < num_parts:
        raise InputError(f"{len(names)} sources cannot be dealt out into {num_parts} parts")
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), 1 + 2 * truth.shape[1]))
    known = (~truth.isnan()).numpy()
    has = (torch.nan_to_num(truth) > 0.5).numpy()
    for i, source in enumerate(sources):
        counts[place[source]] += np.concatenate([[1.0], known[i] & has[i], known[i] & ~has[i]])
    counts /= np.maximum(counts.sum(axis=0), 1)
    draws = [hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogatepass")).digest() for name in names]
    order = sorted(range(len(names)), key=lambda i: (-counts[i, 0], draws[i]))
    totals = np.zeros((num_parts, counts.shape[1]))
    part = np.zeros(len(names), dtype=int)
    for i in order:
        # How uneven the parts become when this source goes to each of them.
        costs = (2 * totals * counts[i]).sum(axis=1)
        part[i] = int(np.flatnonzero(costs <= costs.min() + 1e-12)[0])
        totals[part[i]] += counts[i]
    return np.array([part[place[source]] for source in sources])
