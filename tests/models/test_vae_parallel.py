"""A clip in one pass equals its chunks one after the other, and a clip cut over ranks equals the whole."""

import pytest
import torch

from cogvx.distributed import all_sum, alone
from cogvx.errors import UsageError
from cogvx.models.vae import CausalVAE, Part, VAEConfig, check_frames, cut
from cogvx.models.vae.blocks import ResStack

SMALL = {"block_out_channels": (4, 8, 8, 8), "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2}


def small_vae(**changes):
    torch.manual_seed(0)
    vae = CausalVAE(VAEConfig(**{**SMALL, **changes}))
    with torch.no_grad():
        for name, weight in vae.named_parameters():
            if "norm" in name and weight.ndim == 1:
                weight += 0.3 * torch.randn_like(weight)  # ones and zeros would hide a norm's mistakes
    return vae


def clip(frames, size=16):
    return torch.randn(2, 3, frames, size, size, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


def train_step(world, norms, frames, changes, checkpointed=False):
    """One rank's share of a loss: its value and the weights' gradients, summed over ranks, and the rebuilt frames."""
    vae = small_vae(**changes)
    for module in vae.modules():
        if isinstance(module, ResStack):
            module.recompute = checkpointed
    video = clip(frames, 32 if len(vae.config.block_out_channels) > 4 else 16)
    part, own = Part(world, norms), cut(video, world)
    posterior = vae.encode(own, part=part)
    latents = posterior.mean + 0.1 * torch.exp(0.5 * posterior.logvar)
    rebuilt = vae.decode(vae.scale(latents), part=part)
    loss = (rebuilt - own).abs().sum() / video.numel() + 1e-3 * posterior.kl().sum()
    loss.backward()
    gradients = [all_sum(weight.grad, world=world) for weight in vae.parameters()]
    return float(all_sum(loss, world=world)), gradients, rebuilt.detach()


def assert_equal_steps(one, many):
    loss, gradients, rebuilt = one
    assert many[0][0] == pytest.approx(loss, rel=1e-5)
    assert (torch.cat([each[2] for each in many], dim=2) - rebuilt).abs().max() <= 1e-5
    for wanted, got in zip(gradients, many[0][1], strict=True):
        assert (got - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("frames", [1, 9, 17, 33])
def test_one_pass_equals_the_chunks(frames):
    vae, video, part = small_vae(), clip(frames), Part(alone())
    chunked, whole = vae.encode(video), vae.encode(video, part=part)
    assert (chunked.mean - whole.mean).abs().max() <= 1e-5
    assert (chunked.logvar - whole.logvar).abs().max() <= 1e-5
    latents = vae.scale(chunked.mean)
    assert (vae.decode(latents) - vae.decode(latents, part=part)).abs().max() <= 1e-5


def test_norms_over_the_clip_are_something_else():
    vae, video = small_vae(), clip(17)
    chunked, whole = vae.encode(video).mean, vae.encode(video, part=Part(alone(), "clip")).mean
    assert (chunked - whole).abs().max() > 1e-3
    assert torch.equal(vae.encode(video[:, :, :9]).mean, vae.encode(video[:, :, :9], part=Part(alone(), "clip")).mean)


CASES = [
    ("chunk", 17, {}),
    ("clip", 17, {}),
    ("clip", 25, {}),  # three latents on the second rank: an odd number that has no first frame apart
    ("chunk", 33, {"temporal_compression_ratio": 8}),
    ("clip", 33, {"temporal_compression_ratio": 8, "block_out_channels": (4, 4, 4, 4, 8)}),
]


@pytest.mark.parametrize("norms,frames,changes", CASES)
def test_two_ranks_equal_one(ranks, norms, frames, changes):
    with torch.enable_grad():
        one = train_step(alone(), norms, frames, changes)
    assert_equal_steps(one, ranks(2, train_step, norms, frames, changes, context=2))


def test_three_ranks_equal_one(ranks):
    with torch.enable_grad():
        one = train_step(alone(), "clip", 25, {})
    assert_equal_steps(one, ranks(3, train_step, "clip", 25, {}, context=3))


def test_recomputed_blocks_meet_their_neighbours_again(ranks):
    with torch.enable_grad():
        one = train_step(alone(), "clip", 17, {})
    assert_equal_steps(one, ranks(2, train_step, "clip", 17, {}, True, context=2))


def test_the_first_rank_has_one_frame_more(ranks):
    sizes = ranks(2, frames_of, 161, context=2)
    assert sizes == [(0, 81), (81, 161)]


def frames_of(world, num_frames):
    own = cut(torch.arange(num_frames).reshape(1, 1, -1, 1, 1), world).flatten()
    return int(own[0]), int(own[-1]) + 1


@pytest.mark.parametrize("frames,ratio,norms", [(16, 4, "chunk"), (13, 4, "chunk"), (9, 8, "chunk"), (16, 4, "clip")])
def test_clips_that_cannot_be_cut_are_named(frames, ratio, norms):
    with pytest.raises(UsageError, match=f"{frames} frames"):
        check_frames(frames, ratio, Part(alone(), norms))


@pytest.mark.parametrize("frames,ratio,norms", [(1, 4, "chunk"), (17, 4, "chunk"), (13, 4, "clip"), (17, 8, "chunk")])
def test_clips_that_can_be_cut(frames, ratio, norms):
    check_frames(frames, ratio, Part(alone(), norms))
