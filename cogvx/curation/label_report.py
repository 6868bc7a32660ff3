"""Labels against the truth: the CogVideoX paper's Table 14, and thresholds that fit the user's own judgement."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogvx import __version__
from cogvx.data.labels import LABEL_TITLES, source_of, truth_of
from cogvx.data.manifest import Entry, Manifest
from cogvx.errors import InputError
from cogvx.metrics.confusion import Confusion, Objective, best_threshold, confusion, table_row

DEFAULT_THRESHOLD = 0.5
_FOLDS = 5


@dataclass(frozen=True)
class Judged:
    """A label of some clips, and the truth about it.

    Attributes:
        label: Its name.
        values: What was said of each clip, 0…1.
        truth: Whether each has it.
        sources: The original of each.
    """

    label: str
    values: tuple[float, ...]
    truth: tuple[bool, ...]
    sources: tuple[str, ...]


def match(found: Manifest, truth: Manifest, *, labels: Sequence[str] = ()) -> tuple[list[Judged], int]:
    """Return the labels that both manifests have for the same clips, and how many clips that are.

    Clips are the same if they are the same part of the same file.

    Args:
        found: With labels to be judged.
        truth: With labels to judge by; 0.5 says "unsure" and is passed over.
        labels: Labels to judge; empty: all.

    Raises:
        InputError: No clip, or no label that was asked for, is in both; or a clip is in one of them twice.
    """
    known = _by_clip(truth)
    pairs = [(entry, known[clip]) for clip, entry in _by_clip(found).items() if clip in known]
    if not pairs:
        raise InputError("no clip is in both manifests: they must name the same files and parts of files")
    names = {name for entry, _ in pairs for name in entry.get("labels", {})}
    order = [name for name in LABEL_TITLES if name in names] + sorted(names - set(LABEL_TITLES))
    judged = []
    for label in labels or order:
        rows = [
            (float(entry["labels"][label]), judge, source_of(right))
            for entry, right in pairs
            if label in entry.get("labels", {}) and (judge := truth_of(right, label)) is not None
        ]
        if rows:
            values, judges, sources = zip(*rows, strict=True)
            judged.append(Judged(label, values, judges, sources))
        elif labels:
            raise InputError(f"no clip has the label {label} in both manifests")
    if not judged:
        raise InputError("no clip has the same label in both manifests")
    return judged, len(pairs)


def report(
    judged: Sequence[Judged],
    *,
    thresholds: Mapping[str, float] | None = None,
    objective: Objective | None = None,
    num_clips: int | None = None,
) -> dict[str, Any]:
    """Return the result of a comparison, as `cogvx eval` writes results: `per_label` has the rows of the table.

    Args:
        judged: Labels with their truth.
        thresholds: Label -> least value that counts as recognised (default: 0.5).
        objective: Choose the thresholds on these clips instead, so that this is largest. Each row then also has
            `held_out_accuracy`: of thresholds that were chosen on other sources than those that they judge.
        num_clips: Clips that are in both manifests.

    Raises:
        InputError: All clips with a label, or none, have it, so that no threshold can be chosen.
    """
    rows = {}
    for one in judged:
        threshold = (thresholds or {}).get(one.label, DEFAULT_THRESHOLD)
        more: dict[str, Any] = {}
        if objective is not None:
            try:
                threshold = best_threshold(one.values, one.truth, objective=objective)
            except InputError as error:
                raise InputError(f"{one.label}: {error}") from error
            accuracy = _held_out_accuracy(one, objective)
            more = {"held_out_accuracy": None if accuracy is None else round(accuracy, 4)}
        rows[one.label] = table_row(one.values, one.truth, threshold) | more
    accuracies = [row["accuracy"] for row in rows.values()]
    return {
        "metric": "label_accuracy",
        "value": round(sum(accuracies) / len(accuracies), 4),
        "n": num_clips if num_clips is not None else max(row["n"] for row in rows.values()),
        "per_label": rows,
        "protocol": {
            "thresholds": {label: row["threshold"] for label, row in rows.items()},
            "chosen_by": objective or "given",
            "positive": "the clip has the fault",
        },
        "version": __version__,
    }


def _held_out_accuracy(one: Judged, objective: Objective) -> float | None:
    """Return the accuracy of thresholds that were chosen on other sources; None if there are too few."""
    names = sorted(set(one.sources))
    count = min(_FOLDS, len(names))
    total = Confusion(0, 0, 0, 0)
    for fold in range(count):
        here = set(names[fold::count])
        rest = [i for i, source in enumerate(one.sources) if source not in here]
        own = [i for i, source in enumerate(one.sources) if source in here]
        truth = [one.truth[i] for i in rest]
        if not any(truth) or all(truth):
            return None
        threshold = best_threshold([one.values[i] for i in rest], truth, objective=objective)
        total += confusion([one.values[i] for i in own], [one.truth[i] for i in own], threshold=threshold)
    return total.accuracy if count > 1 else None


def _by_clip(manifest: Manifest) -> dict[tuple[Any, ...], Entry]:
    """Return which file and part of it -> its entry.

    Raises:
        InputError: Two entries are the same clip.
    """
    found: dict[tuple[Any, ...], Entry] = {}
    for entry in manifest.entries:
        field = "video" if "video" in entry else "image"
        clip = (os.path.realpath(manifest.path(entry, field)), entry.get("start"), entry.get("end"))
        if clip in found:
            raise InputError(f"{Path(clip[0]).name} stands twice in the manifest of {manifest.folder}")
        found[clip] = entry
    return found
