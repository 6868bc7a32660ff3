import pytest
import torch

from cogvx.errors import InputError, ShapeError
from cogvx.models.vae import CausalVAE, Tiling, VAEConfig, chunk_bounds
from cogvx.models.vae.rescale import rescale_latents


@pytest.fixture
def vae(vae_dict, set_ruled):
    vae = CausalVAE(VAEConfig.from_dict({**vae_dict, "scaling_factor": 1.0})).eval()
    set_ruled(vae)
    return vae


@pytest.fixture
def pair(vae_dict):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4}
    theirs = diffusers.AutoencoderKLCogVideoX(**vae_dict, **blocks).eval()
    ours = CausalVAE(VAEConfig.from_dict(dict(theirs.config))).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


FINGERPRINTS = [
    (17, 0.0388122, 0.3549383, [-0.030078, -0.079975, -0.081942, -0.057299], [0.432268, 0.29174, 0.221757, 0.14254]),
    (9, 0.0331714, 0.0982181, [0.036439, 0.0154, 0.01915, 0.017105], [-0.178215, -0.181731, -0.172132, -0.119313]),
    (1, 0.0220933, 0.124541, [0.048502, 0.004228, -0.001818, -0.007146], [-0.183135, -0.186298, -0.152839, -0.115182]),
]


def check(output, mean, std, first, last):
    flat = output.flatten().double()
    assert flat.mean().item() == pytest.approx(mean, abs=1e-5)
    assert flat.std(correction=0).item() == pytest.approx(std, abs=1e-5)
    assert flat[:4].tolist() == pytest.approx(first, abs=2e-5)
    assert flat[-4:].tolist() == pytest.approx(last, abs=2e-5)


@pytest.mark.parametrize("frames,mean,std,first,last", FINGERPRINTS)
def test_encode_has_the_fingerprint(vae, ruled, frames, mean, std, first, last):
    posterior = vae.encode(ruled(1, 3, frames, 32, 48))
    check(torch.cat([posterior.mean, posterior.logvar], dim=1), mean, std, first, last)


def test_decode_has_the_fingerprint(vae, ruled):
    whole, even = vae.decode(ruled(1, 4, 5, 4, 6)), vae.decode(ruled(1, 4, 2, 4, 6))
    assert whole.shape == (1, 3, 17, 32, 48)
    assert even.shape == (1, 3, 8, 32, 48)
    check(
        whole, 0.1112128, 0.543944, [-0.134237, -0.140522, -0.10811, -0.096865], [-0.000349, 0.00519, 0.00899, 0.03463]
    )
    check(even, 0.0559474, 0.074339, [0.004844, 0.003461, 0.004023, 0.003743], [0.109272, 0.108685, 0.107637, 0.103642])


@pytest.mark.parametrize("frames", [1, 2, 9, 16, 17, 33])
def test_encode_equals_diffusers(pair, frames):
    ours, theirs = pair
    video = torch.randn(2, 3, frames, 32, 48).clamp(-1, 1)
    expected, got = theirs.encode(video).latent_dist, ours.encode(video)
    assert (got.mean - expected.mean).abs().max() <= 1e-5
    assert (got.logvar - expected.logvar).abs().max() <= 1e-5


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 9])
def test_decode_equals_diffusers(pair, frames):
    ours, theirs = pair
    latents = ours.scale(torch.randn(1, 4, frames, 4, 6))
    assert (ours.decode(latents) - theirs.decode(ours.unscale(latents)).sample).abs().max() <= 1e-5


@pytest.mark.parametrize("size", [(72, 104), (64, 104), (88, 96)])
def test_tiles_equal_diffusers(pair, size):
    ours, theirs = pair
    theirs.enable_tiling()
    tiling = Tiling.default(ours.config)
    video = torch.randn(1, 3, 9, *size).clamp(-1, 1)
    assert (ours.encode(video, tiling=tiling).mean - theirs.encode(video).latent_dist.mean).abs().max() <= 1e-5
    latents = ours.scale(torch.randn(1, 4, 3, size[0] // 8, size[1] // 8))
    expected = theirs.decode(ours.unscale(latents)).sample
    assert (ours.decode(latents, tiling=tiling) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "frames,chunk,bounds",
    [
        (49, 8, [(0, 9), (9, 17), (17, 25), (25, 33), (33, 41), (41, 49)]),
        (85, 8, [(0, 13)] + [(8 * i + 5, 8 * i + 13) for i in range(1, 10)]),
        (5, 8, [(0, 5)]),
        (13, 2, [(0, 3), (3, 5), (5, 7), (7, 9), (9, 11), (11, 13)]),
        (1, 2, [(0, 1)]),
    ],
)
def test_the_first_chunk_takes_the_remainder(frames, chunk, bounds):
    assert list(chunk_bounds(frames, chunk)) == bounds


def test_later_frames_do_not_touch_the_latents_of_an_earlier_chunk(vae):
    video = torch.randn(1, 3, 17, 16, 16)
    changed = video.clone()
    changed[:, :, 9:] += 1
    before, after = vae.encode(video).mean, vae.encode(changed).mean
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert not torch.allclose(before[:, :, 3:], after[:, :, 3:])


def test_a_later_frame_of_the_same_chunk_is_seen(vae):
    video = torch.randn(1, 3, 9, 16, 16)
    changed = video.clone()
    changed[:, :, 7] += 1
    assert not torch.equal(vae.encode(video).mean[:, :, 0], vae.encode(changed).mean[:, :, 0])


@pytest.mark.parametrize(
    "ratio,widths,latent_channels,shape",
    [
        (4, (4, 4, 4, 8), 8, (3, 4, 4)),  # A
        (4, (4, 4, 4, 8), 32, (3, 4, 4)),  # C
        (8, (4, 4, 4, 8), 32, (2, 4, 4)),  # D
        (8, (4, 4, 4, 4, 8), 128, (2, 2, 2)),  # E
    ],
)
def test_variants_of_the_papers_table(ratio, widths, latent_channels, shape):
    config = VAEConfig(
        block_out_channels=widths,
        latent_channels=latent_channels,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=ratio,
    )
    vae = CausalVAE(config)
    mean = vae.encode(torch.randn(1, 3, 9, 32, 32)).mean
    assert mean.shape == (1, latent_channels, *shape)
    assert vae.decode(mean).shape[3:] == (32, 32)


def test_the_released_size():
    with torch.device("meta"):
        vae = CausalVAE(VAEConfig())
    assert sum(p.numel() for p in vae.parameters()) == 215_583_907
    assert len(vae.state_dict()) == 436


def test_config_round_trip(vae_dict):
    config = VAEConfig.from_dict(vae_dict)
    assert VAEConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("extra", [{"use_quant_conv": True}, {"colour": 1}, {"act_fn": "relu"}])
def test_config_refuses_what_it_cannot_do(vae_dict, extra):
    with pytest.raises(InputError, match=next(iter(extra))):
        VAEConfig.from_dict({**vae_dict, **extra})


def test_wrong_channels_are_named(vae):
    with pytest.raises(ShapeError, match="video"):
        vae.encode(torch.zeros(1, 4, 9, 16, 16))
    with pytest.raises(ShapeError, match="latents"):
        vae.decode(torch.zeros(4, 3, 2, 2))


def test_rescaled_latents_are_those_of_the_same_clips(vae, ruled):
    video, factors = ruled(1, 3, 9, 32, 48), torch.tensor([0.25, 1.0, 3.0, 7.0])
    before = vae.encode(video)
    clip = vae.decode(before.mean)
    rescale_latents(vae, factors)
    after = vae.encode(video)
    wide = factors.view(1, -1, 1, 1, 1)
    assert torch.allclose(after.mean, before.mean * wide, atol=1e-5)
    assert torch.allclose(after.logvar, before.logvar + 2 * wide.log(), atol=1e-5)
    assert torch.allclose(vae.decode(after.mean), clip, atol=1e-5)
