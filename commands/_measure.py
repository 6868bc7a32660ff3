"""How much a clip lost on its way through a VAE."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ._console import Console


def measure(before: "np.ndarray", after: "np.ndarray", console: "Console") -> dict[str, Any]:
    """Return PSNR (dB), SSIM, LPIPS and flicker (grey levels of 255) of frames uint8 (t h w 3) and what became of them.

    What cannot be measured is None: flicker of one frame, SSIM of frames smaller than its window, LPIPS without its
    package.
    """
    from cogvx.metrics.flicker import flicker_mae255
    from cogvx.metrics.reconstruction import WINDOW, from_frames, psnr, ssim

    reference, video = from_frames(before), from_frames(after[: len(before)])
    moving = len(before) > 1
    return {
        "psnr": psnr(reference, video).item(),
        "ssim": ssim(reference, video).item() if min(before.shape[1:3]) >= WINDOW else None,
        "lpips": _lpips(reference, video, console),
        "flicker": flicker_mae255(video).item() if moving else None,
        "flicker_source": flicker_mae255(reference).item() if moving else None,
    }


def _lpips(reference: Any, video: Any, console: "Console") -> float | None:
    """LPIPS, where its package and its network's weights are here; nothing is downloaded for it."""
    from importlib.util import find_spec
    from pathlib import Path

    if find_spec("lpips") is None:
        console.detail("LPIPS is not measured: pip install 'cogvx[metrics]'")
        return None
    import torch

    from cogvx.metrics.perceptual import lpips

    if not list(Path(torch.hub.get_dir(), "checkpoints").glob("alexnet-*.pth")):
        console.note('LPIPS is not measured: fetch its network once with python -c "import lpips; lpips.LPIPS()"')
        return None
    return lpips(reference, video).item()
