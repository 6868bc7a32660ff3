"""LPIPS, a distance between pictures that follows human judgement, through the optional lpips package."""

from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor

from cogvx.errors import MissingError
from cogvx.metrics.reconstruction import check_pair

_CHUNK = 8  # frames that go through the network at once


def load_lpips(device: torch.device | str = "cpu") -> Any:
    """Return the network that lpips needs: AlexNet, spatial, in evaluation mode.

    On first use torchvision downloads AlexNet's weights.

    Raises:
        MissingError: The package is not installed, or the weights cannot be fetched.
    """
    try:
        import lpips as package
    except ImportError as error:
        raise MissingError("LPIPS needs the package lpips: pip install 'cogvx[metrics]'") from error
    try:
        network = package.LPIPS(net="alex", spatial=True, verbose=False)
    except OSError as error:
        raise MissingError(f"LPIPS: the weights of AlexNet cannot be fetched: {error}") from error
    return network.eval().requires_grad_(False).to(device)


def lpips(reference: Tensor, video: Tensor, *, network: Any = None) -> Tensor:
    """Return the LPIPS distance, (b,), the mean over frames and pixels; 0 is equal.

    Args:
        reference: (b 3 t h w) in [0, 1].
        video: (b 3 t h w) in [0, 1].
        network: From load_lpips, when it is used more than once.

    Raises:
        ShapeError: The shapes differ or are not (b c t h w).
        MissingError: The package is not installed, or the weights cannot be fetched.

    Source: Zhang et al.: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric.
    """
    sizes = check_pair(reference, video)
    network = load_lpips(reference.device) if network is None else network
    left, right = (rearrange(clip.float() * 2 - 1, "b c t h w -> (b t) c h w") for clip in (reference, video))
    with torch.no_grad():
        maps = [network(x, y) for x, y in zip(left.split(_CHUNK), right.split(_CHUNK), strict=True)]
    return reduce(torch.cat(maps), "(b t) 1 h w -> b", "mean", b=sizes["b"])
