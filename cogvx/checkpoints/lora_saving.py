"""LoRA files, written in the diffusers layout and in those of other programs."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogvx.checkpoints.lora_formats import FILE_NAME, HEADER_KEY, SAT_MODULES
from cogvx.checkpoints.lora_types import LoRA
from cogvx.errors import UsageError
from cogvx.files import atomic_path, save_safetensors

LAYOUTS = ("diffusers", "sat", "kohya", "comfyui")


def save_lora(path: Path, lora: LoRA, *, layout: str = "diffusers", overwrite: bool = True) -> Path:
    """Write a LoRA and return its file.

    In the diffusers layout rank and alpha stand in the header, so that diffusers, PEFT and cogvx apply it at the same
    strength; an alpha that is not known is written as the rank.

    Args:
        path: A file ending in .safetensors, or a folder to be made for the usual name.
        lora: The LoRA.
        layout: "diffusers"; "comfyui" or "kohya", with alphas as tensors; "sat", with the strength in the matrices.
        overwrite: Whether what exists is replaced.

    Raises:
        UsageError: The path exists and overwrite is false, or the layout cannot hold this LoRA.
    """
    tensors, metadata = lora_tensors(lora, layout=layout)
    if path.suffix == ".safetensors":
        save_safetensors(tensors, path, metadata=metadata, overwrite=overwrite)
        return path
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.mkdir()
        save_safetensors(tensors, temporary / FILE_NAME, metadata=metadata)
    return path / FILE_NAME


def lora_tensors(lora: LoRA, *, layout: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the header of a LoRA's file in some layout (see save_lora)."""
    tensors: dict[str, Tensor] = {}
    if layout == "sat":
        return _to_sat(lora), {"format": "pt"}
    for module, pair in lora.pairs.items():
        if layout == "diffusers":
            stem, down, up = f"transformer.{module}", "lora_A", "lora_B"
        elif layout == "comfyui":
            stem, down, up = f"diffusion_model.{module}", "lora_A", "lora_B"
        elif layout == "kohya":
            stem, down, up = f"lora_unet__{module.replace('.', '_')}", "lora_down", "lora_up"
        else:
            raise UsageError(f"no such layout of a LoRA: {layout}; known: {', '.join(LAYOUTS)}")
        tensors[f"{stem}.{down}.weight"], tensors[f"{stem}.{up}.weight"] = pair.down, pair.up
        if layout != "diffusers":
            tensors[f"{stem}.alpha"] = torch.tensor(pair.scale * pair.rank, dtype=torch.float32)
    return tensors, _header(lora) if layout == "diffusers" else {"format": "pt"}


def _to_sat(lora: LoRA) -> dict[str, Tensor]:
    """Return SAT's tensors: alpha is always 1 there, so the strength goes into the second matrix."""
    places = {module: place for place, module in SAT_MODULES.items()}
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for module, pair in lora.pairs.items():
        match = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", module)
        if match is None or match[2] not in places:
            raise UsageError(f"SAT has LoRA for attention only; this one changes {module}")
        part, number = places[match[2]]
        stem = f"model.diffusion_model.transformer.layers.{match[1]}.attention.{part}"
        if ranks.setdefault(stem, pair.rank) != pair.rank:
            raise UsageError(f"SAT has one rank for query, key and value; this LoRA has several in block {match[1]}")
        tensors[f"{stem}.matrix_A.{number}"] = pair.down
        tensors[f"{stem}.matrix_B.{number}"] = (pair.up.float() * pair.scale * pair.rank).to(pair.up.dtype)
    for stem in ranks:
        if stem.endswith("query_key_value"):
            _complete(tensors, stem)
    return tensors


def _complete(tensors: dict[str, Tensor], stem: str) -> None:
    """Add zeros for those of query, key and value that a LoRA leaves alone: SAT wants all three."""
    number = next(i for i in "012" if f"{stem}.matrix_A.{i}" in tensors)
    down, up = tensors[f"{stem}.matrix_A.{number}"], tensors[f"{stem}.matrix_B.{number}"]
    for i in "012":
        tensors.setdefault(f"{stem}.matrix_A.{i}", torch.zeros_like(down))
        tensors.setdefault(f"{stem}.matrix_B.{i}", torch.zeros_like(up))


def _header(lora: LoRA) -> dict[str, str]:
    """Return the header by which diffusers rebuilds PEFT's settings."""
    ranks = {module: pair.rank for module, pair in lora.pairs.items()}
    alphas = {module: pair.scale * pair.rank for module, pair in lora.pairs.items()}
    rank, alpha = _commonest(ranks), _commonest(alphas)
    settings = {
        "r": rank,
        "lora_alpha": _plain(alpha),
        "rank_pattern": {f"^{module}": own for module, own in ranks.items() if own != rank},
        "alpha_pattern": {f"^{module}": _plain(own) for module, own in alphas.items() if own != alpha},
        "target_modules": sorted(lora.pairs),
        "lora_bias": False,
        "use_dora": False,
        "use_rslora": False,
    }
    settings = {f"transformer.{key}": value for key, value in settings.items()}
    return {"format": "pt", HEADER_KEY: json.dumps(settings, indent=2, sort_keys=True)}


def _commonest(values: Mapping[str, Any]) -> Any:
    found = list(values.values())
    return max(dict.fromkeys(found), key=found.count)


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number
