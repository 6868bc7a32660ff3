"""Training state on disk: everything a run needs to go on, apart from the model that it yields."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from cogvx.errors import InputError
from cogvx.files import save_safetensors
from cogvx.training.optim import EMA

FORMAT = "cogvx.training/1"


def save_state(
    path: Path, modules: dict[str, nn.Module], optimizers: list[torch.optim.Optimizer], *, ema: EMA | None, step: int
) -> None:
    """Write modules, optimizers and running mean as one safetensors file, whole or not at all.

    Args:
        path: The file.
        modules: Name of each part to the part.
        optimizers: In the order in which they were made.
        ema: The running mean, if there is one.
        step: How many steps are done.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"module.{name}.{key}": value.contiguous() for key, value in module.state_dict().items()}
    for i, optimizer in enumerate(optimizers):
        for j, values in optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{i}.{j}.{key}": torch.as_tensor(value).contiguous() for key, value in values.items()
            }
    if ema is not None:
        tensors |= {f"ema.{key}": value for key, value in ema.weights.items()}
    note = {"step": step, "ema_updates": ema.num_updates if ema else 0}
    unique = {key: value.clone() for key, value in tensors.items()}  # tied weights share memory; the file may not
    save_safetensors(unique, path, {"format": FORMAT, "state": json.dumps(note)})


def load_state(
    path: Path, modules: dict[str, nn.Module], optimizers: list[torch.optim.Optimizer], *, ema: EMA | None
) -> int:
    """Read what save_state wrote into the same parts; return how many steps were done.

    Raises:
        InputError: The file is no training state of these parts.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise InputError(f"{path}: not a training state")
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    note = json.loads(metadata["state"])
    for name, module in modules.items():
        module.load_state_dict(_below(tensors, f"module.{name}."))
    for i, optimizer in enumerate(optimizers):
        whole = optimizer.state_dict()
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, f"optimizer.{i}.").items():
            index, _, field = key.partition(".")
            state.setdefault(int(index), {})[field] = value
        optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
    if ema is not None:
        ema.weights = _below(tensors, "ema.")
        ema.num_updates = note["ema_updates"]
    return note["step"]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
