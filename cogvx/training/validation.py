"""The held-out loss: clips, noise and times are always the same, so that a curve shows the weights and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cogvx.data.dataset import Sample
from cogvx.diffusion.losses import mean_squared_errors, noised
from cogvx.diffusion.schedule import Schedule
from cogvx.distributed import World, all_sum
from cogvx.errors import InputError
from cogvx.training.draws import source
from cogvx.training.examples import Encoder
from cogvx.training.order import Item
from cogvx.training.stages import StageData


class HeldOut:
    """Held-out clips, read and encoded once: with the posterior's mean, and a first frame whose noise never changes."""

    def __init__(self, clips: Sequence[tuple[StageData, Item]], encoder: Encoder, *, with_image: bool) -> None:
        """Remember which; nothing is read yet.

        Args:
            clips: The clips.
            encoder: Makes latents of them.
            with_image: Whether first frames are wanted.
        """
        self._clips, self._encoder, self._with_image = clips, encoder, with_image
        self._kept: dict[int, tuple[Sample, Tensor, Tensor | None]] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._clips)

    def sample(self, clip: int) -> Sample:
        """Return the caption of a clip, and its text embeddings if they were made ahead."""
        return self._get(clip)[0]

    def latents(self, clip: int) -> Tensor:
        """Return the latents (c t h w) of a clip, on the CPU."""
        return self._get(clip)[1]

    def image(self, clip: int) -> Tensor | None:
        """Return the condition (c t h w) of a clip's first frame, on the CPU; None for text to video."""
        return self._get(clip)[2]

    def _get(self, clip: int) -> tuple[Sample, Tensor, Tensor | None]:
        if clip not in self._kept:
            data, item = self._clips[clip]
            sample = data.read(item, None)
            if sample is None:
                raise InputError(f"held-out clip {item.index} cannot be read")
            latents = self._encoder.latents(sample, None)
            image = self._encoder.image(sample, latents.shape[1], None).cpu() if self._with_image else None
            # The pixels are not needed again.
            self._kept[clip] = replace(sample, frames=None, latents=None), latents.cpu(), image
        return self._kept[clip]


@torch.no_grad()
def held_out_loss(
    predict: Callable[[int, Tensor, int], Tensor],
    latents: Callable[[int], Tensor],
    schedule: Schedule,
    *,
    num_clips: int,
    timesteps: Sequence[int],
    world: World,
) -> dict[str, float]:
    """Return the mean squared error of the velocity at each time ("val_loss_100") and their mean ("val_loss").

    The noise of a clip at a time is the same in every run: runs with other seeds, recipes or numbers of ranks compare.
    Ranks share the clips; each gets the whole result.

    Args:
        predict: Maps a clip's number, its noised latents (c t h w) and the time to the velocity (c t h w).
        latents: Maps a clip's number to its clean latents (c t h w).
        schedule: Noise levels.
        num_clips: How many there are.
        timesteps: Times, 0...999.
        world: The ranks.

    Source: CogVideoX paper (arXiv 2408.06072), its table of validation losses with and without explicit uniform
        sampling, which has the times 100, 300, 500, 700 and 900.
    """
    device = world.device
    sums = torch.zeros(len(timesteps), dtype=torch.float64, device=device)
    for clip, counts in shares(num_clips, world):
        for place, timestep in enumerate(timesteps):
            x0 = latents(clip).to(device)
            noise = torch.randn(x0.shape, generator=source(0, "validation", clip, timestep)).to(device)
            x_t, velocity = noised(schedule, x0, noise, torch.tensor(timestep))
            error = mean_squared_errors(predict(clip, x_t, timestep)[None], velocity[None])
            if counts:
                sums[place] += error[0].double()
    means = (all_sum(sums, world=world) / (num_clips * world.context_size)).tolist()
    found = {f"val_loss_{timestep}": value for timestep, value in zip(timesteps, means, strict=True)}
    return {"val_loss": sum(means) / len(means), **found}


def shares(num_clips: int, world: World) -> list[tuple[int, bool]]:
    """Return the clips of this data rank, as many as any other has, and whether each counts.

    Ranks meet in every run of a model that is spread over them, so one with nothing left runs a clip once more.
    """
    rounds = -(-num_clips // world.data_size)
    places = [world.data_rank + turn * world.data_size for turn in range(rounds)]
    return [(place % num_clips, place < num_clips) for place in places]
