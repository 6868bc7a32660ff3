"""The features of a set of clips as they come, and the distances between two such sets."""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cogvx.errors import InputError
from cogvx.metrics.frechet import Gaussian, Moments, frechet_distance, kernel_distance

KEPT = 5000  # vectors that the kernel distance looks at


class FeatureSet:
    """Statistics of the features of clips, in memory that does not grow with their number.

    Half of the clips, by lot, are also counted apart: the distance between the halves is what two sets of the same
    clips come to by their size alone.

    Args:
        width: Features d of a clip.
        kept: Vectors that are kept for the kernel distance: all, or by lot so many of more.
        seed: Of the lots.
    """

    def __init__(self, width: int, *, kept: int = KEPT, seed: int = 0) -> None:
        self._halves = (Moments(width), Moments(width))
        self._random, self._limit = random.Random(seed), kept
        self._kept: list[np.ndarray] = []
        self._first = 0
        self.count = 0

    def add(self, features: np.ndarray) -> None:
        """Add the vector (d) of a clip.

        Raises:
            InputError: It holds NaN or infinity.
        """
        # Of each two clips one goes to each half, so that the halves are of one size.
        self._first = self._random.randrange(2) if self.count % 2 == 0 else 1 - self._first
        self._halves[self._first].add(features)
        self.count += 1
        if len(self._kept) < self._limit:
            self._kept.append(np.asarray(features, dtype=np.float32))
        elif (place := self._random.randrange(self.count)) < self._limit:
            self._kept[place] = np.asarray(features, dtype=np.float32)

    def statistics(self) -> "Statistics":
        """Return what is known of the set.

        Raises:
            InputError: It has fewer than 2 clips.
        """
        if self.count < 2:
            raise InputError(f"{self.count} clips are no set: at least 2 are needed")
        both = Moments(self._kept[0].shape[0])
        for half in self._halves:
            both.merge(half)
        a, b = (half.gaussian() for half in self._halves)
        floor: dict[str, float] = {"fvd": frechet_distance(a, b), "n": min(a.count, b.count)}
        features = np.stack(self._kept)
        if len(features) >= 4:
            order = np.random.default_rng(0).permutation(len(features))
            middle = len(features) // 2
            floor["kvd"] = kernel_distance(features[order[:middle]], features[order[middle:]])
        return Statistics(both.gaussian(), features, floor)


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is known of a set of clips.

    Attributes:
        gaussian: Mean and covariance.
        features: Vectors (n d), all or some; None: none were kept.
        floor: "fvd", "kvd": the distance between two halves of the set, by lot; "n": clips of a half.
    """

    gaussian: Gaussian
    features: np.ndarray | None
    floor: dict[str, float] = field(default_factory=dict)


def compare(real: Statistics, fake: Statistics) -> dict[str, Any]:
    """Return the distances of two sets: "fvd", "kvd" (None where no vectors are kept), "floor_real", "floor_fake".

    Raises:
        ShapeError: Their features differ in number.
    """
    both = real.features is not None and fake.features is not None
    return {
        "fvd": frechet_distance(real.gaussian, fake.gaussian),
        "kvd": kernel_distance(real.features, fake.features) if both else None,  # type: ignore[arg-type]
        "floor_real": real.floor,
        "floor_fake": fake.floor,
    }


def doubts(real: Statistics, fake: Statistics, *, metric: str) -> list[str]:
    """Return what a reader of the distance must be told: too few clips, unequal counts, and how far to trust it."""
    width = len(real.gaussian.mean)
    counts = {"real": real.gaussian.count, "fake": fake.gaussian.count}
    found = [
        f"{count} {name} clips for {width} features: the covariance is singular and {metric} too large"
        for name, count in counts.items()
        if count <= width
    ]
    if counts["real"] != counts["fake"]:
        found.append(f"{counts['real']} real and {counts['fake']} fake clips: numbers compare only at equal counts")
    return found
