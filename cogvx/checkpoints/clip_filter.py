"""A trained filter of clips in its folder: config.json, and its weights as safetensors."""

import hashlib
from pathlib import Path

import torch

from cogvx.checkpoints.hashes import weights_sha256
from cogvx.checkpoints.loading import load_module
from cogvx.checkpoints.saving import write_component
from cogvx.checkpoints.weights import open_weights, read_json, shown
from cogvx.errors import InputError
from cogvx.files import sha256_file
from cogvx.models.clip_filter import ClipFilter, ClipFilterConfig

_STEM = "model"
_CLASS = "ClipFilter"


def write_filter(network: ClipFilter, folder: Path) -> None:
    """Write a filter into a folder that is being made."""
    weights = {name: weight.detach().contiguous() for name, weight in network.state_dict().items()}
    write_component(weights, {"_class_name": _CLASS, **network.config.to_dict()}, folder, stem=_STEM)


def load_filter(folder: Path) -> ClipFilter:
    """Load a filter, float32 on the CPU, in evaluation mode.

    Args:
        folder: With config.json and model.safetensors, or a run folder of `cogvx train filter`.

    Raises:
        InputError: There is no filter, or its files are damaged.
    """
    folder = filter_folder(folder)
    table = read_json(folder / "config.json")
    if table.get("_class_name") != _CLASS:
        raise InputError(f"{shown(folder)}: config.json is not of a filter of clips")
    try:
        config = ClipFilterConfig.from_dict(table)
    except InputError as error:
        raise InputError(f"{shown(folder)}: {error}") from error
    weights = open_weights(folder, stem=_STEM)
    network = load_module(lambda: ClipFilter(config), weights, name=shown(folder), dtype=torch.float32)
    return network.requires_grad_(False)


def filter_folder(path: Path) -> Path:
    """Return the folder of a filter: this one, or model/ inside a run folder.

    Raises:
        InputError: Neither has one.
    """
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    raise InputError(f"{shown(path)}: no filter of clips there; `cogvx train filter` makes one")


def filter_sha256(folder: Path) -> str:
    """Return the hash that tells a filter from all others: of its weights and its config.

    Raises:
        InputError: A file cannot be read.
    """
    folder = filter_folder(folder)
    lines = [weights_sha256(folder), sha256_file(folder / "config.json")]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
