"""Modules from stored weights, with one copy in memory at most."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import nn

from cogvx.checkpoints.weights import StoredTensor, Weights, first_few
from cogvx.errors import InputError

Module = TypeVar("Module", bound=nn.Module)


def load_module(
    build: Callable[[], Module],
    weights: Weights,
    *,
    name: str,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    keep_fp32: Callable[[str], bool] = lambda key: False,
    aliases: Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
) -> Module:
    """Return a module filled from stored weights, in evaluation mode.

    The module is built without memory, then each tensor is read, converted and put in its place, so that what is held
    at any time is the finished part and one tensor more. All names and shapes are checked before anything is read.

    Args:
        build: Makes the module.
        weights: What it gets.
        name: What the weights are called in errors.
        dtype: Type of the floating-point weights (default: as stored).
        device: Where they go.
        keep_fp32: Tells which keys are float32 whatever dtype says.
        aliases: Keys that stand for the same tensor as another: a file has either or both.
        ignore: Prefixes of keys that may be in the file and are not used.

    Raises:
        InputError: A tensor is missing, unexpected, or has another shape.
    """
    try:
        with torch.device("meta"):
            module = build()
    except (ValueError, ZeroDivisionError) as error:  # sizes that do not go together
        raise InputError(f"{name}: no model can be built from its config: {error}") from error
    slots = module.state_dict(keep_vars=True)
    weights = _known(weights, slots, aliases or {}, tuple(ignore))
    check_weights(weights, {key: tuple(slot.shape) for key, slot in slots.items()}, name=name)
    for key, slot in slots.items():
        if (aliases or {}).get(key) in slots:
            continue
        stored = weights[key].cast(torch.float32 if keep_fp32(key) else dtype)
        parent, _, leaf = key.rpartition(".")
        owner = module.get_submodule(parent)
        tensor = stored.read().to(device)
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=slot.requires_grad)
        else:
            owner._buffers[leaf] = tensor
    for key, target in (aliases or {}).items():
        parent, _, leaf = key.rpartition(".")
        module.get_submodule(parent)._parameters[leaf] = module.get_parameter(target)
    left = [key for key, tensor in [*module.named_parameters(), *module.named_buffers()] if tensor.is_meta]
    assert not left, f"not in the state dict, so nothing fills them: {left}"
    return module.eval()


def check_weights(weights: Weights, shapes: Mapping[str, tuple[int, ...]], *, name: str) -> None:
    """Check that weights have exactly the names and shapes that a model wants.

    Raises:
        InputError: They have not; the first few that differ are named.
    """
    missing = shapes.keys() - weights.keys()
    unexpected = weights.keys() - shapes.keys()
    if missing or unexpected:
        parts = [
            f"{len(keys)} {kind}: {first_few(keys)}"
            for kind, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise InputError(f"{name}: the tensors do not fit the config: {'; '.join(parts)}")
    wrong = [key for key, shape in shapes.items() if weights[key].shape != shape]
    if wrong:
        few = ", ".join(f"{key} is {weights[key].shape}, not {shapes[key]}" for key in sorted(wrong)[:3])
        raise InputError(f"{name}: {len(wrong)} tensors have another shape than the config says: {few}")


def _known(
    weights: Weights, slots: Mapping[str, torch.Tensor], aliases: Mapping[str, str], ignore: tuple[str, ...]
) -> dict[str, StoredTensor]:
    """Drop what is ignored, and give every alias the tensor of its target, whichever of both the file has."""
    known = {key: stored for key, stored in weights.items() if key in slots or not key.startswith(ignore or ("\0",))}
    for key, target in aliases.items():
        for this, other in ((key, target), (target, key)):
            if this in slots and this not in known and other in known:
                known[this] = known[other]
    return known
