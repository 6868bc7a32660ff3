"""EfficientNet-Lite: an image -> features and ImageNet classes, small enough for a laptop.

Source: Tan and Le, "EfficientNet" (arXiv 1905.11946), and its Lite variant (no squeeze-and-excitation, ReLU6).
"""

import math

from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional

from cogvx.shapes import expect

IMAGE_SIZE, FEATURE_SIZE, NUM_CLASSES = 224, 1280, 1000
# Lite0: repeats, kernel, stride of the first, expansion, channels out.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32


class EfficientNetLite0(nn.Module):
    """The smallest variant, 4.65 M parameters; its names of weights are ours (see cogvx.checkpoints.frame_networks)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, _STEM, kernel=3, stride=2)
        blocks: list[nn.Module] = []
        channels = _STEM
        for repeats, kernel, stride, expansion, out in _STAGES:
            for i in range(repeats):
                blocks.append(_Block(channels, out, kernel=kernel, stride=stride if i == 0 else 1, expansion=expansion))
                channels = out
        self.blocks = nn.ModuleList(blocks)
        self.head = _Conv(channels, FEATURE_SIZE, kernel=1)
        self.classifier = nn.Linear(FEATURE_SIZE, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images, (b 1280): what the classifier sees.

        Args:
            images: (b 3 h w) as `normalize` gives them; 224x224 in training.
        """
        expect(images, "b c h w", "images", c=3)
        hidden = self.stem(images)
        for block in self.blocks:
            hidden = block(hidden)
        return reduce(self.head(hidden), "b d h w -> b d", "mean")

    def probabilities(self, features: Tensor) -> Tensor:
        """Return the probabilities of the 1000 ImageNet classes, (b 1000), from features (b 1280)."""
        return self.classifier(features).softmax(dim=-1)


def normalize(frames: Tensor) -> Tensor:
    """Return frames, uint8 (b h w 3), as the network takes images, float32 (b 3 h w) in about [-1, 1]."""
    expect(frames, "b h w c", "frames", c=3)
    return (rearrange(frames, "b h w c -> b c h w").float() - 127.0) / 128.0


class _Conv(nn.Module):
    """Convolution, batch norm and, unless it ends a block, ReLU6; padded so that the size is divided by the stride."""

    def __init__(
        self, channels: int, out: int, *, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=1e-3)
        self.active = active

    def forward(self, hidden: Tensor) -> Tensor:
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        # As TensorFlow pads: what is odd goes to the right and the bottom.
        gaps = [max(0, (math.ceil(side / stride) - 1) * stride + kernel - side) for side in hidden.shape[:1:-1]]
        padding = [part for gap in gaps for part in (gap // 2, gap - gap // 2)]
        hidden = self.norm(self.conv(functional.pad(hidden, padding) if any(padding) else hidden))
        return functional.relu6(hidden) if self.active else hidden


class _Block(nn.Module):
    """An inverted bottleneck: widen, filter each channel, narrow; added to its input where shapes allow."""

    def __init__(self, channels: int, out: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = _Conv(channels, wide, kernel=1) if expansion > 1 else nn.Identity()
        self.depthwise = _Conv(wide, wide, kernel=kernel, stride=stride, groups=wide)
        self.project = _Conv(wide, out, kernel=1, active=False)
        self.residual = stride == 1 and channels == out

    def forward(self, hidden: Tensor) -> Tensor:
        result = self.project(self.depthwise(self.expand(hidden)))
        return result + hidden if self.residual else result
