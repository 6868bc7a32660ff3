"""Latents of another scale from the same VAE: factors of the channels, folded into the weights around them."""

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
