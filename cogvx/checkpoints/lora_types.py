"""A LoRA in memory: low-rank changes of a transformer's weights.

A pair of matrices changes a weight by (alpha / rank) * up @ down.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

AlphaSource = Literal["tensors", "header", "adapter_config", "convention", "absent"]


@dataclass(frozen=True)
class LoRAPair:
    """The change of one linear or convolutional layer.

    Attributes:
        down: (r in), or (r in k k) for a convolution.
        up: (out r), or (out r 1 1).
        alpha: Strength times rank; None when the file does not say, which counts as alpha = rank.
    """

    down: Tensor
    up: Tensor
    alpha: float | None = None

    @property
    def rank(self) -> int:
        """Rank of the change."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """What up @ down is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight that it changes."""
        return (self.up.shape[0], *self.down.shape[1:])

    def delta(self) -> Tensor:
        """Return the change in float32, of the weight's shape."""
        return self.scale * (self.up.float().flatten(1) @ self.down.float().flatten(1)).reshape(self.shape)


@dataclass(frozen=True)
class LoRA:
    """A LoRA as read from a file.

    Attributes:
        pairs: Module path in the transformer -> its change.
        format: Where the file is from: "diffusers", "sat", "kohya" ...
        alpha_source: What told the strength.
        warnings: What a user should know about this file.
    """

    pairs: Mapping[str, LoRAPair]
    format: str = "diffusers"
    alpha_source: AlphaSource = "absent"
    warnings: tuple[str, ...] = ()

    def with_alpha(self, alpha: float) -> "LoRA":
        """Return this LoRA with a strength that its file does not tell."""
        pairs = {name: replace(pair, alpha=alpha) for name, pair in self.pairs.items()}
        return LoRA(pairs, self.format, "convention")
