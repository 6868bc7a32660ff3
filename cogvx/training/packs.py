"""The packs of clips that a rank trains on: which ones a step has, and reading them ahead."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cogvx.data.dataset import Sample
from cogvx.distributed import World
from cogvx.errors import UsageError
from cogvx.training.examples import Place
from cogvx.training.order import Item
from cogvx.training.recipe import Recipe
from cogvx.training.stages import StageData


class Packs:
    """The packs of one rank, by step and micro batch; a micro batch is one pack."""

    def __init__(self, recipe: Recipe, stages: Sequence[StageData], world: World) -> None:
        """Take the clips of each stage.

        Raises:
            UsageError: The ranks cannot share the packs of a step equally.
        """
        self._recipe, self._stages, self._world = recipe, stages, world
        ranks = world.data_size
        for stage in recipe.stages:
            if stage.packs % ranks:
                raise UsageError(
                    f"stage {stage.name!r} has {stage.packs} packs a step, which {ranks} ranks cannot share equally; "
                    f"use {stage.packs // ranks * ranks or ranks} or {-(-stage.packs // ranks) * ranks}"
                )
        self._readers = ThreadPoolExecutor(recipe.data.workers) if recipe.data.workers else None
        self._ahead: dict[tuple[int, int], list[Future[Sample | None]]] = {}

    def num_micro_batches(self, step: int) -> int:
        """Return how many packs this data rank has in a step."""
        stage, _ = self._recipe.stage_at(step)
        return self._recipe.stages[stage].packs // self._world.data_size

    def data(self, step: int) -> StageData:
        """Return the clips of the stage that a step belongs to."""
        return self._stages[self._recipe.stage_at(step)[0]]

    def num_clips(self, step: int) -> int:
        """Return the clips of a step, over all ranks."""
        return sum(len(pack) for pack in self._step(step))

    def items(self, step: int, micro: int) -> list[tuple[Item, Place]]:
        """Return the items of a pack of this rank, each with its place in the step."""
        packs = self._step(step)
        mine = self._world.data_rank * self.num_micro_batches(step) + micro
        first = sum(len(pack) for pack in packs[:mine])
        return [(item, Place(self._recipe.seed, step, first + i)) for i, item in enumerate(packs[mine])]

    def samples(self, step: int, micro: int) -> list[Sample | None]:
        """Return the clips of a pack, None for those that cannot be read; with threads, the next pack's are begun."""
        readers = self._readers
        if readers is None:
            return [self._read(step, item, place) for item, place in self.items(step, micro)]
        following = (step, micro + 1) if micro + 1 < self.num_micro_batches(step) else (step + 1, 0)
        for wanted in ((step, micro), following):
            if wanted not in self._ahead and wanted[0] < self._recipe.num_steps:
                pack = self.items(*wanted)
                self._ahead[wanted] = [readers.submit(self._read, wanted[0], item, place) for item, place in pack]
        found = [future.result() for future in self._ahead.pop((step, micro))]
        self._ahead = {key: futures for key, futures in self._ahead.items() if key == following}
        return found

    def _step(self, step: int) -> list[tuple[Item, ...]]:
        _, place = self._recipe.stage_at(step)
        return self.data(step).order.step(place)

    def _read(self, step: int, item: Item, place: Place) -> Sample | None:
        return self.data(step).read(item, place)
