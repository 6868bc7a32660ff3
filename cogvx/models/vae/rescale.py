"""Latents of another scale from the same VAE: factors of the channels, folded into the weights around them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cogvx.models.vae.autoencoder import CausalVAE
from cogvx.models.vae.blocks import SpatialNorm


@torch.no_grad()
def rescale_latents(vae: CausalVAE, factors: Tensor) -> None:
    """Multiply the channels of a VAE's latents, in place; its clips stay what they are.

    Channels of very different spread are learned at very different noise levels; the layout of the released models has
    one scaling factor for all of them.

    Args:
        vae: Its encoder then gives means factors times as large, and its decoder takes such.
        factors: (c), above zero.
    """
    channels = vae.config.latent_channels
    factors = factors.to(vae.encoder.conv_out.conv.weight)
    out = vae.encoder.conv_out.conv
    assert out.bias is not None
    out.weight[:channels] *= factors[:, None, None, None, None]
    out.bias[:channels] *= factors
    out.bias[channels:] += 2 * factors.log()  # log-variances
    readers = [vae.decoder.conv_in.conv]
    for module in vae.decoder.modules():
        if isinstance(module, SpatialNorm):
            readers += [module.conv_y.conv, module.conv_b.conv]
    for reader in readers:
        reader.weight /= factors[None, :, None, None, None]


@torch.no_grad()
def measure_visibility(vae: CausalVAE, pictures: Sequence[Tensor], spreads: Tensor, *, share: float = 0.15) -> Tensor:
    """Return how far noise in each channel of latents moves the pixels.

    Args:
        vae: Decodes them.
        pictures: Latents (1 c 1 h w) of pictures, before the scaling factor.
        spreads: (c), the standard deviations of the channels.
        share: Of them that the noise has: little, so that each channel's effect is about linear.

    Returns:
        (c), float64, on the CPU: the root mean square change of pixels in [-1, 1], divided by the share.
    """
    generator = torch.Generator().manual_seed(0)
    squares = torch.zeros(len(spreads), dtype=torch.float64)
    for latents in pictures:
        noise = torch.randn(latents[:, 0].shape, generator=generator).to(latents)
        still = vae.decode(vae.scale(latents))
        for channel, spread in enumerate(spreads.tolist()):
            moved = latents.clone()
            moved[:, channel] += share * spread * noise
            squares[channel] += float((vae.decode(vae.scale(moved)) - still).double().square().mean())
    return (squares / len(pictures)).sqrt() / share
