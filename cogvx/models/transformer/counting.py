"""Parameter counts of configs, so that models under comparison can be made equally large."""

from bisect import bisect_right
from dataclasses import replace
from typing import Any, Literal

import torch

from cogvx.errors import UsageError
from cogvx.models.transformer.config import TransformerConfig
from cogvx.models.transformer.model import ExpertTransformer

# Step of each size that can be varied: the width of a head is cut in eighths by rotation.
_STEPS = {"num_layers": 1, "num_heads": 1, "head_dim": 8, "time_size": 1}


def count_parameters(config: TransformerConfig) -> int:
    """Return the number of parameters of a transformer, without memory for them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in ExpertTransformer(config).parameters())


def match_parameters(
    config: TransformerConfig,
    target: int,
    *,
    vary: Literal["num_layers", "num_heads", "head_dim", "time_size"] = "num_layers",
) -> TransformerConfig:
    """Return a config with one size changed, so that its parameters come nearest to a target.

    Args:
        config: Every other size.
        target: Parameters wanted.
        vary: The size to change; the finest is "time_size", the width of the modulations' input.

    Raises:
        UsageError: The target is smaller than what the other sizes need.
    """

    def sized(steps: int) -> TransformerConfig:
        value = steps * _STEPS[vary]
        # The second scalar's embedding is added to that of time, and has its width.
        sizes: dict[str, Any] = {"ofs_size": value} if vary == "time_size" and config.ofs_size else {}
        return replace(config, **{**sizes, vary: value})

    if count_parameters(sized(1)) > target:
        raise UsageError(f"no {vary} gives as few as {target} parameters: {count_parameters(sized(1))} are the least")
    top = 2
    while count_parameters(sized(top)) <= target:
        top *= 2
    above = bisect_right(range(top), target, lo=1, key=lambda steps: count_parameters(sized(steps)))
    return min(sized(above - 1), sized(above), key=lambda candidate: abs(count_parameters(candidate) - target))
