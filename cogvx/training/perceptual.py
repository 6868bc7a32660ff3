"""Distances between pictures that follow what people see, for the VAE's loss."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from cogvx.errors import MissingError, ShapeError
from cogvx.shapes import expect

Perceptual = Literal["none", "lpips", "st-lpips"]
# Pictures (n 3 h w) in [-1, 1], twice -> their distances (n,).
Distance = Callable[[Tensor, Tensor], Tensor]

_PACKAGE, _WEIGHTS = "stlpips_pytorch", Path("weights", "vST0.0", "alex_shift_tolerant.pth")
_SMALLEST = 21  # pixels; under these the last pooling of ST-LPIPS has nothing left
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of LPIPS inputs


def load_distance(name: Perceptual, device: torch.device | str = "cpu") -> Distance | None:
    """Return the distance of a name, None for "none"; gradients flow to both pictures, the networks are frozen.

    Args:
        name: "lpips" is LPIPS over VGG-16, of the package lpips, which downloads VGG's weights through torchvision on
            first use; "st-lpips" is the shift-tolerant LPIPS over AlexNet, whose package brings all weights.
        device: Where pictures will be.

    Raises:
        MissingError: Its package is not installed, or its weights cannot be fetched.
    """
    if name == "none":
        return None
    network = _load_lpips() if name == "lpips" else load_st_lpips()
    network = network.eval().requires_grad_(False).to(device)
    return lambda reference, picture: network(reference, picture).flatten()


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
        if min(sizes["h"], sizes["w"]) < _SMALLEST:
            raise ShapeError(f"ST-LPIPS needs pictures of {_SMALLEST}x{_SMALLEST}, got {sizes['w']}x{sizes['h']}")
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


def load_st_lpips() -> STLPIPS:
    """Return ST-LPIPS with the weights of the package stlpips-pytorch, whose code is not run.

    Raises:
        MissingError: The package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    path = next((folder / _WEIGHTS for folder in folders if (folder / _WEIGHTS).is_file()), None)
    if path is None:
        raise MissingError("ST-LPIPS needs a package's weights: pip install --no-deps stlpips-pytorch==0.0.2")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    network = STLPIPS()
    network.load_state_dict({_own_name(key): value for key, value in stored.items() if _is_weight(key)})
    return network


def _is_weight(key: str) -> bool:
    return not key.startswith("scaling_layer.") and not key.endswith(".filt")  # what this module knows by itself


def _own_name(key: str) -> str:
    """net.slice2.5.weight -> features.5.weight, lin3.model.1.weight -> heads.3.weight."""
    parts = key.split(".")
    return f"features.{parts[2]}.{parts[3]}" if parts[0] == "net" else f"heads.{parts[0][3:]}.weight"


def _load_lpips() -> Any:
    try:
        import lpips
    except ImportError as error:
        raise MissingError("LPIPS needs the package lpips: pip install 'cogvx[metrics]'") from error
    try:
        return lpips.LPIPS(net="vgg", verbose=False)
    except OSError as error:
        raise MissingError(f"LPIPS: the weights of VGG-16 cannot be fetched: {error}") from error
