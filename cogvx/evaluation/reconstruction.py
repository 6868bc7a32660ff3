"""How close what a VAE makes of a clip is to the clip, by every measure that can be computed here."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from cogvx.checkpoints.hashes import weights_sha256
from cogvx.checkpoints.perceptual import load_st_lpips, st_lpips_weights
from cogvx.errors import MissingError
from cogvx.metrics import flicker, perceptual, vmaf
from cogvx.metrics.ms_ssim import SMALLEST, WEIGHTS, ms_ssim
from cogvx.metrics.reconstruction import SIGMA, WINDOW, psnr, ssim
from cogvx.models import st_lpips

_CHUNK = 4  # frames that go through ST-LPIPS at once
HOW = {
    "values": "8 bits, in [0, 1]",
    "psnr": "mean over frames, error under 1e-10 is 100 dB",
    "psnr_global": "of the whole clip's squared error",
    "ssim": f"gaussian {WINDOW}x{WINDOW}, sigma {SIGMA}, no padding, each channel",
    "ms_ssim": f"as ssim at {len(WEIGHTS)} sizes",
    "vmaf": "vmaf_v0.6.1 on BT.709 luma of 16 to 235, mean over frames",
    "flicker": "grey levels of 255, mean over pairs of frames",
}


@dataclass(frozen=True)
class Measures:
    """What is measured of each clip.

    Attributes:
        st_lpips: ST-LPIPS of pictures (n 3 h w) in [-1, 1], (n,); None: not measured.
        lpips: The network of the package lpips; None: not measured.
        vmaf: The network of the package vmaf-torch; None: not measured.
        missing: Why a measure is left out, by its name.
    """

    st_lpips: Callable[[Tensor, Tensor], Tensor] | None
    lpips: Any
    vmaf: Any
    missing: dict[str, str]

    def backend(self) -> dict[str, Any]:
        """Return the networks that measure."""
        found: dict[str, Any] = {"name": "arithmetic on pixels"}
        if self.st_lpips is not None:
            found["st_lpips"] = f"AlexNet, sha256 {weights_sha256(st_lpips_weights())}"
        if self.lpips is not None:
            found["lpips"] = "package lpips, AlexNet, spatial mean"
        if self.vmaf is not None:
            found["vmaf"] = f"package vmaf-torch {version('vmaf-torch')}"
        return found

    def of(self, reference: Tensor, video: Tensor) -> dict[str, float]:
        """Return the measures of a clip and of what became of it, (1 3 t h w) in [0, 1] each.

        What cannot be measured of it (flicker of one frame, a window that does not fit, a ratio to a clip that stands
        still) is left out.

        Raises:
            ShapeError: Their shapes differ.
        """
        found = {
            "psnr": psnr(reference, video).item(),
            "psnr_global": psnr(reference, video, average="global").item(),
        }
        smallest = min(video.shape[3:])
        if smallest >= WINDOW:
            found["ssim"] = ssim(reference, video).item()
        if smallest >= SMALLEST:
            found["ms_ssim"] = ms_ssim(reference, video).item()
        if self.st_lpips is not None and smallest >= st_lpips.SMALLEST:
            found["st_lpips"] = self._st_lpips(reference, video)
        if self.lpips is not None:
            found["lpips"] = perceptual.lpips(reference, video, network=self.lpips).item()
        if self.vmaf is not None and smallest >= vmaf.SMALLEST:
            found["vmaf"] = vmaf.vmaf(reference, video, network=self.vmaf).item()
        if video.shape[2] > 1:
            found |= flicker_readings(reference, video)
        return found

    @torch.inference_mode()
    def _st_lpips(self, reference: Tensor, video: Tensor) -> float:
        assert self.st_lpips is not None
        pictures = (rearrange(clip[0] * 2 - 1, "c t h w -> t c h w") for clip in (reference, video))
        chunks = zip(*(clip.split(_CHUNK) for clip in pictures), strict=True)
        return torch.cat([self.st_lpips(left, right) for left, right in chunks]).mean().item()


def flicker_readings(reference: Tensor, video: Tensor) -> dict[str, float]:
    """Return how much a clip flickers, and two readings of the unit that the CogVideoX paper leaves open.

    Args:
        reference: (1 3 t h w) in [0, 1], t at least 2.
        video: (1 3 t h w) in [0, 1].

    Raises:
        ShapeError: Their shapes differ, or there are no two frames.
    """
    found = {
        "flicker": flicker.flicker_mae255(video).item(),
        "flicker_source": flicker.flicker_mae255(reference).item(),
        "flicker_excess": flicker.flicker_excess(reference, video).item(),
        "flicker_reading_x1000": flicker.flicker_x1000(video).item(),
        "flicker_reading_wrapped": flicker.flicker_wrapped(video).item(),
    }
    ratio = flicker.flicker_ratio(reference, video)
    return found | ({"flicker_ratio": ratio.item()} if ratio.isfinite().all() else {})


def open_measures(*, with_st_lpips: bool = True, with_lpips: bool = False, with_vmaf: bool = False) -> Measures:
    """Load what measures.

    Args:
        with_st_lpips: Whether ST-LPIPS is measured, if its package is here.
        with_lpips: Whether LPIPS is; on first use its package downloads a network.
        with_vmaf: Whether VMAF is.

    Raises:
        MissingError: LPIPS or VMAF is asked for, and its package or its network is not here.
    """
    missing: dict[str, str] = {}
    network: Callable[[Tensor, Tensor], Tensor] | None = None
    if with_st_lpips:
        try:
            network = load_st_lpips().eval().requires_grad_(False)
        except MissingError as error:
            missing["st_lpips"] = str(error)
    lpips_network = perceptual.load_lpips() if with_lpips else None
    return Measures(network, lpips_network, vmaf.load_vmaf() if with_vmaf else None, missing)
