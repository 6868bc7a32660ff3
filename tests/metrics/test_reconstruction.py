"""PSNR and SSIM against closed forms and against scikit-image."""

import math

import numpy as np
import pytest
import torch

from cogvx.errors import MissingError, ShapeError
from cogvx.metrics import perceptual
from cogvx.metrics.reconstruction import from_frames, psnr, ssim


def clip(b=2, c=3, t=3, h=20, w=24, seed=0):
    return torch.rand(b, c, t, h, w, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_constant_error():
    reference = torch.full((2, 3, 4, 8, 8), 0.5)
    assert torch.allclose(psnr(reference, reference + 0.1), torch.tensor(20.0))
    assert torch.equal(psnr(reference, reference), torch.full((2,), 100.0))


def test_psnr_of_known_noise():
    noise = torch.randn(1, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0)) * (10 / 255)
    reference = torch.full_like(noise, 0.5)
    assert psnr(reference, reference + noise).item() == pytest.approx(28.13, abs=0.05)


def test_psnr_per_frame_and_global_differ_as_they_should():
    reference = torch.zeros(1, 1, 2, 4, 4)
    video = reference.clone()
    video[:, :, 0] += 0.1
    video[:, :, 1] += 0.01
    assert psnr(reference, video).item() == pytest.approx((20 + 40) / 2, abs=1e-4)
    expected = -10 * math.log10((0.01 + 0.0001) / 2)
    assert psnr(reference, video, average="global").item() == pytest.approx(expected, abs=1e-4)


def test_ssim_of_equal_clips_is_one_and_it_is_symmetric():
    x, y = clip(), clip(seed=1)
    assert torch.allclose(ssim(x, x), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(ssim(x, y), ssim(y, x))


def test_ssim_of_constants_is_the_luminance_term():
    x, y = torch.full((1, 3, 2, 16, 16), 0.3), torch.full((1, 3, 2, 16, 16), 0.6)
    expected = (2 * 0.3 * 0.6 + 1e-4) / (0.09 + 0.36 + 1e-4)
    assert ssim(x, y).item() == pytest.approx(expected, abs=1e-6)


def test_ssim_of_one_window_by_hand():
    x, y = clip(1, 1, 1, 11, 11), clip(1, 1, 1, 11, 11, seed=1)
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / 4.5)
    weights /= weights.sum()
    a, b = x[0, 0, 0].double().numpy(), y[0, 0, 0].double().numpy()
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    cov = (weights * (a - mean_a) * (b - mean_b)).sum()
    expected = (2 * mean_a * mean_b + 1e-4) * (2 * cov + 9e-4)
    expected /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    assert ssim(x, y).item() == pytest.approx(expected, abs=1e-10)


def test_ssim_equals_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    x, y = clip(), (clip() * 0.8 + clip(seed=1) * 0.2)
    ours = ssim(x, y)
    for batch in range(2):
        theirs = [
            metrics.structural_similarity(
                x[batch, c, t].double().numpy(), y[batch, c, t].double().numpy(), data_range=1.0,
                gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            )
            for c in range(3)
            for t in range(3)
        ]  # fmt: skip
        assert ours[batch].item() == pytest.approx(np.mean(theirs), abs=1e-5)


def test_psnr_and_ssim_equal_torchmetrics():
    theirs = pytest.importorskip("torchmetrics.functional.image")
    x, y = clip(), (clip() * 0.8 + clip(seed=1) * 0.2)
    for batch in range(2):
        pictures = [video[batch].transpose(0, 1).double() for video in (y, x)]
        _, whole = theirs.structural_similarity_index_measure(*pictures, data_range=1.0, return_full_image=True)
        # It averages over a mirrored border too, where the window does not fit.
        assert ssim(x, y)[batch].item() == pytest.approx(whole[..., 5:-5, 5:-5].mean().item(), abs=1e-5)
        each = [theirs.peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(*pictures, strict=True)]
        assert psnr(x, y)[batch].item() == pytest.approx(torch.stack(each).mean().item(), abs=1e-5)


def test_ssim_in_parts_is_the_same(monkeypatch):
    from cogvx.metrics import reconstruction

    whole = ssim(clip(), clip(seed=1))
    monkeypatch.setattr(reconstruction, "_CHUNK", 1000)
    assert torch.allclose(ssim(clip(), clip(seed=1)), whole)


def test_frames_become_videos():
    frames = np.zeros((2, 4, 5, 3), np.uint8)
    frames[1, 2, 3, 0] = 255
    video = from_frames(frames)
    assert video.shape == (1, 3, 2, 4, 5) and video[0, 0, 1, 2, 3] == 1 and video.sum() == 1
    with pytest.raises(ShapeError):
        from_frames(frames.astype(float))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_cannot_be_compared(metric):
    with pytest.raises(ShapeError):
        metric(clip(), clip(t=2))
    with pytest.raises(ShapeError):
        metric(clip()[0], clip()[0])
    with pytest.raises(ShapeError, match=r"\[0, 1\]"):
        metric(clip().byte(), clip().byte())


def test_ssim_needs_room_for_its_window():
    with pytest.raises(ShapeError, match="11x11"):
        ssim(clip(h=10), clip(h=10))


def test_lpips_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lpips", None)
    with pytest.raises(MissingError, match=r"pip install 'cogvx\[metrics\]'"):
        perceptual.lpips(clip(), clip())


def test_lpips_averages_the_maps_of_its_network():
    def network(x, y):
        assert x.min() >= -1 and x.max() <= 1 and len(x) <= 8
        return (x - y).abs().mean(dim=1, keepdim=True)

    x, y = clip(t=5), clip(t=5, seed=1)
    expected = 2 * (x - y).abs().mean(dim=(1, 2, 3, 4))
    assert torch.allclose(perceptual.lpips(x, y, network=network), expected, atol=1e-5)
    assert torch.equal(perceptual.lpips(x, x, network=network), torch.zeros(2))
