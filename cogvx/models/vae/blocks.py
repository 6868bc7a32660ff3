"""Residual blocks, norms and resampling of the 3D causal VAE.

Every convolution over time takes the cache of the chunk before and returns its own; blocks pass them on as tuples.
Module names are those of the official weights in the diffusers layout.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cogvx.models.vae.causal_conv import CausalConv3d
from cogvx.models.vae.parallel import Part

NORM_EPS = 1e-6

Past = tuple  # nested tuples of tensors or None, one leaf for each causal convolution


class SpatialNorm(nn.Module):
    """Group norm whose scale and shift are read from the latents: GN(x) * Y(z) + B(z).

    The product is with Y(z) itself, not with 1 + Y(z).
    """

    def __init__(self, channels: int, latent_channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm_layer = nn.GroupNorm(num_groups, channels, eps=NORM_EPS)
        self.conv_y = CausalConv3d(latent_channels, channels, kernel_size=1)
        self.conv_b = CausalConv3d(latent_channels, channels, kernel_size=1)

    def forward(self, x: Tensor, z: Tensor, part: Part | None = None) -> Tensor:
        """Normalise x (b c t h w) under the latents z (b c' t' h' w') of the same chunk."""
        scale, shift = self.conv_y(z)[0], self.conv_b(z)[0]  # a 1x1x1 convolution commutes with nearest resizing
        y = self.norm_layer(x) if part is None else part.normalise(self.norm_layer, x)
        scale, shift = (rearrange(at_frames_of(x, one, part), "b c t h w -> b c t h 1 w 1") for one in (scale, shift))
        blocks = rearrange(y, "b c t (h p) (w q) -> b c t h p w q", h=scale.shape[3], w=scale.shape[5])
        return rearrange(blocks * scale + shift, "b c t h p w q -> b c t (h p) (w q)")


def at_frames_of(x: Tensor, z: Tensor, part: Part | None = None) -> Tensor:
    """Repeat the frames of z (b c t' h' w') to (b c t h' w') for those of x (b c t h w); a first one may stay apart."""
    frames, (height, width) = x.shape[2], z.shape[3:]
    if frames > 1 and num_apart(x, part):
        return torch.cat([z[:, :, :1], F.interpolate(z[:, :, 1:], size=(frames - 1, height, width))], dim=2)
    return F.interpolate(z, size=(frames, height, width))


def num_apart(x: Tensor, part: Part | None) -> int:
    """Return how many frames of x (b c t h w) are not paired: the first one of an odd chunk, or of a clip cut up."""
    return x.shape[2] % 2 if part is None else int(part.first)


Fused = Callable[[nn.Module, Tensor, Tensor | None, Part | None], Tensor | None]


class Activated(nn.Module):
    """A network with norms that SiLU follows.

    Attributes:
        fused: What computes both at once, if anything does; it answers None where it cannot.
    """

    fused: Fused | None = None

    def activate(self, norm: nn.Module, x: Tensor, z: Tensor | None, part: Part | None = None) -> Tensor:
        """Return SiLU of x (b c t h w) normalised, under the latents z where the norm is spatial."""
        y = None if self.fused is None else self.fused(norm, x, z, part)
        return F.silu(apply_norm(norm, x, z, part)) if y is None else y


class ResBlock(Activated):
    """Two causal convolutions around a residual path; norms look at the latents when there are any."""

    def __init__(
        self, in_channels: int, out_channels: int, num_groups: int, latent_channels: int | None = None
    ) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels, num_groups, latent_channels)
        self.norm2 = _norm(out_channels, num_groups, latent_channels)
        self.conv1 = CausalConv3d(in_channels, out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels)
        self.conv_shortcut = nn.Conv3d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor, z: Tensor | None, past: Past | None, part: Part | None = None) -> tuple[Tensor, Past]:
        """Transform x (b c t h w); z is the chunk of latents in the decoder, None in the encoder."""
        past1, past2 = past or (None, None)
        h, past1 = self.conv1(self.activate(self.norm1, x, z, part), past1, part)
        h, past2 = self.conv2(self.activate(self.norm2, h, z, part), past2, part)
        shortcut = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return h + shortcut, (past1, past2)


def _norm(channels: int, num_groups: int, latent_channels: int | None) -> nn.Module:
    if latent_channels is None:
        return nn.GroupNorm(num_groups, channels, eps=NORM_EPS)
    return SpatialNorm(channels, latent_channels, num_groups)


def apply_norm(norm: nn.Module, x: Tensor, z: Tensor | None, part: Part | None = None) -> Tensor:
    """Normalise x (b c t h w), under the latents z where the norm is spatial."""
    if z is not None:
        return norm(x, z, part)
    return norm(x) if part is None else part.normalise(cast(nn.GroupNorm, norm), x)


class ResStack(nn.Module):
    """Residual blocks one after the other: the middle of encoder and decoder.

    Attributes:
        recompute: Compute a block again on the way back instead of keeping its activations.
    """

    recompute = False

    def __init__(
        self, in_channels: int, out_channels: int, num_blocks: int, num_groups: int, latent_channels: int | None = None
    ) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * num_blocks
        self.resnets = nn.ModuleList(
            ResBlock(a, b, num_groups, latent_channels) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, x: Tensor, z: Tensor | None, past: Past | None, part: Part | None = None) -> tuple[Tensor, Past]:
        """Transform x (b c t h w)."""
        pasts = []
        for block, block_past in zip(self.resnets, past or [None] * len(self.resnets), strict=True):
            if self.recompute and torch.is_grad_enabled():
                x, kept = checkpoint(block, x, z, block_past, part, use_reentrant=False)
            else:
                x, kept = block(x, z, block_past, part)
            pasts.append(kept)
        return x, tuple(pasts)


class DownBlock(ResStack):
    """Residual blocks, then half the size and, where asked, half the frames."""

    def __init__(
        self, in_channels: int, out_channels: int, num_blocks: int, num_groups: int, *, shrink: bool, shrink_time: bool
    ) -> None:
        super().__init__(in_channels, out_channels, num_blocks, num_groups)
        self.downsamplers = nn.ModuleList([Downsample(out_channels, shrink_time)] if shrink else [])

    def forward(self, x: Tensor, z: Tensor | None, past: Past | None, part: Part | None = None) -> tuple[Tensor, Past]:
        """Transform x (b c t h w)."""
        x, past = super().forward(x, z, past, part)
        for downsample in self.downsamplers:
            x = downsample(x, part)
        return x, past


class UpBlock(ResStack):
    """Residual blocks, then twice the size and, where asked, twice the frames."""

    def __init__(
        self,
        channels: tuple[int, int],
        num_blocks: int,
        num_groups: int,
        latent_channels: int,
        *,
        grow: bool,
        grow_time: bool,
    ) -> None:
        super().__init__(*channels, num_blocks, num_groups, latent_channels)
        self.upsamplers = nn.ModuleList([Upsample(channels[1], grow_time)] if grow else [])

    def forward(self, x: Tensor, z: Tensor | None, past: Past | None, part: Part | None = None) -> tuple[Tensor, Past]:
        """Transform x (b c t h w)."""
        x, past = super().forward(x, z, past, part)
        for upsample in self.upsamplers:
            x = upsample(x, part)
        return x, past


class Downsample(nn.Module):
    """Average pairs of frames (an odd count keeps its first), then a strided 2D convolution padded right and below."""

    def __init__(self, channels: int, shrink_time: bool) -> None:
        super().__init__()
        self.shrink_time = shrink_time
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor, part: Part | None = None) -> Tensor:
        """Map (b c t h w) to (b c t' h/2 w/2), t' = ceil(t/2) with shrink_time."""
        if self.shrink_time:
            odd = num_apart(x, part)
            parts = [x[:, :, :odd]] if odd else []
            if x.shape[2] > 1:
                parts.append(0.5 * x[:, :, odd::2] + 0.5 * x[:, :, odd + 1 :: 2])
            x = torch.cat(parts, dim=2)
        return _per_frame(self.conv, F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Repeat pixels (and frames; an odd count keeps its first single), then a 2D convolution of each frame."""

    def __init__(self, channels: int, grow_time: bool) -> None:
        super().__init__()
        self.grow_time = grow_time
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, part: Part | None = None) -> Tensor:
        """Map (b c t h w) to (b c t' 2h 2w); with grow_time t' = 2t - 1 for odd t and 2t for even t."""
        odd = num_apart(x, part)
        if self.grow_time and x.shape[2] > odd:
            x = torch.cat([x[:, :, :odd], x[:, :, odd:].repeat_interleave(2, dim=2)], dim=2)
        b = x.shape[0]
        x = F.interpolate(rearrange(x, "b c t h w -> (b t) c h w"), scale_factor=2.0)
        return rearrange(self.conv(x), "(b t) c h w -> b c t h w", b=b)


def _per_frame(conv: nn.Module, x: Tensor) -> Tensor:
    y = conv(rearrange(x, "b c t h w -> (b t) c h w"))
    return rearrange(y, "(b t) c h w -> b c t h w", b=x.shape[0])
