"""ST-LPIPS: a distance between pictures that follows what people see, and takes small shifts as they do."""

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from cogvx.errors import ShapeError
from cogvx.shapes import expect

SMALLEST = 21  # pixels; under these the last pooling has nothing left
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of LPIPS inputs


class STLPIPS(nn.Module):
    """Shift-tolerant LPIPS: a distance from AlexNet's features, whose every reduction is blurred first.

    Its numbers are not those of LPIPS.

    Source: Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric" (arXiv 2207.13686).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, stride=1)
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, padding=2), _Blur(), nn.ReLU(), pool, _Blur(),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), pool, _Blur(),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.taps = (2, 6, 10, 12, 14)
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in (64, 192, 384, 256, 256))
        self.register_buffer("shift", rearrange(torch.tensor(_SHIFT), "c -> c 1 1"), persistent=False)
        self.register_buffer("scale", rearrange(torch.tensor(_SCALE), "c -> c 1 1"), persistent=False)

    def forward(self, reference: Tensor, picture: Tensor) -> Tensor:
        """Return the distance (n,) of two pictures (n 3 h w) in [-1, 1]; 0 is equal."""
        sizes = expect(reference, "n c h w", "reference", c=3)
        expect(picture, "n c h w", "picture", **sizes)
        if min(sizes["h"], sizes["w"]) < SMALLEST:
            raise ShapeError(f"ST-LPIPS needs pictures of {SMALLEST}x{SMALLEST}, got {sizes['w']}x{sizes['h']}")
        x = (torch.cat([reference, picture]) - self.shift) / self.scale
        total = x.new_zeros(sizes["n"])
        heads = iter(self.heads)
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                unit = x / (x.square().sum(dim=1, keepdim=True).clamp_min(1e-20).sqrt() + 1e-10)
                left, right = unit.chunk(2)
                total = total + reduce(next(heads)((left - right).square()), "n 1 h w -> n", "mean")
        return total


class _Blur(nn.Module):
    """Half the size, each pixel a mean of its neighbours weighted 1 2 1; the border of two pixels is a mirror."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (n c h w) to (n c h/2+1 w/2+1), rounded down for even sizes."""
        row = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
        kernel = rearrange(row[:, None] * row, "h w -> 1 1 h w").expand(x.shape[1], -1, -1, -1)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])
