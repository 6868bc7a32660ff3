"""Components in the diffusers layout: weights in shards of limited size, and their config."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cogvx.checkpoints.weights import StoredTensor, Weights, write_safetensors
from cogvx.errors import UsageError
from cogvx.files import atomic_path

DEFAULT_SHARD_BYTES = 5_000_000_000
DIFFUSERS_STEM, TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def save_component(
    state: Mapping[str, Tensor | StoredTensor],
    config: Mapping[str, Any],
    folder: Path,
    *,
    stem: str = DIFFUSERS_STEM,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
    overwrite: bool = True,
) -> None:
    """Write a component's weights and config.json to a folder, whole or not at all.

    Args:
        state: Tensors, in memory or stored; stored ones are read one at a time.
        config: Content of config.json.
        folder: The folder, replaced if it exists.
        stem: File name of the weights without suffix.
        max_shard_bytes: Size at which the next shard begins.
        overwrite: Whether a folder that exists is replaced.

    Raises:
        UsageError: The folder exists and overwrite is false.
        MissingError: The disk is full.
    """
    with atomic_path(folder, overwrite=overwrite) as temporary:
        write_component(state, config, temporary, stem=stem, max_shard_bytes=max_shard_bytes)


def write_component(
    state: Mapping[str, Tensor | StoredTensor],
    config: Mapping[str, Any] | None,
    folder: Path,
    *,
    stem: str = DIFFUSERS_STEM,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Write a component into a folder that is being made (see save_component)."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        key: value if isinstance(value, StoredTensor) else StoredTensor.of(value) for key, value in state.items()
    }
    shards = plan_shards(weights, stem=stem, max_shard_bytes=max_shard_bytes)
    for name, keys in shards.items():
        write_safetensors(folder / name, {key: weights[key] for key in keys}, metadata={"format": "pt"})
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(stored.num_bytes for stored in weights.values())},
            "weight_map": {key: name for name, keys in shards.items() for key in keys},
        }
        write_json(folder / f"{stem}.safetensors.index.json", index)
    if config is not None:
        write_json(folder / "config.json", config)


def plan_shards(weights: Weights, *, stem: str, max_shard_bytes: int) -> dict[str, list[str]]:
    """Return file names and the keys in each, in the order of the keys; a tensor is never cut."""
    groups: list[list[str]] = [[]]
    size = 0
    for key, stored in weights.items():
        if groups[-1] and size + stored.num_bytes > max_shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(key)
        size += stored.num_bytes
    if len(groups) == 1:
        return {f"{stem}.safetensors": groups[0]}
    return {f"{stem}-{i:05d}-of-{len(groups):05d}.safetensors": keys for i, keys in enumerate(groups, start=1)}


def parse_size(text: str) -> int:
    """Return a number of bytes from a text such as 5GB, 500MB or 2GiB.

    Raises:
        UsageError: The text is something else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?b|b|)", text.strip().lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if size < 1:
        raise UsageError(f"{text!r} is not a size; write 5GB, 500MB or a number of bytes")
    return size


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON the way the model libraries do, into a folder that is being made."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
