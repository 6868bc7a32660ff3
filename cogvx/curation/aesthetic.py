"""The aesthetic score of LAION: a small head on the image features of CLIP ViT-L/14, by weights that somebody names.

Nothing stands in for the weights: without them there is no score.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cogvx.checkpoints.hashes import weights_sha256
from cogvx.data.signals.signal import Signal, View, spread
from cogvx.errors import InputError, MissingError
from cogvx.files import clean

_MOST_LAYERS, _MOST_NUMBERS = 32, 1 << 26
HOW = (
    "the signal aesthetic needs weights: fetch CLIP with `hf download openai/clip-vit-large-patch14` and the head with "
    "`hf download ttj/sac-logos-ava1-l14-linearMSE model.safetensors`, then pass --aesthetic-model "
    "openai/clip-vit-large-patch14 --aesthetic-head FILE.safetensors"
)


@dataclass(frozen=True)
class Aesthetic(Signal):
    """Aesthetic score of some stills, about 1…10: `aesthetic` is their mean, `aesthetic_min` the least.

    A still is resized (bicubic) so that it covers the square that CLIP looks at, and cropped at the centre; its
    features are divided by their length. Known heads: sac+logos+ava1 (five linear layers without anything between),
    and the plain linear one of LAION.

    Attributes:
        model: Folder or repository with a CLIP, safetensors; not part of "made", where the weights' hashes stand.
        head: A safetensors file of linear layers.
        stills: At most so many, evenly spread.

    Source: github.com/LAION-AI/aesthetic-predictor and christophschuhmann/improved-aesthetic-predictor.
    """

    name: ClassVar[str] = "aesthetic"
    columns: ClassVar[tuple[str, ...]] = ("aesthetic", "aesthetic_min")
    view: ClassVar[View] = "stills"

    model: str
    head: str
    stills: int = 4

    def made(self) -> dict[str, Any]:
        """Return what the columns depend on."""
        named = {key: value for key, value in super().made().items() if key not in ("model", "head")}
        return named | {"clip_sha256": _clip_sha256(self.model), "head_sha256": weights_sha256(_head_file(self.head))}

    def open(self) -> None:
        """Load CLIP and the head (see Signal.open)."""
        _scorer(self.model, self.head)

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return the columns of stills, uint8 (t h w 3)."""
        scores = _scorer(self.model, self.head)(frames[spread(len(frames), self.stills)])
        return {"aesthetic": float(scores.mean()), "aesthetic_min": float(scores.min())}


def read_head(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read linear layers: weights (out in) and bias (out,) each, in the order that their names are numbered.

    Raises:
        InputError: It is no safetensors file, or not a chain of linear layers that ends in one number.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    name = clean(str(path))
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{name}: not a safetensors file that can be read: {clean(str(error))[:200]}") from error
    layers: dict[int, dict[str, np.ndarray]] = {}
    for key, tensor in tensors.items():
        found = re.fullmatch(r"(?:.*?\.)??(?:(\d+)\.)?(weight|bias)", key)
        if found is None or tensor.size > _MOST_NUMBERS:
            raise InputError(f"{name}: {clean(key)[:60]} is no part of an aesthetic head")
        layers.setdefault(int(found[1] or 0), {})[found[2]] = tensor.astype(np.float64)
    chain = [layers[number] for number in sorted(layers)][:_MOST_LAYERS]
    whole = bool(chain) and all(
        set(layer) == {"weight", "bias"}
        and layer["weight"].ndim == 2
        and layer["bias"].shape == layer["weight"].shape[:1]
        for layer in chain
    )
    if whole:
        sizes = [layer["weight"].shape for layer in chain]
        whole = sizes[-1][0] == 1 and all(
            wide[0] == narrow[1] for wide, narrow in zip(sizes[:-1], sizes[1:], strict=True)
        )
    if not whole:
        raise InputError(f"{name}: not a chain of linear layers that ends in one number")
    return [(layer["weight"], layer["bias"]) for layer in chain]


@functools.cache
def _scorer(model: str, head: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that takes frames, uint8 (t h w 3), to scores, float64 (t,)."""
    from cogvx.checkpoints.frame_networks import CLIP, open_frame_network

    network = open_frame_network(f"{CLIP}{model}")
    layers = read_head(_head_file(head))
    if layers[0][0].shape[1] != network.width:
        raise InputError(
            f"{clean(head)}: it takes {layers[0][0].shape[1]} features, and the CLIP {clean(model)} gives "
            f"{network.width}; the heads of LAION go with ViT-L/14"
        )

    def score(frames: np.ndarray) -> np.ndarray:
        features = network.embed(covering(frames, *network.size)).double().numpy()
        values = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        for weight, bias in layers:
            values = values @ weight.T + bias
        return values[:, 0]

    return score


def covering(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return frames, uint8 (t h w 3), as CLIP is shown them: resized to cover a size, then cropped at the centre."""
    from PIL import Image

    _, tall, wide, _ = frames.shape
    side, short = max(height, width), min(tall, wide)
    size = (side * wide // short, side * tall // short)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    result = np.empty((len(frames), height, width, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        image = Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.BICUBIC)
        result[index] = np.asarray(image)[top : top + height, left : left + width]
    return result


def _head_file(head: str) -> Path:
    path = Path(head).expanduser()
    if not path.is_file():
        raise MissingError(f"{clean(head)} is not there; {HOW}")
    return path


@functools.cache
def _clip_sha256(model: str) -> str:
    from cogvx.checkpoints.frame_networks import clip_folder

    return weights_sha256(clip_folder(model))
