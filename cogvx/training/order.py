"""Which clips every step trains, and in which packs: a function of the seed and the step alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cogvx.data.packing import pack
from cogvx.errors import UsageError
from cogvx.training import draws


@dataclass(frozen=True)
class Item:
    """One clip to be trained.

    Attributes:
        source: Number of the dataset that it is read from; a clip taken as an image has another than as a clip.
        index: Its number there.
    """

    source: int
    index: int


class PackOrder:
    """The packs of one stage, epoch after epoch.

    An epoch has every clip once. It need not end with a step: the step takes the first packs of the next epoch.
    """

    def __init__(
        self, items: Callable[[int], Sequence[tuple[Item, int]]], *, budget: int, packs: int, seed: int, stage: int
    ) -> None:
        """Plan nothing yet.

        Args:
            items: Returns the items of an epoch with their tokens.
            budget: Tokens of a pack; 0: those of the longest clip.
            packs: Packs a step.
            seed: Of the run.
            stage: Number of the stage.
        """
        self._items = items
        self._budget = budget
        self._num_packs = packs
        self._seed = draws.number(seed, "order", stage)
        self._counts: list[int] = []  # packs of each epoch that was planned
        self._kept: dict[int, list[tuple[Item, ...]]] = {}

    def step(self, place: int) -> list[tuple[Item, ...]]:
        """Return the packs of a step of the stage, over all ranks."""
        first = place * self._num_packs
        epoch = 0
        while first >= self._count(epoch):
            first -= self._count(epoch)
            epoch += 1
        found: list[tuple[Item, ...]] = []
        while len(found) < self._num_packs:
            found += self._epoch(epoch)[first : first + self._num_packs - len(found)]
            epoch, first = epoch + 1, 0
        return found

    def _count(self, epoch: int) -> int:
        if epoch == len(self._counts):
            self._counts.append(len(self._epoch(epoch)))
        return self._counts[epoch]

    def _epoch(self, epoch: int) -> list[tuple[Item, ...]]:
        if epoch not in self._kept:
            items = self._items(epoch)
            if not items:
                raise UsageError("there is no clip to train on: nothing in the manifest passes the recipe's bounds")
            lengths = [length for _, length in items]
            packed = pack(lengths, budget=self._budget or max(lengths), seed=self._seed, epoch=epoch)
            # Two epochs are enough: a step that spans more has a set smaller than itself.
            self._kept = {old: packs for old, packs in self._kept.items() if old == epoch - 1}
            self._kept[epoch] = [tuple(items[i][0] for i in one.items) for one in packed]
        return self._kept[epoch]
