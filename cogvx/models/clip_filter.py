"""The filter of clips: a clip's scores and frame features -> the probability of each label."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from cogvx.errors import InputError
from cogvx.shapes import expect

POOLS = ("mean", "std", "change", "max")
"""What is kept of the features of a clip's frames, one block after another (see pool_frames)."""
# Where the line of a score may bend, in standard deviations of a normal distribution: ranks 0.1, 0.25, 0.5, 0.75, 0.9.
_HINGES = (-1.2816, -0.6745, 0.0, 0.6745, 1.2816)
_LEAST_RANK = 0.005  # ranks from there to 1 - that: further out there are too few clips to tell
_WIDTH = 1 + len(_HINGES)  # columns of a score


@dataclass(frozen=True, kw_only=True)
class ClipFilterConfig:
    """What a filter tells apart, and from what.

    Attributes:
        labels: What it gives probabilities of.
        scores: The scores that it takes, in their order.
        gaps: Those of them that may be missing, since clips of its training lacked them.
        num_knots: Quantiles kept of each score.
        feature_size: Numbers that frames give for a clip (len(POOLS) times those of a frame); 0: it sees no frames.
        num_components: Directions that are kept of them.
        thresholds: Label -> the probability from which on it counts as recognised.
        frames: How frames become features (network, its weights' hash, frames of a clip); empty without frames.
        made: Score -> how it was made; one made otherwise is refused.
        version: Of this layout.
    """

    labels: tuple[str, ...]
    scores: tuple[str, ...]
    gaps: tuple[str, ...]
    num_knots: int
    feature_size: int
    num_components: int
    thresholds: Mapping[str, float]
    frames: Mapping[str, Any]
    made: Mapping[str, Any]
    version: int = 1

    @property
    def design_size(self) -> int:
        """Numbers that the linear part sees of a clip."""
        return _WIDTH * len(self.scores) + len(self.gaps) + self.num_components

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, as JSON can hold them."""
        table = asdict(self)
        return table | {name: list(table[name]) for name in ("labels", "scores", "gaps")}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "ClipFilterConfig":
        """Return the config that a file holds; keys that begin with "_" are passed over.

        Raises:
            InputError: A field is missing, unknown, or of another type.
        """
        given = {key: value for key, value in table.items() if not key.startswith("_")}
        names = {item.name for item in fields(cls)}
        if given.keys() != names:
            wrong = sorted(given.keys() ^ names)
            raise InputError(f"the config of a filter has other fields than it should: {', '.join(wrong)[:200]}")
        for name in ("labels", "scores", "gaps"):
            if not (isinstance(given[name], list) and all(isinstance(item, str) for item in given[name])):
                raise InputError(f"{name} must be a list of names")
            given[name] = tuple(given[name])
        for name in ("num_knots", "feature_size", "num_components", "version"):
            if not isinstance(given[name], int) or isinstance(given[name], bool) or not 0 <= given[name] <= 1 << 20:
                raise InputError(f"{name} must be a whole number, got {given[name]!r}")
        for name in ("thresholds", "frames", "made"):
            if not isinstance(given[name], Mapping):
                raise InputError(f"{name} must be an object")
        config = cls(**given)
        config._check()
        return config

    def _check(self) -> None:
        if self.version != 1:
            raise InputError(f"a filter of version {self.version}; this cogvx reads version 1")
        if not self.labels or set(self.thresholds) != set(self.labels):
            raise InputError("a filter needs labels, and a threshold for each")
        if not all(isinstance(value, int | float) and 0 <= value <= 1.1 for value in self.thresholds.values()):
            raise InputError("a threshold is not from 0 to 1")
        if self.scores and self.num_knots < 2:
            raise InputError(f"num_knots must be at least 2, got {self.num_knots}")
        if not set(self.gaps) <= set(self.scores):
            raise InputError("gaps must be some of the scores")
        if (self.feature_size == 0) != (self.num_components == 0) or self.num_components > self.feature_size:
            raise InputError(f"{self.num_components} components do not fit {self.feature_size} features")
        if self.feature_size and not (
            isinstance(self.frames.get("network"), str)
            and isinstance(self.frames.get("sha256"), str)
            and isinstance(self.frames.get("num_frames"), int)
            and 1 <= self.frames["num_frames"] <= 4096
        ):
            raise InputError("frames must say which network saw them, the hash of its weights, and how many there were")
        if not self.design_size:
            raise InputError("a filter needs scores or frames")


class ClipFilter(nn.Module):
    """Logistic regression on each label, with calibrated probabilities.

    A score counts by its rank among the clips of the training (so its unit does not matter, nor outliers), spread as in
    a normal distribution (so rare values at its ends stand out), with a bend at five ranks: too little and too much can
    both be a fault. Features of frames are standardised and projected on
    their main directions. A score that is missing counts as an average one; that it is missing counts by itself.
    """

    knots: Tensor
    centre: Tensor
    feature_mean: Tensor
    feature_scale: Tensor
    components: Tensor

    def __init__(self, config: ClipFilterConfig) -> None:
        super().__init__()
        self.config = config
        count = len(config.scores)
        self.register_buffer("knots", torch.zeros(count, config.num_knots))
        self.register_buffer("centre", torch.zeros(_WIDTH * count))
        self.register_buffer("feature_mean", torch.zeros(config.feature_size))
        self.register_buffer("feature_scale", torch.ones(config.feature_size))
        self.register_buffer("components", torch.zeros(config.feature_size, config.num_components))
        self.weight = nn.Parameter(torch.zeros(len(config.labels), config.design_size))
        self.bias = nn.Parameter(torch.zeros(len(config.labels)))
        self.slope = nn.Parameter(torch.ones(len(config.labels)))
        self.offset = nn.Parameter(torch.zeros(len(config.labels)))

    def design(self, scores: Tensor, features: Tensor) -> Tensor:
        """Return what the linear part sees of clips, (b design_size).

        Args:
            scores: (b s); NaN where a clip has not that score.
            features: (b f), of pool_frames; (b 0) without frames.
        """
        expect(scores, "b s", "scores", s=len(self.config.scores))
        expect(features, "b f", "features", f=self.config.feature_size)
        parts = []
        if self.config.scores:
            columns = score_columns(scores, self.knots) - self.centre
            known = rearrange((~scores.isnan())[..., None].expand(-1, -1, _WIDTH), "b s k -> b (s k)")
            parts.append(torch.where(known, columns, torch.zeros_like(columns)))
            gaps = [self.config.scores.index(name) for name in self.config.gaps]
            parts.append(scores[:, gaps].isnan().to(scores.dtype))
        if self.config.num_components:
            parts.append((features - self.feature_mean) / self.feature_scale @ self.components)
        return torch.cat(parts, dim=1)

    def forward(self, scores: Tensor, features: Tensor) -> Tensor:
        """Return the probability of each label, (b labels) in 0…1; for the arguments see design."""
        logits = self.design(scores, features) @ self.weight.T + self.bias
        return torch.sigmoid(logits * self.slope + self.offset)


def score_columns(scores: Tensor, knots: Tensor) -> Tensor:
    """Return each score by its rank, about -2.6…2.6, and how far it lies above each of five ranks, (b s*6).

    The rank is turned into the value that has it in the standard normal distribution.

    Args:
        scores: (b s); NaN gives NaN.
        knots: (s k), the quantiles of each score from least to most, evenly spaced.
    """
    expect(knots, "s k", "knots", s=scores.shape[1])
    low, high = knots[:, :-1], knots[:, 1:]
    value = scores[..., None]
    # The share of each gap between quantiles that lies below the score. A gap of no width is below or above as a whole;
    # half of it counts for the scores that are equal to it.
    wide = (high > low).expand(*value.shape[:2], -1)
    inside = ((value - low) / (high - low).clamp_min(torch.finfo(knots.dtype).tiny)).clamp(0, 1)
    step = (value > low).to(scores.dtype) / 2 + (value >= low).to(scores.dtype) / 2
    rank = torch.where(wide, inside, step).mean(dim=-1).clamp(_LEAST_RANK, 1 - _LEAST_RANK)
    place = torch.where(scores.isnan(), scores, torch.special.ndtri(rank))
    bends = torch.tensor(_HINGES, dtype=scores.dtype, device=scores.device)
    columns = torch.cat([place[..., None], (place[..., None] - bends).clamp_min(0)], dim=-1)
    return rearrange(columns, "b s k -> b (s k)")


def pool_frames(features: Tensor) -> Tensor:
    """Return the features of a clip from those of its frames, (4 d).

    Their mean, standard deviation, mean absolute change from one frame to the next, and maximum over time. A clip of
    one frame does not deviate or change.

    Args:
        features: (t d), the frames in order of time.
    """
    expect(features, "t d", "features")
    change = features.diff(dim=0).abs().mean(dim=0) if len(features) > 1 else torch.zeros_like(features[0])
    deviation = features.std(dim=0, correction=0)
    return torch.cat([features.mean(dim=0), deviation, change, features.amax(dim=0)])


def quantiles(scores: Tensor, num_knots: int) -> Tensor:
    """Return evenly spaced quantiles of each score, (s k), from least to most; NaN is left out.

    Args:
        scores: (b s); every score has a value for some clip.
        num_knots: k.
    """
    places = torch.linspace(0, 1, num_knots, dtype=scores.dtype)
    return torch.stack([torch.quantile(column[~column.isnan()], places) for column in scores.T])
