"""I3D, the network of FVD, from a TorchScript file that the user has."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from cogvx.errors import InputError, RefusedError
from cogvx.evaluation.features.network import Sampling
from cogvx.files import clean, sha256_file


class I3D:
    """An I3D as StyleGAN-V's code of FVD uses it.

    The file is read with torch.jit alone, never as a pickle. Called as
    f(clips (n 3 t h w) float in 0...255, rescale=True, resize=True, return_features=True): it resizes to 224x224 by
    itself.

    Args:
        path: The TorchScript file.
        sampling: Which frames of a clip.
        device: Where it computes.
        sha256: What the file's must be; None: any.

    Raises:
        InputError: The file cannot be read, or its network cannot be called so.
        RefusedError: It has another sha256.

    Source: Carreira and Zisserman, "Quo Vadis, Action Recognition?" (arXiv 1705.07750); Skorokhodov et al.,
        "StyleGAN-V" (arXiv 2112.14683).
    """

    metric = "fvd"

    def __init__(self, path: Path, sampling: Sampling, device: torch.device, sha256: str | None = None) -> None:
        self._name, self._sampling, self._device = clean(path.name), sampling, device
        self._sha256 = sha256_file(path)
        if sha256 is not None and sha256.lower() != self._sha256:
            raise RefusedError(f"{clean(str(path))}: its sha256 is {self._sha256}, not the one asked for")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                self._network = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"{clean(str(path))}: no TorchScript file ({_first_line(error)})") from error
        side = sampling.size or 224
        self.width = self._call(np.zeros((1, sampling.num_frames, side, side, 3), np.uint8)).shape[1]

    def backend(self) -> dict[str, Any]:
        """Return which network it is (see VideoNetwork.backend)."""
        return {"name": "i3d", "file": self._name, "sha256": self._sha256, "features": self.width}

    def protocol(self) -> dict[str, Any]:
        """Return how clips are read and features taken (see VideoNetwork.protocol)."""
        return {**self._sampling.to_dict(), "input": "0...255, the network resizes to 224x224 and rescales"}

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Return the frames that it looks at (see VideoNetwork.read)."""
        return self._sampling.read(path, start=start, end=end)

    def embed(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of clips, float32 (n d); they may differ in size."""
        return np.concatenate([self._call(clip[None]) for clip in clips])

    def _call(self, clips: np.ndarray) -> np.ndarray:
        pixels = rearrange(torch.from_numpy(clips), "n t h w c -> n c t h w").float().to(self._device)
        try:
            with torch.inference_mode():
                features = self._network(pixels, rescale=True, resize=True, return_features=True)
        except RuntimeError as error:
            raise InputError(
                f"{self._name}: not an I3D of FVD: it must take rescale, resize and return_features "
                f"({_first_line(error)})"
            ) from error
        if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != len(clips):
            raise InputError(f"{self._name}: not an I3D of FVD: its features are not one vector a clip")
        return features.float().cpu().numpy()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return clean(lines[0])[:160] if lines else type(error).__name__
