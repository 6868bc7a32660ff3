"""What a training step asks of the network, and how far it is from it."""

import torch
from torch import Tensor

from cogvx.diffusion.schedule import Schedule
from cogvx.errors import ShapeError, UsageError


def noised(schedule: Schedule, x0: Tensor, noise: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
    """Return x_t and the velocity that leads to it, both float32 of the latents' shape.

    The arithmetic is float32 whatever the network computes in: in bfloat16 times 0 and 1 would add no noise at all, and
    a squared error of the clean estimate, weighted by 1 / (1 - alpha), is this error of the velocity.

    Args:
        schedule: Noise levels; of a network that predicts the velocity.
        x0: Clean latents (b c t h w), or of one clip (c t h w).
        noise: Standard normal, of the same shape.
        timestep: (b,), or () for one clip, in 0...999.

    Raises:
        UsageError: The schedule is of a network that predicts something else.

    Source: CogVideoX paper (arXiv 2408.06072), "Training CogVideoX".
    """
    if schedule.prediction != "v_prediction":
        raise UsageError(
            f"only models that predict the velocity can be trained, this one predicts {schedule.prediction}"
        )
    x0, noise = x0.float(), noise.float()
    return schedule.add_noise(x0, noise, timestep), schedule.velocity(x0, noise, timestep)


def mean_squared_errors(got: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared error of each clip: (b,) float32 of two tensors (b ...).

    Raises:
        ShapeError: They differ in shape.
    """
    if got.shape != wanted.shape:
        raise ShapeError(f"the network gave {tuple(got.shape)}, the target is {tuple(wanted.shape)}")
    return torch.square(got.float() - wanted.float()).flatten(1).mean(dim=1)
