import pytest
import torch

from cogvx.diffusion.guidance import guidance_scale_at
from cogvx.diffusion.schedule import Schedule
from cogvx.diffusion.timesteps import independent_timesteps, sampling_timesteps, stratified_timesteps
from cogvx.errors import InputError, UsageError


@pytest.mark.parametrize(
    "shift,values",
    [
        (3.0, {0: 0.9974543276, 1: 0.9948006264, 100: 0.7282419323, 500: 0.0953281009, 900: 9.454530e-4}),
        (1.0, {0: 0.99915, 1: 0.9982334461, 100: 0.8867612845, 500: 0.2410187828, 900: 2.9603934e-3}),
    ],
)
def test_levels(shift, values):
    alphas = Schedule(snr_shift_scale=shift).alphas_cumprod
    assert alphas.dtype == torch.float64
    assert alphas[999] == 0
    assert {t: alphas[t].item() for t in values} == pytest.approx(values, rel=1e-7)
    assert (alphas.diff() < 0).all()


def test_times_with_trailing_spacing():
    assert sampling_timesteps(50)[:3] == [999, 979, 959]
    assert sampling_timesteps(50)[-1] == 19
    assert len(sampling_timesteps(61)) == 62  # the official rule's own surprise


@pytest.mark.parametrize("steps", [0, 1001, -1])
def test_illegal_step_counts(steps):
    with pytest.raises(UsageError, match="1...1000"):
        sampling_timesteps(steps)


def test_velocity_and_noise_recover_the_clip():
    schedule = Schedule()
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 4, 8, generator=generator, dtype=torch.float64)
    for timestep in (0, 500, 999):
        alpha = schedule.alphas_cumprod[timestep]
        x_t = schedule.add_noise(x0, noise, timestep)
        velocity = schedule.velocity(x0, noise, timestep)
        assert torch.allclose(alpha.sqrt() * x_t - (1 - alpha).sqrt() * velocity, x0)


def test_one_time_for_each_item():
    schedule = Schedule()
    x0, noise = torch.ones(3, 2, 2), torch.zeros(3, 2, 2)
    x_t = schedule.add_noise(x0, noise, torch.tensor([0, 500, 999]))
    assert x_t[:, 0, 0].tolist() == pytest.approx(schedule.alphas_cumprod[[0, 500, 999]].sqrt().tolist(), rel=1e-6)


def test_bfloat16_has_no_noise_at_the_first_times():
    schedule = Schedule()
    x0, noise = torch.ones(4).bfloat16(), torch.ones(4).bfloat16()
    assert torch.equal(schedule.add_noise(x0, noise, 1), x0)


@pytest.mark.parametrize("setting", [{"beta_schedule": "linear"}, {"prediction_type": "flow"}, {"colour": 1}])
def test_config_refuses_what_it_cannot_do(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        Schedule.from_config(setting)


def test_config_round_trip():
    schedule = Schedule(snr_shift_scale=3.0)
    assert torch.equal(Schedule.from_config(schedule.config).alphas_cumprod, schedule.alphas_cumprod)


def test_stratified_times_fill_every_interval():
    times = stratified_timesteps(20, generator=torch.Generator().manual_seed(0))
    assert sorted((times // 50).tolist()) == list(range(20))


@pytest.mark.parametrize("draw", [stratified_timesteps, independent_timesteps])
def test_a_power_below_one_draws_more_noise(draw):
    for power in (0.5, 1.0, 2.0):
        times = draw(4000, generator=torch.Generator().manual_seed(0), power=power)
        assert times.min() >= 0 and times.max() <= 999
        # u^p is below 1/2 where u is below 2^(-1/p).
        assert float((times < 500).float().mean()) == pytest.approx(0.5 ** (1 / power), abs=0.025)


def test_official_dynamic_guidance_jumps_and_the_smooth_one_rises():
    times = sampling_timesteps(50)

    def scales(mode):
        return [guidance_scale_at(mode, 6.0, timestep=t, step=i, num_steps=50) for i, t in enumerate(times)]

    assert scales("official")[:4] == pytest.approx([2.2915, 2.5435, 6.9744, 6.4204], abs=1e-4)
    assert scales("official")[-5:] == pytest.approx([6.8644, 1.0636, 1.0, 1.0, 1.1234], abs=1e-4)
    smooth = scales("smooth")
    assert smooth == sorted(smooth)
    assert smooth[0] == 1
    assert 6 < smooth[-1] <= 7
    assert set(scales("off")) == {6.0}
