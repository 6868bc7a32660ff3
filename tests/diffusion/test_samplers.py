import pytest
import torch

from cogvx.diffusion.samplers import sample_ddim, sample_dpm, visited_timesteps
from cogvx.diffusion.schedule import Schedule
from cogvx.errors import UsageError


def network(x, timestep):
    return torch.sin(x * 1.3 + timestep)


def last(steps):
    *_, (x, _) = steps
    return x


@pytest.fixture
def noise():
    return torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [50, 30, 7])
@pytest.mark.parametrize("name", ["ddim", "dpm"])
def test_trajectory_equals_diffusers(noise, name, steps, shift):
    diffusers = pytest.importorskip("diffusers")
    kind = diffusers.CogVideoXDDIMScheduler if name == "ddim" else diffusers.CogVideoXDPMScheduler
    theirs = kind.from_config(Schedule(snr_shift_scale=shift).config)
    theirs.set_timesteps(steps)
    source, x, before = torch.Generator().manual_seed(2), noise, None
    for i, timestep in enumerate(theirs.timesteps):
        velocity = network(x, int(timestep))
        if name == "ddim":
            x = theirs.step(velocity, timestep, x, return_dict=False)[0]
        else:
            back = theirs.timesteps[i - 1] if i else None
            x, before = theirs.step(velocity, before, timestep, back, x, generator=source, return_dict=False)
    schedule = Schedule.from_config(dict(theirs.config))

    def denoise(x_t, timestep, step):
        return network(x_t, timestep)

    if name == "ddim":
        ours = sample_ddim(denoise, noise, schedule, num_steps=steps)
    else:
        ours = sample_dpm(denoise, noise, schedule, num_steps=steps, generator=torch.Generator().manual_seed(2))
    assert torch.equal(last(ours), x)


def perfect(x0, schedule):
    """Return the network that knows the clip."""

    def denoise(x_t, timestep, step):
        alpha = schedule.alphas_cumprod[timestep]
        return (alpha.sqrt() * x_t - x0) / (1 - alpha).sqrt()

    return denoise


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_both_samplers_find_a_known_clip(noise, steps):
    schedule, x0 = Schedule(), torch.linspace(-1, 1, 60).view(1, 3, 4, 5)
    denoise = perfect(x0, schedule)
    assert torch.allclose(last(sample_ddim(denoise, noise, schedule, num_steps=steps)), x0, atol=1e-5)
    generator = torch.Generator().manual_seed(0)
    assert torch.allclose(
        last(sample_dpm(denoise, noise, schedule, num_steps=steps, generator=generator)), x0, atol=1e-5
    )


def test_strength_takes_the_last_share_of_the_steps():
    schedule = Schedule()
    whole = visited_timesteps(schedule, num_steps=50)
    assert visited_timesteps(schedule, num_steps=50, strength=0.8) == whole[10:]
    for strength in (0.0, 1.5):
        with pytest.raises(UsageError, match="strength"):
            visited_timesteps(schedule, num_steps=50, strength=strength)
    with pytest.raises(UsageError, match="none of the 5 steps"):
        visited_timesteps(schedule, num_steps=5, strength=0.1)


def test_half_precision_is_kept(noise):
    schedule = Schedule()
    for x, _ in sample_ddim(lambda x, t, i: network(x, t).float(), noise.bfloat16(), schedule, num_steps=3):
        assert x.dtype == torch.bfloat16
