"""Which diffusion times a sampler visits, and which a training step draws."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cogvx.errors import UsageError

Spacing = Literal["trailing", "leading", "linspace"]


def sampling_timesteps(
    num_steps: int, num_timesteps: int = 1000, *, spacing: Spacing = "trailing", offset: int = 0
) -> list[int]:
    """Return the times that a sampler visits, from noise down.

    With trailing spacing, that of every released model, 62 step counts up to 1000 (61, 103, 121 ...) give one time more
    than asked by the official rule; so they do here.

    Args:
        num_steps: How many steps, 1...num_timesteps.
        num_timesteps: Length of the schedule.
        spacing: "trailing" starts at pure noise; the others are those of the field.
        offset: Added to the times of leading spacing.

    Raises:
        UsageError: The count is not in 1...num_timesteps.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise UsageError(f"steps must be in 1...{num_timesteps}, got {num_steps}")
    if spacing == "trailing":
        times = np.round(np.arange(num_timesteps, 0, -num_timesteps / num_steps)) - 1
    elif spacing == "leading":
        times = np.arange(num_steps)[::-1] * (num_timesteps // num_steps) + offset
    else:
        times = np.linspace(0, num_timesteps - 1, num_steps).round()[::-1]
    return times.astype(np.int64).tolist()


def stratified_timesteps(
    batch_size: int, *, generator: torch.Generator, num_timesteps: int = 1000, power: float = 1.0
) -> Tensor:
    """Draw one time for each item, one from each of batch_size equal intervals, in random order: (b,) int64.

    Args:
        batch_size: How many.
        generator: Source of randomness.
        num_timesteps: Times are below it.
        power: A uniform u becomes u^power: below 1, large times come more often.

    Source: CogVideoX paper (arXiv 2408.06072), "Explicit Uniform Sampling", whose intervals are those of the ranks.
    """
    offsets = torch.rand(batch_size, generator=generator, dtype=torch.float64)
    order = torch.randperm(batch_size, generator=generator)
    return _times((order + offsets) / batch_size, num_timesteps, power)


def independent_timesteps(
    batch_size: int, *, generator: torch.Generator, num_timesteps: int = 1000, power: float = 1.0
) -> Tensor:
    """Draw one time for each item without regard to the others: (b,) int64; see `stratified_timesteps`."""
    return _times(torch.rand(batch_size, generator=generator, dtype=torch.float64), num_timesteps, power)


def _times(u: Tensor, num_timesteps: int, power: float) -> Tensor:
    """Return times of numbers in [0, 1)."""
    return (u**power * num_timesteps).long().clamp(max=num_timesteps - 1)
