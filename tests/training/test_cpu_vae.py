"""The faster forms of a VAE's layers that a CPU trains: the same numbers and gradients as the plain ones."""

import copy

import pytest
import torch
from torch import nn

from cogvx.distributed import alone
from cogvx.models.vae import CausalVAE, Part, VAEConfig
from cogvx.training.frame_convs import use_frame_convs
from cogvx.training.fused_norms import fuse_norms

CPU = torch.device("cpu")


def gradients(module, x, *, low):
    module.zero_grad()
    inputs = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        module(inputs).float().square().mean().backward()
    return [inputs.grad, *(weight.grad.clone() for weight in module.parameters())]


def apart(a, b):
    return float((a - b).norm() / a.norm())


@pytest.mark.parametrize("padding", [(0, 1, 1), (1, 1, 1), (0, 0, 0)])
@pytest.mark.parametrize("batch", [1, 2])
def test_frame_convolutions_have_the_plain_gradients(padding, batch):
    torch.manual_seed(0)
    plain = nn.Conv3d(20, 6, 3, padding=padding)
    fast = copy.deepcopy(plain)
    use_frame_convs(fast)
    x = torch.randn(batch, 20, 4, 8, 8)
    for a, b in zip(gradients(plain, x, low=False), gradients(fast, x, low=True), strict=True):
        assert apart(a, b) < 0.01


@pytest.mark.parametrize("channels,size", [((32, 32), (64, 96)), ((16, 16), (128, 192)), ((64, 32), (128, 192))])
def test_frame_convolutions_are_right_for_wide_layers_and_large_frames(channels, size):
    torch.manual_seed(0)
    plain = nn.Conv3d(*channels, 3, padding=1)
    fast = copy.deepcopy(plain)
    use_frame_convs(fast)
    x = torch.randn(2, channels[0], 3, *size)
    for a, b in zip(gradients(plain, x, low=False), gradients(fast, x, low=True), strict=True):
        assert apart(a, b) < 0.01


def tiny_vae():
    torch.manual_seed(0)
    vae = CausalVAE(VAEConfig(block_out_channels=(8, 16, 16, 16), layers_per_block=1, norm_num_groups=4))
    with torch.no_grad():
        for name, weight in vae.named_parameters():
            if "norm" in name and weight.ndim == 1:  # as after some training
                weight.add_(0.3 * torch.randn_like(weight))
    return vae.train()


def trained(vae, video, *, norms, low=True):
    part = Part(alone(CPU), norms)
    vae.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        rebuilt = vae.decode(vae.encode(video, part=part).mean, part=part)
    (rebuilt.float() - video).square().mean().backward()
    return rebuilt.detach().float(), {name: weight.grad for name, weight in vae.named_parameters()}


@pytest.mark.parametrize("norms", ["chunk", "clip"])
@pytest.mark.parametrize("shape", [(2, 1, 32, 48), (2, 9, 16, 24), (1, 25, 16, 16), (2, 17, 16, 16)])
def test_a_vae_trains_as_without_them(shape, norms):
    plain = tiny_vae()
    fast = copy.deepcopy(plain)
    use_frame_convs(fast)
    fuse_norms(fast, compiled=False)
    batch, frames, height, width = shape
    video = torch.rand(batch, 3, frames, height, width) * 2 - 1
    expected, slopes = trained(plain, video, norms=norms, low=False)
    found, fast_slopes = trained(fast, video, norms=norms)
    assert apart(expected, found) < 0.05
    whole, fast_whole = (torch.cat([one[name].flatten() for name in slopes]) for one in (slopes, fast_slopes))
    assert apart(whole, fast_whole) < 0.08


def test_nothing_changes_without_gradients():
    plain = tiny_vae()
    fast = copy.deepcopy(plain)
    use_frame_convs(fast)
    fuse_norms(fast, compiled=False)
    video = torch.rand(1, 3, 9, 16, 16) * 2 - 1
    with torch.no_grad():
        assert torch.equal(plain.encode(video).mean, fast.encode(video).mean)
