"""The small networks that know clips and captions: a folder each of a model, `captioner` and `dual_encoder`."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from cogvx.checkpoints.loading import load_module
from cogvx.checkpoints.saving import write_component
from cogvx.checkpoints.weights import open_weights, read_json, shown
from cogvx.errors import InputError
from cogvx.models.captioner import Captioner, CaptionerConfig
from cogvx.models.dual_encoder import DualEncoder, DualEncoderConfig

Config = TypeVar("Config", CaptionerConfig, DualEncoderConfig)
Network = TypeVar("Network", Captioner, DualEncoder)
CAPTIONER, DUAL_ENCODER = "captioner", "dual_encoder"
_STEM = "model"


def write_clip_text(network: Captioner | DualEncoder, model: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Write a network into its folder of a model that is being made, and return that folder.

    Args:
        network: The network.
        model: The model's folder.
        dtype: Of the weights in the file.
    """
    folder = model / (CAPTIONER if isinstance(network, Captioner) else DUAL_ENCODER)
    weights = {name: weight.detach().to(dtype).contiguous() for name, weight in network.state_dict().items()}
    write_component(weights, {"_class_name": type(network).__name__, **network.config.to_dict()}, folder, stem=_STEM)
    return folder


def has_captioner(model: Path) -> bool:
    """Tell whether a model's folder has a captioner."""
    return (model / CAPTIONER / "config.json").is_file()


def load_captioner(model: Path, *, device: torch.device | str = "cpu") -> Captioner:
    """Load the captioner of a model, float32, in evaluation mode.

    Raises:
        InputError: The model has none, or its files are damaged.
    """
    folder = model / CAPTIONER
    config = _read_config(CaptionerConfig, folder)
    return _load(lambda: Captioner(config), folder, device)


def load_dual_encoder(model: Path, *, device: torch.device | str = "cpu") -> DualEncoder:
    """Load the dual encoder of a model, float32, in evaluation mode.

    Raises:
        InputError: The model has none, or its files are damaged.
    """
    folder = model / DUAL_ENCODER
    config = _read_config(DualEncoderConfig, folder)
    return _load(lambda: DualEncoder(config), folder, device)


def _read_config(kind: type[Config], folder: Path) -> Config:
    table = read_json(folder / "config.json")
    name = kind.__name__.removesuffix("Config")
    if table.get("_class_name") != name:
        raise InputError(f"{shown(folder)}: config.json is not of a {name}")
    try:
        return kind.from_dict(table)
    except InputError as error:
        raise InputError(f"{shown(folder)}: {error}") from error


def _load(build: Callable[[], Network], folder: Path, device: torch.device | str) -> Network:
    weights = open_weights(folder, stem=_STEM)
    return load_module(build, weights, name=shown(folder), dtype=torch.float32, device=device)
