"""Flicker against closed forms."""

import pytest
import torch

from cogvx.errors import ShapeError
from cogvx.metrics.flicker import flicker_excess, flicker_mae255, flicker_ratio, flicker_wrapped, flicker_x1000


def blinking(low, high, t=5):
    return torch.tensor([low, high] * 3)[:t].reshape(1, 1, t, 1, 1).expand(2, 3, t, 4, 4)


def test_a_blinking_clip():
    assert torch.allclose(flicker_mae255(blinking(0.2, 0.4)), torch.tensor(0.2 * 255))
    assert torch.allclose(flicker_x1000(blinking(0.2, 0.4)), torch.tensor(400.0))
    assert torch.equal(flicker_mae255(blinking(0.2, 0.2)), torch.zeros(2))


def test_uniform_noise_has_85():
    noise = torch.rand(1, 3, 9, 64, 64, generator=torch.Generator().manual_seed(0))
    assert flicker_mae255(noise).item() == pytest.approx(85, abs=0.5)


def test_what_is_added_to_the_original():
    still, slow, fast = blinking(0.5, 0.5), blinking(0.5, 0.6), blinking(0.5, 0.8)
    assert torch.allclose(flicker_excess(slow, fast), torch.tensor(0.2 * 255))
    assert torch.allclose(flicker_excess(fast, slow), torch.tensor(0.2 * 255))
    assert torch.allclose(flicker_excess(slow, 1 - slow), torch.zeros(2), atol=1e-4)
    assert torch.allclose(flicker_ratio(slow, fast), torch.tensor(3.0))
    assert torch.equal(flicker_ratio(still, still), torch.ones(2))
    assert torch.equal(flicker_ratio(still, slow), torch.full((2,), torch.inf))


@pytest.mark.parametrize("metric", [flicker_mae255, flicker_x1000])
def test_one_frame_cannot_flicker(metric):
    with pytest.raises(ShapeError, match="two frames"):
        metric(blinking(0.1, 0.2, t=1))
    with pytest.raises(ShapeError):
        metric(torch.zeros(3, 4, 4))
    with pytest.raises(ShapeError):
        flicker_excess(blinking(0, 0.5), blinking(0, 0.5, t=4))


def test_the_wrapped_reading_is_what_bytes_give():
    levels = torch.randint(0, 256, (1, 3, 4, 5, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pixels = levels.numpy()
    wanted = (pixels[:, :, 1:] - pixels[:, :, :-1]).mean()  # bytes wrap around by themselves
    assert flicker_wrapped(levels.float() / 255).item() == pytest.approx(wanted, rel=1e-6)
    assert flicker_wrapped(torch.full((1, 3, 4, 2, 2), 0.3)).item() == 0
