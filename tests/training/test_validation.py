"""The held-out loss: deterministic, in bins, shared by ranks."""

import pytest
import torch

from cogvx.diffusion.losses import mean_squared_errors, noised
from cogvx.diffusion.schedule import Schedule
from cogvx.distributed import alone
from cogvx.errors import ShapeError, UsageError
from cogvx.training.stages import evenly
from cogvx.training.validation import held_out_loss, shares

TIMES = (100, 300, 500, 700, 900)


def latents(clip):
    return torch.randn(4, 3, 4, 4 + 2 * clip, generator=torch.Generator().manual_seed(clip))


def half(clip, x_t, timestep):
    return 0.5 * x_t


def on_ranks(world, num_clips):
    return held_out_loss(half, latents, Schedule(), num_clips=num_clips, timesteps=TIMES, world=world)


def test_bins_and_their_mean():
    found = on_ranks(alone(), 3)
    assert list(found) == ["val_loss", *(f"val_loss_{t}" for t in TIMES)]
    assert found["val_loss"] == pytest.approx(sum(found[f"val_loss_{t}"] for t in TIMES) / 5)
    assert on_ranks(alone(), 3) == found and on_ranks(alone(), 2) != found


def test_a_perfect_model_has_no_loss():
    schedule = Schedule()

    def knows(clip, x_t, timestep):
        alpha = schedule.alphas_cumprod[timestep].float()
        noise = (x_t - alpha.sqrt() * latents(clip)) / (1 - alpha).sqrt()
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents(clip)

    found = held_out_loss(knows, latents, schedule, num_clips=2, timesteps=TIMES, world=alone())
    assert max(found.values()) < 1e-8


@pytest.mark.parametrize("num_clips,context", [(3, 1), (1, 1), (3, 2)])
def test_two_ranks_find_the_same(ranks, num_clips, context):
    wanted = on_ranks(alone(), num_clips)
    for found in ranks(2, on_ranks, num_clips, context=context):
        assert found == pytest.approx(wanted, rel=1e-6)


def test_ranks_run_as_often_as_each_other():
    class World:
        data_size = 4

    for count in range(1, 9):
        world, seen = World(), []
        for rank in range(4):
            world.data_rank = rank
            mine = shares(count, world)
            assert len(mine) == -(-count // 4)
            seen += [clip for clip, counts in mine if counts]
        assert sorted(seen) == list(range(count))


def test_clips_are_spread_over_the_set():
    assert evenly(10, 4) == [0, 2, 5, 7] and evenly(3, 16) == [0, 1, 2] and evenly(0, 4) == []


def test_noise_is_added_in_full_precision():
    x0 = torch.randn(2, 4, 3, 4, 4).bfloat16()
    noise = torch.randn(x0.shape)
    x_t, velocity = noised(Schedule(), x0, noise, torch.tensor([0, 999]))
    assert x_t.dtype == velocity.dtype == torch.float32
    assert not torch.equal(x_t[0], x0[0].float())  # in bfloat16 time 0 adds nothing
    assert torch.equal(x_t[1], noise[1]) and torch.equal(velocity[1], -x0[1].float())


def test_the_loss_is_that_of_the_official_code():
    """There: the squared error of the clean estimate, weighted by 1 / (1 - alpha)."""
    schedule = Schedule()
    x0, noise, output = (torch.randn(3, 4, 2, 4, 4) for _ in range(3))
    times = torch.tensor([10, 500, 990])
    x_t, velocity = noised(schedule, x0, noise, times)
    alphas = schedule.alphas_cumprod[times].float()[:, None, None, None, None]
    estimate = alphas.sqrt() * x_t - (1 - alphas).sqrt() * output
    official = ((estimate - x0).square() / (1 - alphas)).flatten(1).mean(dim=1)
    assert torch.allclose(mean_squared_errors(output, velocity), official, rtol=1e-4)


def test_what_cannot_be_trained():
    with pytest.raises(UsageError, match="epsilon"):
        noised(Schedule(prediction="epsilon"), torch.zeros(1, 1), torch.zeros(1, 1), torch.tensor([1]))
    with pytest.raises(ShapeError):
        mean_squared_errors(torch.zeros(1, 2), torch.zeros(1, 3))
