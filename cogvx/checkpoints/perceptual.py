"""Distances between pictures that follow what people see: of the VAE's loss, and measured."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cogvx.errors import MissingError
from cogvx.models.st_lpips import STLPIPS

Perceptual = Literal["none", "lpips", "st-lpips"]
# Pictures (n 3 h w) in [-1, 1], twice -> their distances (n,).
Distance = Callable[[Tensor, Tensor], Tensor]

_PACKAGE, _WEIGHTS = "stlpips_pytorch", Path("weights", "vST0.0", "alex_shift_tolerant.pth")


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


def load_st_lpips() -> STLPIPS:
    """Return ST-LPIPS with the weights of the package stlpips-pytorch, whose code is not run.

    Raises:
        MissingError: The package is not installed.
    """
    path = st_lpips_weights()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    network = STLPIPS()
    network.load_state_dict({_own_name(key): value for key, value in stored.items() if _is_weight(key)})
    return network


def st_lpips_weights() -> Path:
    """Return the file with the weights of ST-LPIPS, inside its package.

    Raises:
        MissingError: The package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    path = next((folder / _WEIGHTS for folder in folders if (folder / _WEIGHTS).is_file()), None)
    if path is None:
        raise MissingError("ST-LPIPS needs a package's weights: pip install --no-deps stlpips-pytorch==0.0.2")
    return path


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
