"""The training of a filter: labelled clips in; a fit for each label and its table on held-out clips out."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cogvx.errors import InputError
from cogvx.metrics.confusion import best_threshold, table_row
from cogvx.models.clip_filter import ClipFilter, ClipFilterConfig, quantiles, score_columns
from cogvx.training.filter_recipe import FilterFit, FilterRecipe
from cogvx.training.filter_split import held_out, spread
from cogvx.training.logistic import calibrate, class_weights, fit_logistic, log_loss


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledClips:
    """What is known of n clips.

    Attributes:
        ids: What tells each from all others.
        sources: The original that each comes from.
        splits: What each entry says of its split.
        labels: Names.
        truth: (n labels) 0 or 1; NaN where nobody judged.
        score_names: Names.
        scores: (n s) float64; NaN where a clip has not that score.
        features: (n f), of the frames; f = 0: no frames.
        frames: How the features were made, for the filter's config.
        made: Score -> how it was made.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    splits: tuple[str | None, ...]
    labels: tuple[str, ...]
    truth: Tensor
    score_names: tuple[str, ...]
    scores: Tensor
    features: Tensor
    frames: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)

    def sha256(self) -> str:
        """Return the hash of all of it."""
        text = [self.ids, self.sources, self.splits, self.labels, self.score_names, self.frames, self.made]
        digest = hashlib.sha256(repr(text).encode("utf-8", "surrogatepass"))
        for tensor in (self.truth, self.scores, self.features):
            digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class TrainedFilter:
    """The result of a training.

    Attributes:
        network: The filter.
        tests: Label -> its row of the table, on held-out clips that nothing was chosen by.
        cross: Label -> the same on the clips of the training, each judged by a fit that had not seen its source.
        left_out: Label -> why it was not learnt.
        predictions: A record a clip: id, whether it was held out, its probabilities and its truth.
    """

    network: ClipFilter
    tests: dict[str, dict[str, Any]]
    cross: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    predictions: list[dict[str, Any]]


def train_filter(
    clips: LabelledClips, recipe: FilterRecipe, *, write: Callable[[dict[str, Any]], None] = lambda record: None
) -> TrainedFilter:
    """Train a filter.

    Some sources are held out. On the others, for each label, the strengths of the ridge are chosen by cross-validation
    over sources; what the fits of the folds say of clips that they had not seen calibrates the probabilities and
    sets the threshold; then one fit is made on all of them. The same clips and recipe give the same filter.

    Args:
        clips: The labelled clips.
        recipe: Of the training.
        write: Called with a record of each fit, for metrics.jsonl.

    Raises:
        InputError: The clips do not allow it: too few, from one source, or a label that was asked for has too few.
    """
    test = held_out(clips.sources, clips.splits, clips.truth, ratio=recipe.data.test_ratio, seed=recipe.seed)
    train = np.flatnonzero(~test)
    sources = [clips.sources[i] for i in train]
    num_folds = min(recipe.fit.num_folds, len(set(sources)))
    folds = spread(sources, clips.truth[train], num_parts=num_folds, seed=recipe.seed)
    learnt, left_out = _learnable(clips, train, folds, recipe)
    network = _standardised(clips, train, learnt, recipe.fit)
    design = network.design(clips.scores.float(), clips.features.float()).double()
    fits: dict[str, _Fit] = {}
    step = 0
    for label in learnt:
        column = clips.truth[:, clips.labels.index(label)]
        rows = train[(~column[train].isnan()).numpy()]
        parts = folds[(~column[train].isnan()).numpy()]
        search = _Search(design[rows], column[rows], parts, network.config, recipe.fit)
        fits[label] = search.run()
        for record in search.records:
            step += 1
            write({"step": step, "label": label, **record})
    network = _filled(network, fits)
    tests, cross = _tables(network, clips, test, fits)
    return TrainedFilter(network, tests, cross, left_out, _predictions(network, clips, test, fits))


@dataclass(frozen=True, eq=False)
class _Fit:
    """The fit of one label.

    Attributes:
        weight: (p,).
        bias: Of the logit.
        slope: Of the calibration.
        offset: Of the calibration.
        threshold: Of the probability.
        unseen: Probabilities of the clips of the training, by fits that had not seen their source.
        truth: Of these clips.
    """

    weight: Tensor
    bias: Tensor
    slope: float
    offset: float
    threshold: float
    unseen: list[float]
    truth: list[bool]


class _Search:
    """The choice of the ridges of one label, and the fit with them."""

    def __init__(
        self, design: Tensor, truth: Tensor, folds: np.ndarray, config: ClipFilterConfig, options: FilterFit
    ) -> None:
        self.design, self.truth, self.folds, self.options = design, truth, folds, options
        frames = config.num_components
        of_scores = options.score_ridge if config.design_size > frames else options.score_ridge[:1]
        of_frames = options.frame_ridge if frames else options.frame_ridge[:1]
        self.grid = [(score, frame) for score in of_scores for frame in of_frames]
        count = config.design_size - frames
        self.ridge = torch.tensor([[s] * count + [f] * frames for s, f in self.grid], dtype=torch.float64)
        self.records: list[dict[str, Any]] = []

    def run(self) -> _Fit:
        """Return the fit with the ridges of least log loss on unseen clips."""
        unseen = torch.zeros(len(self.grid), len(self.truth), dtype=torch.float64)
        for fold in np.unique(self.folds):
            seen, rest = np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)
            weights, biases = self._fit(seen, self.ridge)
            unseen[:, rest] = weights @ self.design[rest].T + biases[:, None]
        losses = log_loss(unseen, self.truth, class_weights(self.truth))
        best = int(losses.argmin())
        for (score, frame), loss in zip(self.grid, losses.tolist(), strict=True):
            self.records.append({"score_ridge": score, "frame_ridge": frame, "val_loss": loss})
        weights, biases = self._fit(np.arange(len(self.truth)), self.ridge[best : best + 1])
        slope, offset = calibrate(unseen[best], self.truth)
        chances = torch.sigmoid(unseen[best] * slope + offset).tolist()
        truth = [bool(value) for value in self.truth]
        threshold = best_threshold(chances, truth, objective=self.options.objective)
        return _Fit(weights[0], biases[0], slope, offset, threshold, chances, truth)

    def _fit(self, rows: np.ndarray, ridge: Tensor) -> tuple[Tensor, Tensor]:
        truth = self.truth[rows]
        return fit_logistic(self.design[rows], truth, ridge, class_weights(truth))


def _learnable(
    clips: LabelledClips, train: np.ndarray, folds: np.ndarray, recipe: FilterRecipe
) -> tuple[list[str], dict[str, str]]:
    """Return the labels that can be learnt, and why the others cannot.

    Raises:
        InputError: One of them was asked for, or none is left.
    """
    learnt, left_out = [], {}
    for label in recipe.data.labels or clips.labels:
        if label not in clips.labels:
            raise InputError(f"no clip has the label {label}; there are {', '.join(clips.labels) or 'none'}")
        column = clips.truth[:, clips.labels.index(label)][train]
        least = recipe.data.min_clips
        counts = [int((column == value).sum()) for value in (1, 0)]
        parts = [len(np.unique(folds[(column == value).numpy()])) for value in (1, 0)]
        if min(counts) < least:
            why = f"{counts[0]} clips to train on have it and {counts[1]} have it not; {least} of each are needed"
        elif min(parts) < 2:
            why = "all clips that have it, or all that have it not, come from one source"
        else:
            learnt.append(label)
            continue
        if recipe.data.labels:
            raise InputError(f"the label {label} cannot be learnt: {why}")
        left_out[label] = why
    if not learnt:
        reasons = "; ".join(f"{label}: {why}" for label, why in left_out.items()) or "no clip has labels"
        raise InputError(f"no label can be learnt: {reasons}")
    return learnt, left_out


def _standardised(clips: LabelledClips, train: np.ndarray, labels: list[str], options: FilterFit) -> ClipFilter:
    """Return a filter without weights, whose scales are those of the clips of the training."""
    scores, features = clips.scores[train], clips.features[train].double()
    gaps = tuple(name for name, column in zip(clips.score_names, scores.T, strict=True) if bool(column.isnan().any()))
    count = min(options.num_components, features.shape[1], max(1, len(train) - 1)) if features.shape[1] else 0
    config = ClipFilterConfig(
        labels=tuple(labels),
        scores=clips.score_names,
        gaps=gaps,
        num_knots=options.num_knots if clips.score_names else 0,
        feature_size=features.shape[1],
        num_components=count,
        thresholds=dict.fromkeys(labels, 0.5),
        frames=clips.frames,
        made={name: clips.made[name] for name in clips.score_names if name in clips.made},
    )
    network = ClipFilter(config).requires_grad_(False)
    if clips.score_names:
        network.knots.copy_(quantiles(scores, options.num_knots))
        network.centre.copy_(score_columns(scores.float(), network.knots).nanmean(dim=0))
    if count:
        mean, scale = features.mean(dim=0), features.std(dim=0, correction=0)
        scale = torch.where(scale > 1e-6 * (1 + mean.abs()), scale, torch.inf)  # what never changes says nothing
        network.feature_mean.copy_(mean)
        network.feature_scale.copy_(torch.where(scale.isinf(), torch.full_like(scale, 1e30), scale))
        network.components.copy_(_components((features - mean) / scale, count))
    return network


def _components(features: Tensor, count: int) -> Tensor:
    """Return the main directions of standardised features, (f count), scaled so that all variance together is 1."""
    n, size = features.shape
    if n < size:  # the same directions, from the smaller of both matrices
        values, vectors = torch.linalg.eigh(features @ features.T)
        directions = features.T @ vectors[:, -count:] / values[-count:].clamp_min(1e-12).sqrt()
    else:
        values, vectors = torch.linalg.eigh(features.T @ features)
        directions = vectors[:, -count:]
    total = (values.clamp_min(0).sum() / n).clamp_min(1e-12).sqrt()
    # An eigenvector's sign is arbitrary; the entry that is largest is made positive.
    signs = torch.sign(directions.gather(0, directions.abs().argmax(dim=0, keepdim=True)))
    return (directions * torch.where(signs == 0, torch.ones_like(signs), signs) / total).flip(1)


def _filled(network: ClipFilter, fits: Mapping[str, _Fit]) -> ClipFilter:
    """Return the filter with the weights and thresholds of its labels."""
    table = network.config.to_dict() | {"thresholds": {label: fit.threshold for label, fit in fits.items()}}
    filled = ClipFilter(ClipFilterConfig.from_dict(table)).requires_grad_(False)
    filled.load_state_dict(network.state_dict())
    for i, fit in enumerate(fits.values()):
        filled.weight[i], filled.bias[i] = fit.weight.float(), fit.bias.float()
        filled.slope[i], filled.offset[i] = fit.slope, fit.offset
    return filled.eval()


def _tables(
    network: ClipFilter, clips: LabelledClips, test: np.ndarray, fits: Mapping[str, _Fit]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    chances = network(clips.scores.float(), clips.features.float())
    tests = {}
    for i, (label, fit) in enumerate(fits.items()):
        column = clips.truth[:, clips.labels.index(label)]
        rows = np.flatnonzero(test & (~column.isnan()).numpy())
        if len(rows):
            truth = [bool(value) for value in column[rows]]
            tests[label] = table_row(chances[rows, i].tolist(), truth, fit.threshold)
    return tests, {label: table_row(fit.unseen, fit.truth, fit.threshold) for label, fit in fits.items()}


def _predictions(
    network: ClipFilter, clips: LabelledClips, test: np.ndarray, fits: Mapping[str, _Fit]
) -> list[dict[str, Any]]:
    """Return what is said of each clip; of a clip of the training, by the fit that had not seen its source."""
    chances = network(clips.scores.float(), clips.features.float())
    unseen = {label: iter(fit.unseen) for label, fit in fits.items()}
    records = []
    for row, name in enumerate(clips.ids):
        record: dict[str, Any] = {"id": name, "source": clips.sources[row], "test": bool(test[row])}
        truth, found = {}, {}
        for i, label in enumerate(fits):
            value = float(clips.truth[row, clips.labels.index(label)])
            if value == value:
                truth[label] = value
                found[label] = round(float(chances[row, i]) if test[row] else next(unseen[label]), 6)
        records.append(record | {"truth": truth, "probabilities": found})
    return records
