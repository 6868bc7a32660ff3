"""MS-SSIM: against torchmetrics where it is installed, and what must hold anyway."""

import pytest
import torch

from cogvx.errors import ShapeError
from cogvx.metrics.ms_ssim import SMALLEST, WEIGHTS, ms_ssim
from cogvx.metrics.reconstruction import ssim


def clip(seed, t=1, size=SMALLEST):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3 * t, 12, 12, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    return smooth.reshape(1, 3, t, size, size)


def noisy(video, sigma):
    noise = torch.randn(video.shape, generator=torch.Generator().manual_seed(7))
    return (video + sigma * noise).clamp(0, 1)


def test_it_falls_with_noise_and_is_one_for_equal_clips():
    x = clip(0)
    values = [ms_ssim(x, noisy(x, sigma)).item() for sigma in (0.0, 0.02, 0.1, 0.5)]
    assert values[0] == pytest.approx(1) and values == sorted(values, reverse=True) and values[-1] > 0
    # Noise is gone at the coarse sizes, so it costs less there.
    assert values[2] > ssim(x, noisy(x, 0.1)).item()


def test_a_change_of_brightness_alone_is_the_luminance_of_the_last_size():
    grey, shift = torch.full((1, 3, 1, 176, 176), 0.4), torch.full((1, 3, 1, 176, 176), 0.6)
    wanted = ((2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)) ** WEIGHTS[-1]
    assert ms_ssim(grey, shift).item() == pytest.approx(wanted, rel=1e-6)


def test_it_is_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image")
    x = clip(1, size=192)
    y = noisy(x, 0.1)
    wanted = functional.multiscale_structural_similarity_index_measure(y[:, :, 0], x[:, :, 0], data_range=1.0)
    assert ms_ssim(x, y).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_it_is_the_mean_over_frames():
    a, b = clip(2), clip(3)
    pair, other = torch.cat([a, b], dim=2), torch.cat([noisy(a, 0.1), b], dim=2)
    assert ms_ssim(pair, other).item() == pytest.approx((ms_ssim(a, noisy(a, 0.1)).item() + 1) / 2)


def test_small_frames_are_refused():
    with pytest.raises(ShapeError, match="176x176"):
        ms_ssim(torch.zeros(1, 3, 1, 175, 200), torch.zeros(1, 3, 1, 175, 200))
