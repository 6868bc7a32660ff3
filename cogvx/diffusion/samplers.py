"""Samplers: from noise to latents, one step at a time. The caller drives, and owns progress and memory."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cogvx.diffusion.prediction import x0_from
from cogvx.diffusion.schedule import Schedule
from cogvx.errors import UsageError

Denoise = Callable[[Tensor, int, int], Tensor]  # (x_t, timestep, step) -> guided output


def visited_timesteps(schedule: Schedule, *, num_steps: int, strength: float = 1.0) -> list[int]:
    """Return the times a sampler visits; with strength < 1 only the last share of them (clip to clip).

    Raises:
        UsageError: The strength is not in (0, 1], or leaves no step.
    """
    if not 0 < strength <= 1:
        raise UsageError(f"strength must be in (0, 1], got {strength}")
    times = schedule.timesteps(num_steps)
    kept = times[max(num_steps - int(num_steps * strength), 0) :] if strength < 1 else times
    if not kept:
        raise UsageError(f"strength {strength} leaves none of the {num_steps} steps")
    return kept


def sample_ddim(
    denoise: Denoise, x_t: Tensor, schedule: Schedule, *, num_steps: int, strength: float = 1.0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x_t, x0) after each deterministic step.

    The time before t is t - 1000 // num_steps and not the next in the list, as in the official code; for counts that do
    not divide 1000 a little noise can remain.

    Args:
        denoise: Maps x_t, its time and the step's index to the guided output of the network in float32.
        x_t: Noise, any shape; its type is kept.
        schedule: Noise levels.
        num_steps: Steps of the whole way, before strength.
        strength: Share of the way to go, in (0, 1].
    """
    stride = schedule.num_timesteps // num_steps
    for step, timestep in enumerate(visited_timesteps(schedule, num_steps=num_steps, strength=strength)):
        alpha, alpha_next = schedule.alphas_cumprod[timestep], schedule.alpha_before(timestep - stride)
        x0 = x0_from(schedule.prediction, x_t, denoise(x_t, timestep, step), alpha)
        keep = ((1 - alpha_next) / (1 - alpha)) ** 0.5
        x_t = (keep * x_t + (alpha_next**0.5 - alpha**0.5 * keep) * x0).to(x_t.dtype)
        yield x_t, x0


def sample_dpm(
    denoise: Denoise,
    x_t: Tensor,
    schedule: Schedule,
    *,
    num_steps: int,
    generator: torch.Generator,
    strength: float = 1.0,
    draw: Callable[[torch.Generator], Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x_t, x0) after each step of the stochastic second-order solver (SDE-DPM-Solver++ 2M).

    Every step draws noise once, and a second-order step draws again and drops the first: the official code does, so the
    same seed gives the same clip.

    Args:
        denoise: Maps x_t, its time and the step's index to the guided output of the network in float32.
        x_t: Noise, any shape; its type is kept.
        schedule: Noise levels.
        num_steps: Steps of the whole way, before strength.
        generator: Source of the noise added on the way.
        strength: Share of the way to go, in (0, 1].
        draw: Makes noise like x_t from the generator; for layouts whose order of drawing differs from x_t's.
    """

    def default_draw(source: torch.Generator) -> Tensor:
        return torch.randn(x_t.shape, generator=source, dtype=x_t.dtype, device=source.device).to(x_t.device)

    draw = draw or default_draw
    stride = schedule.num_timesteps // num_steps
    x0_before, before = None, None
    for step, timestep in enumerate(visited_timesteps(schedule, num_steps=num_steps, strength=strength)):
        alpha, alpha_next = schedule.alphas_cumprod[timestep], schedule.alpha_before(timestep - stride)
        x0 = x0_from(schedule.prediction, x_t, denoise(x_t, timestep, step), alpha)
        width = _log_snr(alpha_next) - _log_snr(alpha)
        keep = ((1 - alpha_next) / (1 - alpha)) ** 0.5 * (-width).exp()
        pull = (-2 * width).expm1() * alpha_next**0.5
        spread = (1 - alpha_next) ** 0.5 * (1 - (-2 * width).exp()) ** 0.5
        noise = draw(generator)
        target = x0
        if x0_before is not None and before is not None and timestep - stride >= 0:
            ratio = (_log_snr(alpha) - _log_snr(schedule.alphas_cumprod[before])) / width
            target = (1 + 1 / (2 * ratio)) * x0 - (1 / (2 * ratio)) * x0_before
            noise = draw(generator)
        x_t = (keep * x_t - pull * target + spread * noise).to(x_t.dtype)
        x0_before, before = x0, timestep
        yield x_t, x0


def _log_snr(alpha: Tensor) -> Tensor:
    """Return half the log of the signal-to-noise ratio of a level, float64 (), infinite at 0 and 1."""
    return ((alpha / (1 - alpha)) ** 0.5).log()
