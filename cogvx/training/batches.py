"""The order in which a training set is read."""

from collections.abc import Iterator

import numpy as np


def shuffled(count: int, batch_size: int, *, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield indices (batch_size,) for ever, each epoch in a new order."""
    while True:
        order = rng.permutation(count)
        for start in range(0, count - batch_size + 1, batch_size):
            yield order[start : start + batch_size]
