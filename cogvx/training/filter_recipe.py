"""What the training of a filter is told: a few tables with a default for everything but the clips."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cogvx.errors import UsageError
from cogvx.training.options_toml import parse_options, read_text


def _within(default: Any, *, least: float | None = None, most: float | None = None, above: float | None = None) -> Any:
    """Return a field whose number, or each of whose numbers, must lie in a range; recipe_toml checks it."""
    return field(default=default, metadata={"least": least, "most": most, "above": above})


@dataclass(frozen=True, kw_only=True)
class FilterData:
    """The labelled clips.

    Attributes:
        train: Manifests with `labels`, and with `scores` if scores are used.
        root: Folder that the manifests' paths must stay inside; empty: each manifest's own.
        labels: Labels to learn; empty: all that enough clips have and have not.
        scores: Scores to use; empty: all that nine clips in ten have, but for duplicate; "none": none.
        test_ratio: Share of the clips that is held out for the table, by source; not used if entries say
            split = "test".
        min_clips: Fewest clips with a label, and without it, that it can be learnt from.
        max_bad: Clips that may be unreadable before the run stops; each is listed in bad.jsonl.
        workers: Threads that read clips ahead.
    """

    train: tuple[str, ...] = ()
    root: str = ""
    labels: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    test_ratio: float = _within(0.1, above=0, most=0.5)
    min_clips: int = _within(5, least=2)
    max_bad: int = _within(0, least=0)
    workers: int = _within(1, least=0, most=256)


@dataclass(frozen=True, kw_only=True)
class FilterFrames:
    """How frames become features.

    Attributes:
        network: "efficientnet-lite0", "clip:FOLDER", or "none" for scores alone.
        num_frames: Frames of a clip, evenly spread over it.
        cache: Folder where features are kept by content; empty: features/ in the run folder.
    """

    network: str = "efficientnet-lite0"
    num_frames: int = _within(16, least=1, most=512)
    cache: str = ""


@dataclass(frozen=True, kw_only=True)
class FilterFit:
    """How the fit is made. Its strengths are chosen for each label by cross-validation over sources.

    Attributes:
        num_folds: Parts of the cross-validation.
        num_components: Main directions of the frame features that are kept, at most.
        num_knots: Quantiles kept of each score.
        score_ridge: Strengths to try that hold the weights of scores at 0.
        frame_ridge: The same of frame features.
        objective: What thresholds make largest: accuracy, balanced (the mean over clips with and without the label),
            or f1.
    """

    num_folds: int = _within(5, least=2, most=50)
    num_components: int = _within(128, least=1, most=4096)
    num_knots: int = _within(33, least=2, most=1024)
    score_ridge: tuple[float, ...] = _within((1e-4, 1e-3, 1e-2, 1e-1, 1.0), above=0)
    frame_ridge: tuple[float, ...] = _within((1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e6), above=0)
    objective: Literal["accuracy", "balanced", "f1"] = "accuracy"


@dataclass(frozen=True, kw_only=True)
class FilterRecipe:
    """A recipe of kind filter.

    Attributes:
        kind: What it trains.
        seed: Of the split into sources that are trained on and held out.
        data: The labelled clips.
        frames: How frames become features.
        fit: How the fit is made.
    """

    kind: Literal["filter"] = "filter"
    seed: int = _within(0, least=0)
    data: FilterData = FilterData()
    frames: FilterFrames = FilterFrames()
    fit: FilterFit = FilterFit()


def read_filter_recipe(source: str, manifest: str | None = None, *, changes: tuple[str, ...] = ()) -> FilterRecipe:
    """Read the recipe of a filter; a manifest in its place is trained on with every default.

    Args:
        source: A TOML file, a run folder (its recipe.toml), a manifest (.jsonl), or "-" for a recipe on stdin.
        manifest: Clips to train on, in place of data.train.
        changes: `key=value` texts that override fields, such as `fit.num_folds=10`.

    Raises:
        InputError: The file cannot be read.
        UsageError: It is no TOML, a key is unknown or has a value of the wrong type or out of range, or there is
            nothing to train on.
    """
    if Path(source).suffix.lower() == ".jsonl":
        if manifest is not None:
            raise UsageError(f"{source} and {manifest} are both manifests; data.train of a recipe takes several")
        text, name, manifest = "", "the command line", source
    else:
        text, name = read_text(source)
    recipe = parse_options(FilterRecipe, text, name=name, changes=changes)
    if manifest is not None:
        recipe = replace(recipe, data=replace(recipe.data, train=(manifest,)))
    if not recipe.data.train:
        raise UsageError("there is nothing to train on: add a MANIFEST, or data.train to the recipe")
    if recipe.frames.network == "none" and recipe.data.scores == ("none",):
        raise UsageError("frames.network and data.scores are both none; a filter needs one of them")
    if not recipe.fit.score_ridge or not recipe.fit.frame_ridge:
        raise UsageError("fit.score_ridge and fit.frame_ridge must not be empty")
    return recipe
