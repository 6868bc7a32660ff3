"""From labelled clips to a filter: read them, train it, say how good it is."""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogvx.errors import CogvxError, UsageError

from ._console import Console, quiet_libraries
from ._label_table import table_lines

if TYPE_CHECKING:
    from cogvx.training.filter import LabelledClips, TrainedFilter
    from cogvx.training.filter_recipe import FilterRecipe

    from .train import RunFlags

MODEL, METRICS, RECIPE = "model", "metrics.json", "recipe.toml"


def run_filter_training(source: str, manifest: str | None, flags: "RunFlags") -> None:
    """Train a filter from a recipe or a manifest, or with --dry-run say what it would be trained on."""
    quiet_libraries()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("train filter runs in one process: start it without torchrun")
    from cogvx.distributed import alone
    from cogvx.training.filter_recipe import read_filter_recipe
    from cogvx.training.run_folder import lock

    console = Console(quiet=flags.quiet, json=flags.json)
    recipe = read_filter_recipe(source, manifest, changes=tuple(flags.changes or ()))
    folder = flags.output or _default_folder(source)
    _check_folder(folder, flags)
    if flags.dry_run:
        _print_plan(console, recipe, folder, flags)
        return
    started = time.monotonic()
    with lock(folder, alone()):
        clips = _read(console, recipe, folder, flags)
        if flags.resume is not None and (done := _done(folder, recipe, clips, flags)) is not None:
            console.note(f"{folder} is done already, with this recipe and these clips; nothing to do")
            _show(console, folder, done, started, kept=True)
            return
        _show(console, folder, _train(console, recipe, clips, folder), started, kept=False)


def _default_folder(source: str) -> Path:
    path = Path(source)
    if path.is_dir():
        return path
    return Path("runs") / ("filter" if source == "-" or path.suffix == ".jsonl" else path.stem)


def _check_folder(folder: Path, flags: "RunFlags") -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a run needs a folder")
    done = (folder / MODEL).exists()
    if flags.resume is None and flags.allow_changes:
        raise UsageError("--resume-allow-changes is of use with --resume only")
    if flags.resume is None and done:
        raise UsageError(f"{folder} has a filter; pass --resume latest, or take another folder")
    if flags.resume not in (None, "latest") and Path(str(flags.resume)).resolve() != folder.resolve():
        raise UsageError(f"--resume {flags.resume}: a filter has no checkpoints; give latest")
    if flags.resume is not None and not folder.is_dir():
        raise UsageError(f"{folder} does not exist; start without --resume")


def _read(console: Console, recipe: "FilterRecipe", folder: Path, flags: "RunFlags") -> "LabelledClips":
    from cogvx.generate.options import choose_device
    from cogvx.training.filter_clips import read_labelled
    from cogvx.training.run_folder import list_bad

    def bad(name: str, error: CogvxError) -> None:
        list_bad(folder, name, error)
        console.failure(name, error, str(error))

    with console.progress("train filter") as report:
        return read_labelled(
            recipe,
            cache=Path(recipe.frames.cache) if recipe.frames.cache else folder / "features",
            device=choose_device(flags.device),
            on_bad=bad,
            report=report,
        )


def _done(folder: Path, recipe: "FilterRecipe", clips: "LabelledClips", flags: "RunFlags") -> dict[str, Any] | None:
    """Return the metrics of a run that is done with the same recipe and clips; None if it is not done.

    Raises:
        UsageError: It was done with others.
    """
    from cogvx.training.options_toml import dump_options

    try:
        metrics = json.loads((folder / METRICS).read_bytes())
        before = (folder / RECIPE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    if not (folder / MODEL / "config.json").is_file():
        return None
    changed = [
        name
        for name, same in (
            ("recipe", before == dump_options(recipe)),
            ("clips", metrics.get("data_sha256") == clips.sha256()),
        )
        if not same
    ]
    if changed and not flags.allow_changes:
        raise UsageError(
            f"{folder} was trained with another {' and other '.join(changed)}; pass --resume-allow-changes to train "
            "it anew, or take another folder"
        )
    return None if changed else metrics


def _train(console: Console, recipe: "FilterRecipe", clips: "LabelledClips", folder: Path) -> dict[str, Any]:
    """Train, and write the run folder; model/ comes last."""
    from cogvx import __version__
    from cogvx.checkpoints.clip_filter import write_filter
    from cogvx.files import atomic_path, write_text
    from cogvx.training.filter import train_filter
    from cogvx.training.options_toml import dump_options
    from cogvx.training.run_folder import Metrics

    write_text(folder / RECIPE, dump_options(recipe))
    lines = Metrics(folder / "metrics.jsonl")
    try:
        trained = train_filter(clips, recipe, write=lines.write)
    finally:
        lines.close()
    for label, why in trained.left_out.items():
        console.warn(f"the label {label} is left out: {why}")
    metrics = _metrics(trained, clips) | {"version": __version__, "data_sha256": clips.sha256()}
    predictions = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in trained.predictions)
    write_text(folder / "predictions.jsonl", predictions)
    with atomic_path(folder / MODEL) as temporary:
        write_filter(trained.network, temporary)
    write_text(folder / METRICS, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    return metrics


def _metrics(trained: "TrainedFilter", clips: "LabelledClips") -> dict[str, Any]:
    tests = trained.tests
    accuracies = [row["accuracy"] for row in tests.values()]
    num_test = sum(record["test"] for record in trained.predictions)
    return {
        "metric": "filter_test_accuracy",
        "value": round(sum(accuracies) / len(accuracies), 4) if accuracies else None,
        "n": num_test,
        "num_train": len(clips.ids) - num_test,
        "num_sources": len(set(clips.sources)),
        "per_label": tests,
        "cross_validated": trained.cross,
        "left_out": trained.left_out,
        "scores": list(clips.score_names),
        "frames": dict(clips.frames),
        "protocol": {
            "split": "by source; no original is on both sides",
            "thresholds": "chosen on the clips of the training by fits that had not seen their source",
            "positive": "the clip has the fault",
        },
    }


def _show(console: Console, folder: Path, metrics: dict[str, Any], started: float, *, kept: bool) -> None:
    for line in table_lines(metrics["per_label"]):
        console.note(line)
    seconds = round(time.monotonic() - started, 1)
    record = {"output": str(folder / MODEL), "run": str(folder), "kept": kept, "seconds": seconds}
    names = ("value", "n", "num_train", "num_sources", "per_label", "left_out")
    console.result(folder / MODEL, record | {name: metrics[name] for name in names})


def _print_plan(console: Console, recipe: "FilterRecipe", folder: Path, flags: "RunFlags") -> None:
    """Say what would be trained on, having read the manifests but no clip."""
    from collections import Counter

    from cogvx.checkpoints.frame_networks import open_frame_network
    from cogvx.data.labels import source_of, truth_of
    from cogvx.data.manifest import read_manifest
    from cogvx.generate.options import choose_device

    counts: Counter[str] = Counter()
    sources, scores = set(), set()
    num_clips = 0
    for path in recipe.data.train:
        for entry in read_manifest(path, root=recipe.data.root or None).entries:
            judged = {label: truth_of(entry, label) for label in entry.get("labels", {})}
            judged = {label: value for label, value in judged.items() if value is not None}
            if judged:
                num_clips += 1
                counts.update(label for label, value in judged.items() if value)
                sources.add((path, source_of(entry)))
                scores.update(entry.get("scores", {}))
    if recipe.frames.network != "none":
        open_frame_network(recipe.frames.network, device=choose_device(flags.device))
    with_it = ", ".join(f"{label} {count}" for label, count in sorted(counts.items())) or "none"
    console.result(
        f"{folder}: {num_clips} labelled clips of {len(sources)} sources, {len(scores)} scores, frames by "
        f"{recipe.frames.network}; clips with each label: {with_it}",
        {
            **{"output": str(folder), "dry_run": True, "clips": num_clips, "sources": len(sources)},
            **{"scores": sorted(scores), "labels": dict(sorted(counts.items())), "network": recipe.frames.network},
        },
    )
