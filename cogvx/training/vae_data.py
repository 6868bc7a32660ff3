"""The clips that a VAE is trained on: which ones a step has is a function of the seed and the step alone."""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from cogvx.data.buckets import Shape
from cogvx.data.clips import media_of, read_clip
from cogvx.data.dataset import ClipDataset
from cogvx.data.manifest import Entry, Manifest, entry_id, read_manifest
from cogvx.data.selection import Selection, pixel_field
from cogvx.errors import CogvxError, InputError, RefusedError, UsageError
from cogvx.files import clean
from cogvx.training.draws import number, source
from cogvx.training.recipe import Recipe

HELD_OUT = ("validation", "test")
OnBad = Callable[[str, CogvxError], None]


class Clips(Protocol):
    """Clips of known shapes; those of one set are read at one rate."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def shape(self, index: int) -> Shape:
        """Return the shape of a clip."""
        ...

    def frames(self, index: int, moment: float = 0.0) -> np.ndarray | None:
        """Return the frames of a clip, uint8 (t h w 3); None if it cannot be used and another may take its place.

        Args:
            index: Its number.
            moment: In [0, 1): where in a longer clip they begin, between its start and the last place that has enough.
        """
        ...


class Bad:
    """Entries that cannot be used, counted once for all sets of a run."""

    def __init__(self, limit: int, tell: OnBad | None = None) -> None:
        """Allow so many, and tell of each."""
        self.limit, self._tell = limit, tell
        self.names: dict[str, None] = {}

    def note(self, name: str, error: CogvxError) -> None:
        """Count an entry.

        Raises:
            InputError: It is one too many.
        """
        if name in self.names:
            return
        self.names[name] = None
        if len(self.names) > self.limit:
            count = len(self.names)
            raise InputError(
                f"{count} entr{'ies' if count > 1 else 'y'} could not be used, data.max_bad is {self.limit}; the last: "
                f"{clean(name)}: {error}"
            ) from error
        if self._tell is not None:
            self._tell(name, error)


class FileClips:
    """Clips in files, of one length and rate; what is too short or too small is not among them."""

    def __init__(self, manifests: Sequence[Manifest], selection: Selection, *, bad: Bad, held_out: bool | None) -> None:
        """Find the entries that can be used.

        Args:
            manifests: Read; what their entries say decides the shapes.
            selection: Which entries, at which shapes.
            bad: Counts those that cannot be read, now and later.
            held_out: Whether only those of the splits that are held out are taken, or only the others; None: all.
        """

        def wanted(entry: Entry) -> bool:
            return held_out is None or (entry.get("split") in HELD_OUT) == held_out

        self._data = ClipDataset(
            list(manifests), selection, encoded=False, max_bad=sys.maxsize, on_bad=bad.note, keep=wanted
        )
        self._bad, self._fps = bad, selection.fps
        self._manifests = {id(entry): manifest for manifest in manifests for entry in manifest.entries}
        self._durations: dict[int, float] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._data)

    def shape(self, index: int) -> Shape:
        """Return the shape of a clip."""
        return self._data.shape(index)

    def frames(self, index: int, moment: float = 0.0) -> np.ndarray | None:
        """Return the frames of a clip, uint8 (t h w 3); None if it is damaged or shorter than its header says."""
        entry, shape = self._data.entry(index), self.shape(index)
        try:
            path = self._manifests[id(entry)].path(entry, pixel_field(entry) or "video")
            if index not in self._durations:
                self._durations[index] = media_of(entry, path).duration
            spare = self._durations[index] - shape.num_frames / self._fps
            frames = self._read(path, entry, shape, moment * max(0.0, spare))
            if len(frames) < shape.num_frames:  # the header promised a longer clip
                frames = self._read(path, entry, shape, 0.0)
        except CogvxError as error:
            self._bad.note(entry_id(entry), error)
            return None
        return frames if len(frames) == shape.num_frames else None

    def _read(self, path: Path, entry: Entry, shape: Shape, offset: float) -> np.ndarray:
        start = entry.get("start")
        return read_clip(
            path,
            num_frames=shape.num_frames,
            fps=self._fps,
            height=shape.height,
            width=shape.width,
            start=(start or 0.0) + offset if offset else start,
            end=entry.get("end"),
        )


@dataclass(frozen=True)
class VAEStage:
    """The clips of one stage.

    Attributes:
        clips: Sets of clips, one for each rate.
        images: The same entries as images; None if there are no images.
        share: Share of steps that train on images.
        batch_size: Clips a step.
    """

    clips: Sequence[Clips]
    images: Clips | None
    share: float
    batch_size: int

    def pools(self) -> Mapping[tuple[bool, Shape], list[tuple[Clips, int]]]:
        """Return the clips of each shape, and whether they are images."""
        pools: dict[tuple[bool, Shape], list[tuple[Clips, int]]] = {}
        sets = [(False, clips) for clips in self.clips] + ([(True, self.images)] if self.images is not None else [])
        for is_image, clips in sets:
            for index in range(len(clips)):
                pools.setdefault((is_image, clips.shape(index)), []).append((clips, index))
        return pools


class VAEBatches:
    """Batches of clips of one shape, step by step.

    All clips of a step have one shape: whether the step trains on images, and at which size, is drawn for the step, a
    size as often as there are clips of it. Each size goes through its clips in a new order each epoch.
    """

    def __init__(self, recipe: Recipe, stages: Sequence[VAEStage], *, ranks: tuple[int, int], num_workers: int) -> None:
        """Plan nothing yet.

        Args:
            recipe: The run.
            stages: The clips of each stage.
            ranks: Which replica of the data this rank reads, and how many there are.
            num_workers: Threads that read; the batch after the next one is read meanwhile.

        Raises:
            UsageError: The clips of a step cannot be divided among ranks and micro batches, or there is none.
        """
        self._recipe, self._stages, self._ranks = recipe, stages, ranks
        self._pools = [stage.pools() for stage in stages]
        self._orders: dict[tuple[int, bool, Shape, int], list[int]] = {}
        self._threads = ThreadPoolExecutor(num_workers, thread_name_prefix="read") if num_workers else None
        self._ahead: dict[tuple[int, int], list[Future[np.ndarray]]] = {}
        parts = ranks[1] * recipe.run.accumulate
        for i, (stage, pools) in enumerate(zip(stages, self._pools, strict=True)):
            if stage.batch_size % parts:
                raise UsageError(
                    f"stages.{i}.batch_size is {stage.batch_size}, which {ranks[1]} replica(s) of the data with "
                    f"run.accumulate {recipe.run.accumulate} cannot divide; it must be a multiple of {parts}"
                )
            for kind, wanted in ((False, stage.share < 1), (True, stage.share > 0)):
                if wanted and not any(is_image == kind for is_image, _ in pools):
                    name = "image" if kind else "clip that is long enough"
                    raise UsageError(f"stages.{i}: there is no {name} to train on within the recipe's bounds")

    def places(self, step: int, micro: int) -> range:
        """Return which of a step's clips a micro batch of this rank has."""
        stage, _ = self._recipe.stage_at(step)
        size = self._stages[stage].batch_size // (self._ranks[1] * self._recipe.run.accumulate)
        first = (self._ranks[0] * self._recipe.run.accumulate + micro) * size
        return range(first, first + size)

    def read(self, step: int, micro: int) -> list[np.ndarray]:
        """Return the clips of a micro batch, uint8 (t h w 3) of one shape."""
        if self._threads is None:
            return [self._clip(step, place) for place in self.places(step, micro)]
        waiting = self._ahead.pop((step, micro), None) or self._submit(step, micro)
        after = (step, micro + 1) if micro + 1 < self._recipe.run.accumulate else (step + 1, 0)
        self._ahead = {after: self._ahead.get(after) or self._submit(*after)} if self._is_step(after[0]) else {}
        return [future.result() for future in waiting]

    def shape(self, step: int) -> tuple[bool, Shape]:
        """Return whether a step trains on images, and the shape of its clips."""
        index, place = self._recipe.stage_at(step)
        stage, seed = self._stages[index], self._recipe.seed
        is_image = number(seed, "images", index, place) / 2**63 < stage.share
        pools = [(key, len(pool)) for key, pool in self._pools[index].items() if key[0] == is_image]
        mark = number(seed, "size", index, place) % sum(count for _, count in pools)
        for key, count in pools:
            if mark < count:
                return key
            mark -= count
        raise AssertionError("the mark is below the sum")

    def _clip(self, step: int, place: int) -> np.ndarray:
        """Return a clip of a step, or if it cannot be used the next one that can."""
        index, turn = self._recipe.stage_at(step)
        key = self.shape(step)
        pool = self._pools[index][key]
        position = turn * self._stages[index].batch_size + place
        for attempt in range(2 * len(pool)):  # the rest of this epoch, and a whole one
            epoch, at = divmod(position + attempt, len(pool))
            clips, item = pool[self._order(index, key, epoch, len(pool))[at]]
            moment = number(self._recipe.seed, "moment", index, turn, place) / 2**63
            frames = clips.frames(item, moment)
            if frames is not None:
                return self._window(frames, index, turn, place)
        raise InputError(f"none of the {len(pool)} clips of {key[1]} could be read")

    def _window(self, frames: np.ndarray, stage: int, turn: int, place: int) -> np.ndarray:
        """Return the part of a clip (t h w 3) that the stage trains on: all of it, or a window that is drawn for it."""
        if not self._recipe.stages[stage].crop:
            return frames
        height, width = self._recipe.stages[stage].crop
        top, left = (
            number(self._recipe.seed, what, stage, turn, place) % (side - kept + 1)
            for what, side, kept in (("top", frames.shape[1], height), ("left", frames.shape[2], width))
        )
        return frames[:, top : top + height, left : left + width]

    def _order(self, stage: int, key: tuple[bool, Shape], epoch: int, count: int) -> list[int]:
        place = (stage, *key, epoch)
        if place not in self._orders:
            shape = key[1]
            draw = source(self._recipe.seed, "order", stage, key[0], shape.num_frames, shape.height, shape.width, epoch)
            kept = {old: order for old, order in self._orders.items() if old[3] >= epoch - 1 and old[0] == stage}
            self._orders = kept | {place: torch.randperm(count, generator=draw).tolist()}
        return self._orders[place]

    def _submit(self, step: int, micro: int) -> list[Future[np.ndarray]]:
        assert self._threads is not None
        return [self._threads.submit(self._clip, step, place) for place in self.places(step, micro)]

    def _is_step(self, step: int) -> bool:
        return step < self._recipe.num_steps


def open_clips(recipe: Recipe, *, on_bad: OnBad | None = None) -> tuple[list[VAEStage], Clips]:
    """Return the clips of every stage of a recipe, and the held-out ones.

    Those have the size, length and rate of the last stage: one curve for the whole run.

    Args:
        recipe: The run.
        on_bad: Called with the name and error of each entry that cannot be used.

    Raises:
        InputError: A manifest is missing or damaged, or too many entries cannot be used.
        RefusedError: A path leaves the root.
    """
    options = recipe.data
    bad = Bad(options.max_bad, on_bad)
    train = _manifests(options.train, options.root, bad)
    apart = _manifests(options.validation, options.root, bad)

    def opened(number_: int, num_frames: int, fps: float, *, held_out: bool = False) -> FileClips:
        stage = recipe.stages[number_]
        selection = Selection(
            stage.sizes,
            num_frames,
            fps,
            min_frames=num_frames,
            min_scores={} if held_out else stage.min_scores or options.min_scores,
            where="" if held_out else stage.where or options.where,
            rejected=options.rejected,
        )
        split = None if apart else held_out
        return FileClips(apart if held_out and apart else train, selection, bad=bad, held_out=split)

    stages = []
    for i, stage in enumerate(recipe.stages):
        clips = [opened(i, stage.max_frames, fps) for fps in rates(recipe, i)]
        images = opened(i, 1, rates(recipe, i)[0]) if stage.images > 0 else None
        stages.append(VAEStage(clips, images, stage.images, stage.batch_size))
    last = len(recipe.stages) - 1
    return stages, opened(last, recipe.stages[last].max_frames, rates(recipe, last)[0], held_out=True)


def rates(recipe: Recipe, stage: int) -> tuple[float, ...]:
    """Return the rates of a stage, in frames a second."""
    return recipe.stages[stage].fps or (recipe.data.fps,)


def _manifests(paths: Sequence[str], root: str, bad: Bad) -> list[Manifest]:
    def note(error: CogvxError) -> None:
        if isinstance(error, RefusedError):
            raise error
        bad.note(str(error), error)

    return [read_manifest(path, root=root or None, on_error=note) for path in paths]
