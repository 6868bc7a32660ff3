"""The discriminator of the VAE's training: real clip or rebuilt one; it also takes images."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from cogvx.models.vae.causal_conv import CausalConv3d
from cogvx.shapes import expect

MAX_WIDTH = 512
SLOPE = 0.1  # of leaky ReLUs
NUM_HEADS, HEAD_DIM = 16, 8
SMALLEST = 4  # side in pixels at which the levels end


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of the discriminator.

    Attributes:
        width: Channels of the first level; each further one has twice as many, up to 512.
        image_size: Shorter side in pixels that the levels bring down to about 4; others work too.
        num_frames: Frames that the levels over time bring down to about 1; others work too.
        in_channels: Of the clips.
    """

    width: int
    image_size: int
    num_frames: int
    in_channels: int = 3

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        num_levels = max(1, int(math.log2(self.image_size / SMALLEST)) + 1)
        return tuple(min(MAX_WIDTH, self.width * 2**i) for i in range(num_levels))

    @property
    def num_temporal_levels(self) -> int:
        """How many of the first levels look over time and halve the frames."""
        return min(int(math.log2(self.num_frames)), len(self.widths))


class Discriminator(nn.Module):
    """Levels over time and space, a mean over time, levels over space with attention, and a logit at each place.

    Convolutions over time see the past only and the first frame is never paired, as in the VAE, so that one image is a
    clip of one frame. Where the official code ends in a linear map of one fixed size, this has a logit a place, so that
    one discriminator serves all sizes of a recipe.

    Source: CogVideoX paper (arXiv 2408.06072), "3D Causal VAE"; the shape is that of MAGVIT-v2's (arXiv 2310.05737).
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.in_channels, *config.widths]
        last, over_time = len(widths) - 2, config.num_temporal_levels
        levels = [(a, b, i < last) for i, (a, b) in enumerate(pairwise(widths))]
        self.clip_levels = nn.Sequential(*(_ClipLevel(a, b, shrink) for a, b, shrink in levels[:over_time]))
        self.image_levels = nn.Sequential(*(_ImageLevel(a, b, shrink) for a, b, shrink in levels[over_time:]))
        self.head = nn.Sequential(
            nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.LeakyReLU(SLOPE), nn.Conv2d(widths[-1], 1, 1)
        )
        self.apply(_keep_scale)

    def forward(self, video: Tensor) -> Tensor:
        """Return a logit at each place of a small image, (b 1 h' w'); larger: more likely real.

        Args:
            video: (b 3 t h w) in [-1, 1]; any t, h and w.
        """
        expect(video, "b c t h w", "video", c=self.config.in_channels)
        image = reduce(self.clip_levels(video), "b c t h w -> b c h w", "mean")
        return self.head(self.image_levels(image))


def hinge_loss(real: Tensor, rebuilt: Tensor) -> Tensor:
    """Return the discriminator's loss, a scalar, from its logits of real and rebuilt clips."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + rebuilt).mean())


class _ClipLevel(nn.Module):
    """Two causal convolutions, then half the size and half the frames, beside a short path."""

    def __init__(self, in_channels: int, out_channels: int, shrink: bool) -> None:
        super().__init__()
        self.shrink = shrink
        self.conv1 = CausalConv3d(in_channels, out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels)
        self.down = nn.Conv3d(4 * out_channels, out_channels, 1) if shrink else nn.Identity()
        self.shortcut = nn.Conv3d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b c t h w) to (b c' t' h/2 w/2), t' = ceil(t/2)."""
        h = F.leaky_relu(self.conv1(x)[0], SLOPE)
        h = F.leaky_relu(self.conv2(h)[0], SLOPE)
        if self.shrink:
            h = self.down(_fold(_halve_frames(h)))
            x = _halve_frames(x)[..., ::2, ::2]
        return (h + self.shortcut(x)) * 2**-0.5


class _ImageLevel(nn.Module):
    """The same over one image, then attention and a feed-forward map, each beside a short path."""

    def __init__(self, in_channels: int, out_channels: int, shrink: bool) -> None:
        super().__init__()
        self.shrink = shrink
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.down = nn.Conv2d(4 * out_channels, out_channels, 1) if shrink else nn.Identity()
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)
        self.attention = _LinearAttention(out_channels)
        self.feed_forward = nn.Sequential(
            nn.RMSNorm(out_channels), nn.Linear(out_channels, 4 * out_channels), nn.GELU(),
            nn.Linear(4 * out_channels, out_channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map (b c h w) to (b c' h/2 w/2)."""
        h = F.leaky_relu(self.conv1(x), SLOPE)
        h = F.leaky_relu(self.conv2(h), SLOPE)
        if self.shrink:
            h = self.down(_fold(h))
            x = x[..., ::2, ::2]
        y = (h + self.shortcut(x)) * 2**-0.5
        height = y.shape[2]
        y = rearrange(y, "b c h w -> b (h w) c")
        y = y + self.attention(y)
        y = y + self.feed_forward(y)
        return rearrange(y, "b (h w) c -> b c h w", h=height)


class _LinearAttention(nn.Module):
    """Attention whose cost is linear in the places: keys and values are summed up before queries see them.

    Source: Shen et al., "Efficient Attention: Attention with Linear Complexities" (arXiv 1812.01243).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * NUM_HEADS * HEAD_DIM, bias=False)
        self.to_out = nn.Linear(NUM_HEADS * HEAD_DIM, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b l d) to (b l d)."""
        q, k, v = rearrange(self.to_qkv(self.norm(x)), "b l (s n e) -> s b n l e", s=3, n=NUM_HEADS).unbind(0)
        summary = torch.einsum("b n l e, b n l f -> b n e f", k.softmax(dim=2), v)
        y = torch.einsum("b n l e, b n e f -> b n l f", q.softmax(dim=3) * HEAD_DIM**-0.5, summary)
        return self.to_out(rearrange(y, "b n l e -> b l (n e)"))


def _keep_scale(module: nn.Module) -> None:
    """Initialise a convolution so that signals keep their size through all levels, which have no norms."""
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        rectified = max(module.kernel_size) > 1  # the 1x1 ones are followed by a sum, not by a leaky ReLU
        nn.init.kaiming_normal_(module.weight, a=SLOPE, nonlinearity="leaky_relu" if rectified else "linear")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _halve_frames(x: Tensor) -> Tensor:
    """Average pairs of frames of (b c t h w); an odd count keeps its first, an even count above 1 has none apart."""
    odd = x.shape[2] % 2
    pairs = rearrange(x[:, :, odd:], "b c (t p) h w -> b c t p h w", p=2).mean(dim=3)
    return torch.cat([x[:, :, :odd], pairs], dim=2) if odd else pairs


def _fold(x: Tensor) -> Tensor:
    """Put each square of 2x2 pixels of (b c ... h w) into channels; an odd side repeats its last row or column."""
    height, width = x.shape[-2:]
    if height % 2:
        x = torch.cat([x, x[..., -1:, :]], dim=-2)
    if width % 2:
        x = torch.cat([x, x[..., -1:]], dim=-1)
    if x.ndim == 4:
        return rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=2, q=2)
    return rearrange(x, "b c t (h p) (w q) -> b (c p q) t h w", p=2, q=2)
