"""From the answers of people to labels in a manifest."""

import contextlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import IO, Any

from cogvx.curation.labelling.serve import KIND
from cogvx.curation.labelling.site import item_keys
from cogvx.data.manifest import Entry, format_entry, iter_manifest
from cogvx.data.paths import checked_absolute, relative_to
from cogvx.errors import CogvxError, InputError
from cogvx.files import atomic_path, clean
from cogvx.serving.journal import Answer, Journal

VERSION = 1


@dataclass
class ExportResult:
    """What was written.

    Attributes:
        total: Entries of the manifest.
        labelled: Entries that people have labelled.
        raters: People whose labels were used.
        strangers: Clips that were labelled and are not in the manifest.
        positive: Label -> entries whose label is above 0.5.
        agreement: Label -> share of pairs of people that say the same about a clip; only where two people saw one.
    """

    total: int = 0
    labelled: int = 0
    raters: int = 0
    strangers: int = 0
    positive: dict[str, int] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)


def export_labels(
    database: Path | str,
    manifest: Path | str,
    target: Path | str,
    *,
    root: Path | str | None = None,
    overwrite: bool = False,
    on_bad_line: Callable[[CogvxError], None] | None = None,
) -> ExportResult:
    """Write a manifest with the labels that people gave: the mean over them, from 0 to 1.

    Labels of other names stay; entries that nobody has labelled stay as they are. `made` says how many people a
    label is the mean of.

    Args:
        database: The answers.
        manifest: Of the clips, or of some of them, also after it has been scored or moved.
        target: The manifest to write; "-": standard output.
        root: What the manifest's paths must stay inside (default: its folder).
        overwrite: Whether a target that exists is replaced.
        on_bad_line: Told of lines that are no entries (default: the first one is raised).

    Raises:
        InputError: The database or the manifest cannot be read, or no clip of it is labelled.
        RefusedError: A path leaves the root.
        UsageError: The target exists.
    """
    with Journal(database, KIND) as journal:
        answers: dict[str, dict[str, Answer]] = defaultdict(dict)
        for answer in journal.latest():
            answers[answer.item][answer.rater] = answer
    result, seen = ExportResult(), set()
    folder = Path(manifest).parent if str(manifest) != "-" else Path()
    base = Path(target).parent if str(target) != "-" else Path()
    moves = os.path.realpath(folder) != os.path.realpath(base)
    pairs: dict[str, list[bool]] = defaultdict(list)
    raters: set[str] = set()

    def lines() -> Iterator[bytes]:
        for place, entry in iter_manifest(manifest, on_error=on_bad_line):
            result.total += 1
            try:
                keys = item_keys(entry)
            except InputError as error:
                raise InputError(f"{place}: {error}") from error
            by_rater: dict[str, Answer] = {}
            for key in reversed(keys):  # the first key counts where both have an answer of one person
                by_rater |= answers.get(key, {})
                seen.update({key} & answers.keys())
            if by_rater:
                entry = with_people(entry, [dict(one.answer) for one in by_rater.values()])
                result.labelled += 1
                raters.update(by_rater)
                _count(result, pairs, [one.answer for one in by_rater.values()], entry)
            if moves:
                moved = checked_absolute(entry, folder=folder, root=Path(root) if root is not None else folder)
                entry = relative_to(moved, base)
            yield format_entry(entry)

    with contextlib.ExitStack() as stack:
        file: IO[bytes] = sys.stdout.buffer
        if str(target) != "-":
            temporary = stack.enter_context(atomic_path(target, overwrite=overwrite))
            file = stack.enter_context(open(temporary, "wb"))
        file.writelines(lines())
        file.flush()
        if not result.labelled:
            raise InputError(f"{clean(str(database))}: no answer in it is about a clip of {clean(str(manifest))}")
    result.raters, result.strangers = len(raters), len(answers.keys() - seen)
    result.agreement = {label: sum(same) / len(same) for label, same in sorted(pairs.items())}
    return result


def with_people(entry: Entry, answers: list[dict[str, Any]]) -> Entry:
    """Return an entry with the mean of some people's labels."""
    names = sorted({name for answer in answers for name in answer})
    given = {name: [float(answer[name]) for answer in answers if name in answer] for name in names}
    labels = {name: round(sum(values) / len(values), 6) for name, values in given.items()}
    made = entry.get("made") if isinstance(entry.get("made"), dict) else {}
    how = {
        f"labels.{name}": {"version": VERSION, "labeller": "people", "raters": len(values)}
        for name, values in given.items()
    }
    return entry | {"labels": {**entry.get("labels", {}), **labels}, "made": {**(made or {}), **how}}


def _count(result: ExportResult, pairs: dict[str, list[bool]], answers: list[Mapping[str, Any]], entry: Entry) -> None:
    for name in answers[0]:
        result.positive[name] = result.positive.get(name, 0) + (entry["labels"][name] > 0.5)
    for one, other in combinations(answers, 2):
        for name in one.keys() & other.keys():
            pairs[name].append(one[name] == other[name])
