"""The VAE's loss and its gradients against the formulas, written out with autograd alone."""

import pytest
import torch

from cogvx.distributed import alone
from cogvx.models.vae import CausalVAE, Part, VAEConfig
from cogvx.models.vae.discriminator import Discriminator, DiscriminatorConfig
from cogvx.training.recipe import VAEOptions
from cogvx.training.vae_loss import Rebuilt, VAELoss, adaptive_weight, mean_psnr, watched, with_gradient

CONFIG = VAEConfig(block_out_channels=(4, 4, 4, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2)


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return CausalVAE(CONFIG), Discriminator(DiscriminatorConfig(width=4, image_size=16, num_frames=9))


def distance(reference, picture):
    return (reference - picture).abs().sqrt().mean(dim=(1, 2, 3))


def make(vae, window=(0, 9)):
    video = torch.rand(2, 3, 9, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with watched(vae.decoder.conv_out.conv) as last:
        posterior = vae.encode(video, part=Part(alone()))
        rebuilt = vae.decode(vae.scale(posterior.mean), part=Part(alone()))
    made = Rebuilt(
        video=video,
        own=video,
        rebuilt=rebuilt,
        posterior=posterior,
        sharing=alone(),
        seen_frame=torch.tensor([0, 5]),
        window=window,
    )
    return made, last


def written_out(made, options):
    error = made.rebuilt - made.video
    clips = torch.arange(2)
    seen = distance(made.video[clips, :, made.seen_frame], made.rebuilt[clips, :, made.seen_frame]).mean()
    nll = options.l1 * error.abs().mean() + options.l2 * error.square().mean() + options.perceptual_weight * seen
    changes = [clip[:, :, 1:] - clip[:, :, :-1] for clip in (made.rebuilt, made.video)]
    nll = nll + options.flicker * (changes[0] - changes[1]).abs().mean()
    p = made.posterior
    kl = 0.5 * (p.mean.square() + p.logvar.exp() - 1 - p.logvar).mean()
    return nll, kl


def gradients(loss, module):
    return torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True)


def assert_equal(got, wanted):
    for x, y in zip(got, wanted, strict=True):
        assert (x is None) == (y is None)
        assert x is None or torch.allclose(x, y, rtol=1e-4, atol=1e-7)


def test_without_a_discriminator(networks):
    vae, _ = networks
    options = VAEOptions(l1=0.7, l2=0.3, flicker=0.4, perceptual_weight=0.5, kl=1e-2)
    made, _ = make(vae)
    loss, metrics = VAELoss(options, world=alone(), distance=distance)(made, None)
    nll, kl = written_out(made, options)
    assert loss.item() == pytest.approx((nll + 1e-2 * kl).item(), rel=1e-5)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["kl"] == pytest.approx(kl.item(), rel=1e-5)
    assert_equal(gradients(loss, vae), gradients(nll + 1e-2 * kl, vae))


@pytest.mark.parametrize("window", [(0, 9), (3, 8)])
def test_with_a_discriminator(networks, window):
    vae, discriminator = networks
    options = VAEOptions(l1=1.0, perceptual_weight=0.5, kl=1e-3, gan_weight=0.8)
    made, last = make(vae, window)
    compute = VAELoss(options, world=alone(), distance=distance, discriminator=discriminator)
    loss, metrics = compute(made, last)

    nll, kl = written_out(made, options)
    view = slice(*window)
    opinion = -discriminator(made.rebuilt[:, :, view]).mean()
    layer = vae.decoder.conv_out.conv.weight
    norms = [torch.autograd.grad(term, layer, retain_graph=True)[0].norm() for term in (nll, opinion)]
    weight = 0.8 * (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4)
    assert metrics["gan_weight"] == pytest.approx(weight.item(), rel=1e-4)
    assert_equal(gradients(loss, vae), gradients(nll + weight.detach() * opinion + 1e-3 * kl, vae))

    real, rebuilt = discriminator(made.video[:, :, view]), discriminator(made.rebuilt[:, :, view].detach())
    hinge = 0.5 * ((1 - real).relu().mean() + (1 + rebuilt).relu().mean())
    assert metrics["discriminator"] == pytest.approx(hinge.item(), rel=1e-5)
    assert loss.item() == pytest.approx(metrics["loss"] + hinge.item(), rel=1e-5)
    assert_equal(gradients(loss, discriminator), gradients(hinge, discriminator))


def test_the_weight_stays_in_its_bounds():
    values = [
        adaptive_weight(torch.tensor(a), torch.tensor(b)).item() for a, b in ((1.0, 0.0), (10.0, 0.0), (3.0, 2.0))
    ]
    assert values == pytest.approx([1e4, 1e4, 3 / 2.0001])


def test_a_value_with_another_gradient():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    value = with_gradient(torch.tensor(5.0), x, torch.tensor([7.0, -1.0]))
    value.backward()
    assert value.item() == 5.0
    assert x.grad.tolist() == [7.0, -1.0]


def test_psnr_is_the_mean_over_clips(networks):
    made, _ = make(networks[0])
    errors = (made.rebuilt - made.video).square().mean(dim=(1, 2, 3, 4))
    assert mean_psnr(made).item() == pytest.approx((-10 * (errors / 4).log10()).mean().item(), rel=1e-5)
