"""Classifier-free guidance, constant or changing over the steps."""

import math
from typing import Literal

from torch import Tensor

DynamicGuidance = Literal["off", "official", "smooth"]


def guidance_scale_at(mode: DynamicGuidance, scale: float, *, timestep: int, step: int, num_steps: int) -> float:
    """Return the guidance scale of one step.

    "official" is what diffusers and SAT compute: their formula wants the share of steps done and is handed the
    diffusion time 0...999 instead, so that the scale jumps between 1 and 1 + scale. "smooth" is the formula as meant:
    it rises from 1 to 1 + scale.

    Args:
        mode: Which rule; "off" returns scale.
        scale: The guidance scale asked for.
        timestep: Diffusion time, 0...999.
        step: Index of this step, from 0.
        num_steps: How many steps there are.
    """
    if mode == "off":
        return scale
    share = (num_steps - timestep) / num_steps if mode == "official" else step / num_steps
    return 1 + scale * (1 - math.cos(math.pi * share**5.0)) / 2


def guide(uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """Return the guided velocity from the one without and the one with the prompt (same shape)."""
    return uncond + scale * (cond - uncond)
