"""VideoMAE through transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from cogvx.checkpoints.hashes import weights_sha256
from cogvx.checkpoints.weights import read_json
from cogvx.errors import InputError, MissingError, UsageError
from cogvx.evaluation.features.network import Sampling
from cogvx.files import clean
from cogvx.hub import snapshot


class VideoMAE:
    """A VideoMAE encoder; the features of a clip are the mean of its last tokens.

    Args:
        source: A folder, or a repository that was downloaded before.
        sampling: Which frames; None: as many as it was trained with, from the start, cropped to its size.
        device: Where it computes.

    Raises:
        InputError: It cannot be loaded.
        MissingError: The repository was not downloaded.
        UsageError: The number of frames is another than the network's.

    Source: Tong et al., "VideoMAE" (arXiv 2203.12602); as features of FVD: Ge et al., "On the Content Bias in Fréchet
        Video Distance" (arXiv 2404.12391), with another VideoMAE, so no number here is one of that paper.
    """

    metric = "fvd@videomae"

    def __init__(self, source: str, sampling: Sampling | None, device: torch.device) -> None:
        import transformers

        self._folder, self._device, self._source = find_folder(source), device, clean(source)
        try:
            model = transformers.VideoMAEModel.from_pretrained(
                self._folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"{self._source}: no VideoMAE can be loaded: {clean(reason[0])[:200]}") from error
        self._model = model.to(device).eval().requires_grad_(False)  # type: ignore[arg-type]
        config = model.config
        self.width = int(config.hidden_size)
        count, side = config.num_frames, config.image_size
        if not isinstance(side, int):
            raise InputError(f"{self._source}: a VideoMAE of square frames is needed, not of {clean(str(side))}")
        self._sampling = sampling or Sampling(num_frames=count, size=side)
        if self._sampling.num_frames != count or self._sampling.size != side:
            raise UsageError(f"{self._source} looks at {count} frames of {side}x{side}: --frames {count} --size {side}")
        self._mean, self._deviation = (torch.tensor(values, device=device) for values in _pixels(self._folder))

    def backend(self) -> dict[str, Any]:
        """Return which network it is (see VideoNetwork.backend)."""
        sha256 = weights_sha256(self._folder)
        return {"name": "videomae", "source": self._source, "sha256": sha256, "features": self.width}

    def protocol(self) -> dict[str, Any]:
        """Return how clips are read and features taken (see VideoNetwork.protocol)."""
        return {**self._sampling.to_dict(), "pooling": "mean of the last tokens"}

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Return the frames that it looks at (see VideoNetwork.read)."""
        return self._sampling.read(path, start=start, end=end)

    def embed(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of clips, float32 (n d)."""
        pixels = torch.from_numpy(np.stack(clips)).to(self._device).float() / 255
        normal = rearrange((pixels - self._mean) / self._deviation, "n t h w c -> n t c h w")
        with torch.inference_mode():
            return self._model(normal).last_hidden_state.mean(dim=1).float().cpu().numpy()


def find_folder(source: str) -> Path:
    """Return the folder of a network of transformers: one that is named, or what was downloaded of a repository.

    Raises:
        MissingError: It was not downloaded.
        UsageError: It is neither a folder nor a repository's id.
    """
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    found = snapshot(source, patterns=["*.json", "*.safetensors", "*.txt"], local=True)
    if found is None:
        name = clean(source)
        raise MissingError(f"{name} is not here: fetch it with `hf download {name}`, or name a folder")
    return found


def _pixels(folder: Path) -> tuple[list[float], list[float]]:
    """Return mean and deviation of the pixels that it was trained with."""
    path = folder / "preprocessor_config.json"
    table = read_json(path) if path.is_file() else {}
    found = (table.get("image_mean", [0.485, 0.456, 0.406]), table.get("image_std", [0.229, 0.224, 0.225]))
    for values in found:
        if not (isinstance(values, list) and len(values) == 3 and all(isinstance(one, int | float) for one in values)):
            raise InputError(f"{clean(str(path))}: image_mean and image_std must be three numbers")
    return found
