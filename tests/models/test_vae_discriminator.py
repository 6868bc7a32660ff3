import pytest
import torch

from cogvx.errors import ShapeError
from cogvx.models.vae.discriminator import Discriminator, DiscriminatorConfig, hinge_loss


def small(**changes):
    torch.manual_seed(0)
    return Discriminator(DiscriminatorConfig(**{"width": 4, "image_size": 32, "num_frames": 9, **changes}))


def test_levels_follow_the_size_and_the_frames():
    config = DiscriminatorConfig(width=64, image_size=256, num_frames=17)
    assert config.widths == (64, 128, 256, 512, 512, 512, 512)
    assert config.num_temporal_levels == 4
    with torch.device("meta"):
        made = Discriminator(config)
        assert made(torch.zeros(1, 3, 17, 256, 256)).shape == (1, 1, 4, 4)
    assert (len(made.clip_levels), len(made.image_levels)) == (4, 3)


@pytest.mark.parametrize("frames,height,width", [(9, 32, 32), (1, 32, 32), (17, 40, 56), (8, 33, 35), (2, 64, 16)])
def test_it_takes_clips_and_images_of_any_size(frames, height, width):
    logits = small()(torch.randn(2, 3, frames, height, width))
    assert logits.shape == (2, 1, -(-height // 8), -(-width // 8))
    assert logits.isfinite().all()


def test_it_sees_the_order_of_frames():
    video = torch.randn(1, 3, 9, 32, 32)
    made = small()
    assert not torch.allclose(made(video), made(video.flip(2)), atol=1e-6)


def test_it_learns_to_tell():
    made = small()
    with torch.enable_grad():
        optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
        generator = torch.Generator().manual_seed(0)
        losses = []
        for _ in range(40):
            rebuilt = torch.rand(4, 3, 9, 32, 32, generator=generator) - 0.5
            real = torch.rand(4, 3, 1, 32, 32, generator=generator).expand(-1, -1, 9, -1, -1) - 0.5  # stands still
            loss = hinge_loss(made(real), made(rebuilt))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[0] == pytest.approx(1.0, abs=0.5)
    assert losses[-1] < 0.6


def test_hinge():
    assert hinge_loss(torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])) == pytest.approx(0.5 * (0.25 + 1.0))


def test_wrong_channels_are_named():
    with pytest.raises(ShapeError, match="video"):
        small()(torch.zeros(1, 4, 9, 32, 32))
