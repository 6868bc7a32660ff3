"""Sources of random numbers that depend on what is drawn and where, never on what was drawn before."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def number(seed: int, what: str, *place: int) -> int:
    """Return a number in 0...2^63-1 that is the same on every machine, rank and run."""
    digest = hashlib.sha256(repr((seed, what, *place)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def source(seed: int, what: str, *place: int) -> torch.Generator:
    """Return a generator on the CPU for one thing that is drawn at one place.

    Args:
        seed: Of the run.
        what: Name of the thing: "noise", "times".
        *place: Step, place in the step, and the like.
    """
    return torch.Generator().manual_seed(number(seed, what, *place))


@contextmanager
def seeded(seed: int, what: str) -> Iterator[None]:
    """Let modules that initialise themselves from the global state do so from a seed, and put the state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number(seed, what))
        yield
