"""Latents of a clip to one feature vector a frame: what the captioner and the dual encoder see of it."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from math import prod
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from cogvx.errors import InputError
from cogvx.models.words import Vocabulary
from cogvx.shapes import expect

_MAX_SIZE = 1_000_000
_FRAME_PERIOD = 8  # clips are trained on at lengths of 8k + 1 frames
Config = TypeVar("Config", bound="ClipTextConfig")


@dataclass(frozen=True, kw_only=True)
class ClipTextConfig:
    """What the networks that know clips and captions share: sizes, words, and the clips that they were trained on.

    Attributes:
        latent_channels: Channels of the VAE's latents.
        grid: Height and width that a latent frame is pooled to.
        convolutions: Channels of 3x3 convolutions over the grid; none: the dense layer sees the latents themselves.
        hidden_size: Width h of features and of the states of both directions of an LSTM together; even.
        embed_size: Width of a word's embedding.
        dropout: Share of a frame's features that training sets to zero.
        words: The vocabulary.
        sizes: Heights and widths in pixels of the clips of the training.
        num_frames: Their most frames.
        fps: Their frames a second.
        coarse: Height and width that the convolutions' result is averaged to for the dense layer, which then also sees
            the greatest value of each channel over the grid: what there is, wherever it is. Empty: it sees the grid.
    """

    latent_channels: int
    grid: tuple[int, int]
    convolutions: tuple[int, ...]
    hidden_size: int
    embed_size: int
    dropout: float
    words: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    num_frames: int
    fps: float
    coarse: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.hidden_size % 2:
            raise ValueError(f"hidden_size must be even, got {self.hidden_size}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout:g}")
        if self.coarse and (len(self.coarse) != 2 or any(g % c for g, c in zip(self.grid, self.coarse, strict=True))):
            raise ValueError(f"coarse must divide the grid {[*self.grid]}, got {[*self.coarse]}")
        if not self.sizes:
            raise ValueError("sizes are empty")
        if self.num_frames % _FRAME_PERIOD != 1 or self.fps <= 0:
            raise ValueError(
                f"num_frames must be {_FRAME_PERIOD}k + 1 and fps above 0, got {self.num_frames} and {self.fps:g}"
            )

    @property
    def frame_values(self) -> int:
        """Values of one frame that the dense layer sees."""
        channels = (self.latent_channels, *self.convolutions)[-1]
        return channels * (prod(self.coarse) + 1 if self.coarse else prod(self.grid))

    @property
    def vocabulary(self) -> Vocabulary:
        """The words with their numbers."""
        return Vocabulary(self.words)

    @classmethod
    def from_dict(cls: type[Config], table: dict[str, Any]) -> Config:
        """Read the content of a `config.json`.

        Raises:
            InputError: A key is unknown or missing, or a value is not possible.
        """
        known = {item.name: item for item in fields(cls)}
        given = {key: value for key, value in table.items() if not key.startswith("_")}
        missing = {name for name, item in known.items() if item.default is MISSING} - set(given)
        if strange := set(given) - set(known):
            raise InputError(f"config.json: unknown key {min(strange)!r}")
        if missing:
            raise InputError(f"config.json: missing key {min(missing)!r}")
        hints = get_type_hints(cls)
        try:
            made = cls(**{key: _converted(value, hints[key], key) for key, value in given.items()})
            made.vocabulary  # noqa: B018  # says whether the words are some
        except ValueError as error:
            raise InputError(f"config.json: {error}") from error
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `config.json`."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class LatentFrames(nn.Module):
    """Pools each latent frame to a grid, and makes a feature vector of it: convolutions if there are some, dense."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.latent_channels, self.grid, self.coarse = config.latent_channels, config.grid, config.coarse
        self.dropout = config.dropout
        channels = (config.latent_channels, *config.convolutions)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(narrow, wide, 3, padding=1) for narrow, wide in zip(channels[:-1], channels[1:], strict=True)
        )
        self.dense = nn.Linear(config.frame_values, config.hidden_size)

    def forward(self, latents: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Return the features (b t h) of latents (b c t h w), times the scaling factor.

        Args:
            latents: Of any size and length.
            generators: One a clip, of its dropout, on the CPU; none: nothing is dropped.

        Raises:
            ShapeError: The latents have other axes or channels.
        """
        b = expect(latents, "b c t h w", "latents", c=self.latent_channels)["b"]
        x = rearrange(latents.float(), "b c t h w -> (b t) c h w")
        # Pooled before anything is trained: the way back through this pooling has no fixed order of sums on a GPU.
        x = F.adaptive_avg_pool2d(x, self.grid)
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
        if self.coarse:
            h, w = self.coarse
            means = reduce(x, "n c (h p) (w q) -> n (c h w)", "mean", h=h, w=w)
            x = torch.cat([means, x.amax(dim=(2, 3))], dim=1)
        features = self.dense(rearrange(x.flatten(1), "(b t) d -> b t d", b=b))
        return features if generators is None else _dropped(features, self.dropout, generators)


def temporal_consistency(features: Tensor) -> Tensor:
    """Return (b,) the mean over t of ||Z_t - Z_{t+1}||^2 of features Z (b t h); 0 for a single frame.

    Source: the student paper on CogVideoX, "Temporal Consistency Regularization". Its Z are the VAE's latents; these
    are given here, so that the term is of the features that the network makes of them.
    """
    if features.shape[1] < 2:
        return features.new_zeros(len(features))
    return (features[:, 1:] - features[:, :-1]).square().sum(dim=2).mean(dim=1)


def _dropped(features: Tensor, share: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Drop features, each clip by its own source, so that what is drawn for it does not depend on its batch."""
    if share == 0:
        return features
    shape = features.shape[1:]
    kept = torch.stack([torch.rand(shape, generator=generator) >= share for generator in generators])
    return features * kept.to(features) / (1 - share)


def _converted(value: Any, hint: Any, name: str) -> Any:
    """Return a value of a JSON file as the type of a field."""
    if get_origin(hint) is tuple:
        items = get_args(hint)
        if not isinstance(value, list | tuple) or (items[-1] is not ... and len(value) != len(items)):
            raise ValueError(f"{name} cannot be {value!r:.60}")
        return tuple(_converted(item, items[0], name) for item in value)
    if hint is float and type(value) is int:
        value = float(value)
    least = 0 if hint is float else 1
    if type(value) is not hint or (hint in (int, float) and not least <= value <= _MAX_SIZE):
        raise ValueError(f"{name} cannot be {value!r:.60}")
    return value
