"""From manifests to the labelled clips that a filter is trained on."""

import contextlib
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from cogvx.checkpoints.clip_features import ClipFeatures, no_features
from cogvx.checkpoints.frame_networks import open_frame_network
from cogvx.data.clips import read_ahead
from cogvx.data.labels import LABEL_TITLES, source_of, truth_of
from cogvx.data.manifest import Entry, Manifest, entry_id, read_manifest
from cogvx.errors import CogvxError, InputError
from cogvx.training.filter import LabelledClips
from cogvx.training.filter_recipe import FilterRecipe

NONE = "none"
_COMMON = 0.9  # a score that fewer clips have is not taken unasked
_OF_ALL_CLIPS = {"duplicate"}  # nor one that a clip has by the others of its manifest
OnBad = Callable[[str, CogvxError], None]


@dataclass(frozen=True)
class _Row:
    """An entry that has a label, and where its file is."""

    entry: Entry
    path: Path
    name: str
    source: str


def read_labelled(
    recipe: FilterRecipe,
    *,
    cache: Path,
    device: torch.device | str = "cpu",
    on_bad: OnBad = lambda name, error: None,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> LabelledClips:
    """Read the clips of a recipe that have labels, and what is to be known of them.

    Args:
        recipe: Of the training.
        cache: Folder where features of frames are kept.
        device: Where the network for frames computes.
        on_bad: Called with each clip that cannot be used; it is left out.
        report: Called with a stage, the clips done and all of them.

    Raises:
        InputError: A manifest is broken, no clip has labels, a score that was asked for is missing everywhere, or more
            clips cannot be used than recipe.data.max_bad.
        MissingError: The network for frames is not here.
    """
    manifests = [read_manifest(path, root=recipe.data.root or None) for path in recipe.data.train]
    rows = [row for manifest in manifests for row in _rows(manifest, manifests[0].folder)]
    names = sorted({row.name for row in rows})
    if len(names) < len(rows):
        seen: set[str] = set()
        twice = next(row.name for row in rows if row.name in seen or seen.add(row.name))  # type: ignore[func-returns-value]
        raise InputError(f"{twice} is labelled twice; a clip must have one entry")
    if not rows:
        raise InputError(f"no clip has labels in {', '.join(recipe.data.train)}; `cogvx data label --serve` makes them")
    maker = None
    if recipe.frames.network != NONE:
        network = open_frame_network(recipe.frames.network, device=device)
        maker = ClipFeatures(network, recipe.frames.num_frames, cache)
    rows, features = _with_features(rows, maker, recipe, on_bad, report)
    labels = _labels(rows)
    scores = _score_names(rows, recipe.data.scores)
    return LabelledClips(
        ids=tuple(row.name for row in rows),
        sources=tuple(row.source for row in rows),
        splits=tuple(row.entry.get("split") for row in rows),
        labels=labels,
        truth=_matrix([[_number(truth_of(row.entry, label)) for label in labels] for row in rows], len(labels)),
        score_names=scores,
        scores=_matrix(
            [[_number(row.entry.get("scores", {}).get(name)) for name in scores] for row in rows], len(scores)
        ),
        features=torch.stack(features),
        frames=maker.settings() if maker is not None else {},
        made=made_of([row.entry for row in rows], scores),
    )


def made_of(entries: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> dict[str, Any]:
    """Return how each score was made, where entries say so.

    Raises:
        InputError: Two entries have a score that was made in different ways, so that its numbers cannot be compared.
    """
    found: dict[str, Any] = {}
    for entry in entries:
        made = entry.get("made", {})
        for name in scores:
            how = made.get(name) if isinstance(made, Mapping) else None
            if how is not None and found.setdefault(name, how) != how:
                raise InputError(
                    f"the score {name} was made in different ways: run `cogvx data score` on all clips again"
                )
    return found


def _rows(manifest: Manifest, base: Path) -> list[_Row]:
    """Return the labelled entries, named from a folder, so that neither names nor splits depend on where it lies."""
    rows, folder = [], Path(os.path.relpath(manifest.folder, base))
    for entry in manifest.entries:
        if not any(truth_of(entry, label) is not None for label in entry.get("labels", {})):
            continue
        field = "video" if "video" in entry else "image"
        name = entry_id({**entry, field: (folder / entry[field]).as_posix()})
        rows.append(_Row(entry, manifest.path(entry, field), name, (folder / source_of(entry)).as_posix()))
    return rows


def _with_features(
    rows: list[_Row], maker: ClipFeatures | None, recipe: FilterRecipe, on_bad: OnBad, report: Callable[..., None]
) -> tuple[list[_Row], list[Tensor]]:
    """Return the clips whose frames could be read, and their features."""
    if maker is None:
        return rows, [no_features()] * len(rows)
    kept, features, num_bad = [], [], 0

    def read(row: _Row) -> Any:
        try:
            return maker.read(row.path, start=row.entry.get("start"), end=row.entry.get("end"))
        except CogvxError as error:
            return error

    answers = cast(Generator[Any, None, None], read_ahead(rows, read, num_workers=recipe.data.workers))
    with contextlib.closing(answers):
        for done, (row, answer) in enumerate(zip(rows, answers, strict=True), 1):
            if isinstance(answer, CogvxError):
                num_bad += 1
                on_bad(row.name, answer)
                if num_bad > recipe.data.max_bad:
                    raise InputError(
                        f"{answer}; {num_bad} clips cannot be used and data.max_bad is {recipe.data.max_bad}"
                    ) from answer
            else:
                entry = row.entry
                features.append(maker.finish(answer, row.path, start=entry.get("start"), end=entry.get("end")))
                kept.append(row)
            report("clips", done, len(rows))
    if not kept:
        raise InputError("no labelled clip can be read")
    return kept, features


def _labels(rows: Sequence[_Row]) -> tuple[str, ...]:
    """Return the labels that any clip has or has not: those of the paper first, in its order."""
    found = {label for row in rows for label in row.entry["labels"] if truth_of(row.entry, label) is not None}
    return tuple([label for label in LABEL_TITLES if label in found] + sorted(found - set(LABEL_TITLES)))


def _score_names(rows: Sequence[_Row], asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return the scores to use.

    Raises:
        InputError: One that was asked for is missing from every clip.
    """
    if asked == (NONE,):
        return ()
    counts: dict[str, int] = {}
    for row in rows:
        for name in row.entry.get("scores", {}).keys() - (_OF_ALL_CLIPS - set(asked)):
            counts[name] = counts.get(name, 0) + 1
    if asked:
        missing = [name for name in asked if name not in counts]
        if missing:
            raise InputError(f"no labelled clip has the score {missing[0]}; run `cogvx data score` on them")
        return asked
    return tuple(sorted(name for name, count in counts.items() if count >= _COMMON * len(rows)))


def _number(value: float | bool | None) -> float:
    return float("nan") if value is None else float(value)


def _matrix(rows: list[list[float]], width: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), width)
