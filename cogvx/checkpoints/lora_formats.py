"""LoRA files of every origin, read to one form.

| origin | keys |
|---|---|
| diffusers, PEFT, the official trainer | `[transformer.|base_model.model.]MODULE.lora_{A,B}.weight` |
| DiffSynth | `MODULE.lora_{A,B}.default.weight` |
| ComfyUI, diffusion-pipe | `diffusion_model.MODULE.lora_{A,B}.weight` |
| VideoX-Fun | `lora_unet__MODULE_WITH_UNDERSCORES.lora_{down,up}.weight`, `.alpha` |
| musubi, kohya | `lora_unet_MODULE_WITH_UNDERSCORES.lora_{down,up}.weight`, `.alpha` |
| SAT | `...layers.N.attention.{query_key_value,dense}.matrix_{A,B}.K`, of strength 1 / rank |
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogvx.checkpoints.lora_types import AlphaSource, LoRA, LoRAPair
from cogvx.checkpoints.pickles import open_pickle
from cogvx.checkpoints.weights import (
    PICKLE_SUFFIXES,
    StoredTensor,
    Weights,
    first_few,
    open_safetensors,
    quoted,
    read_json,
    shown,
)
from cogvx.errors import InputError

FILE_NAME = "pytorch_lora_weights.safetensors"
MAX_RANK = 4096
HEADER_KEY = "lora_adapter_metadata"

_PAIR = re.compile(r"(?P<module>.+)\.lora[._](?P<part>A|B|down|up)(?:\.(?P<adapter>[^.]+))?\.weight")
_ALPHA = re.compile(r"(?P<module>.+)\.alpha")
_SAT = re.compile(r".*?layers\.(\d+)\.attention\.(query_key_value|dense)\.matrix_(A|B)\.(\d)")
_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lokr_": "LoKr",
    "hada_": "LoHa",
    "lora_mid": "LoCon",
}
_PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.")
SAT_MODULES = {
    ("query_key_value", "0"): "attn1.to_q",
    ("query_key_value", "1"): "attn1.to_k",
    ("query_key_value", "2"): "attn1.to_v",
    ("dense", "0"): "attn1.to_out.0",
}
# Names with underscores for dots are looked up: "to_q" and "linear_1" have underscores of their own.
_BLOCK_LAYERS = (
    "attn1.to_q",
    "attn1.to_k",
    "attn1.to_v",
    "attn1.to_out.0",
    "ff.net.0.proj",
    "ff.net.2",
    "norm1.linear",
    "norm2.linear",
)
_OTHER_LAYERS = (
    "patch_embed.proj",
    "patch_embed.text_proj",
    "time_embedding.linear_1",
    "time_embedding.linear_2",
    "ofs_embedding.linear_1",
    "ofs_embedding.linear_2",
    "norm_out.linear",
    "proj_out",
)


def read_lora(path: Path, *, allow_pickle: bool = False) -> LoRA:
    """Read a LoRA from a file of any origin, or from the folder that holds it.

    The strength is that of its training where the file tells it: by `.alpha` tensors, by `lora_adapter_metadata` in the
    header, by an `adapter_config.json` beside it, or by the convention of SAT. Otherwise alpha counts as the rank, and
    a warning says what else it may have been.

    Raises:
        InputError: The file is damaged, or is no LoRA of a kind that is supported.
        RefusedError: The file is a pickle and pickles are not allowed.
    """
    file = find_lora(path)
    weights, header = _open(file, allow_pickle)
    return parse_lora(weights, header, name=shown(file), config=_adapter_config(file))


def find_lora(path: Path) -> Path:
    """Return the file that holds a LoRA: the path itself, or the one of a usual name in a folder.

    Raises:
        InputError: There is none.
    """
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"{shown(path)}: no such file")
        return path
    for name in (FILE_NAME, "adapter_model.safetensors"):
        if (path / name).is_file():
            return path / name
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    pickles = [path / name for name in ("pytorch_lora_weights.bin", "adapter_model.bin") if (path / name).is_file()]
    latest = sorted(path.glob("*/mp_rank_00_model_states.pt")) if (path / "latest").is_file() else []
    if pickles or latest:
        return (pickles or latest)[-1]
    raise InputError(f"{shown(path)}: no LoRA in this folder (looked for {FILE_NAME} and adapter_model.safetensors)")


def is_lora(names: Mapping[str, object]) -> bool:
    """Tell whether these are the names of a LoRA's tensors."""
    return any(_PAIR.fullmatch(name) or _SAT.fullmatch(name) for name in names)


def parse_lora(
    weights: Weights, header: Mapping[str, str], *, name: str, config: Mapping[str, Any] | None = None
) -> LoRA:
    """Make a LoRA of tensors under any origin's names.

    Args:
        weights: The tensors.
        header: Strings of the file's header.
        name: What to call the file in errors.
        config: Content of an adapter_config.json beside it.

    Raises:
        InputError: See read_lora.
    """
    for mark, kind in _OTHER_KINDS.items():
        if any(mark in key for key in weights):
            raise InputError(f"{name}: a {kind}, not a plain LoRA; merge it with the program that made it")
    if any(key.endswith(("lora_B.bias", "lora_up.bias")) for key in weights):
        raise InputError(f"{name}: a LoRA with biases is not supported")
    if any(_SAT.fullmatch(key) for key in weights):
        return LoRA(_sat_pairs(weights, name), "sat", "convention")
    halves: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    others = []
    formats: set[str] = set()
    for key, stored in weights.items():
        pair, alpha = _PAIR.fullmatch(key), _ALPHA.fullmatch(key)
        if pair:
            module, kind = _module(pair["module"])
            formats.add("diffsynth" if pair["adapter"] == "default" and kind == "diffusers" else kind)
            halves.setdefault(module, {})["down" if pair["part"] in ("A", "down") else "up"] = _matrix(
                stored, key, name
            )
        elif alpha:
            alphas[_module(alpha["module"])[0]] = _number(stored, key, name)
        else:
            others.append(key)
    if not halves:
        raise InputError(f"{name}: no LoRA in it; it has: {first_few(weights)}")
    pairs = {module: _pair(module, parts, name) for module, parts in halves.items()}
    source, pairs = _with_strength(pairs, alphas, header, config, name)
    warnings = [f"{name}: {len(others)} tensors that are no LoRA were left out: {first_few(others)}"] if others else []
    if source == "absent":
        warnings.append(_strength_warning(name))
    return LoRA(pairs, "+".join(sorted(formats)), source, tuple(warnings))


def _open(file: Path, allow_pickle: bool) -> tuple[Weights, Mapping[str, str]]:
    if file.suffix in PICKLE_SUFFIXES:
        return open_pickle(file, allow_pickle=allow_pickle), {}
    opened = open_safetensors(file)
    return opened.tensors, opened.metadata


def _adapter_config(file: Path) -> dict[str, Any] | None:
    """Read PEFT's config beside a file, if it can only be of this file."""
    config = file.parent / "adapter_config.json"
    alone = file.stem == "adapter_model" or len(list(file.parent.glob("*.safetensors"))) == 1
    return read_json(config) if alone and config.is_file() else None


def _module(name: str) -> tuple[str, str]:
    """Return the module path in the transformer, and the format that its name shows."""
    if name.startswith("lora_"):
        flat = re.sub(r"^lora_(unet|transformer)_+", "", name)
        kind = "videox-fun" if name.startswith("lora_unet__") else "kohya"
        block = re.fullmatch(r"transformer_blocks_(\d+)_(.+)", flat)
        layers = _BLOCK_LAYERS if block else _OTHER_LAYERS
        wanted = block[2] if block else flat
        found = next((layer for layer in layers if layer.replace(".", "_") == wanted), None)
        if found is None:
            return flat, kind
        return (f"transformer_blocks.{block[1]}.{found}" if block else found), kind
    kind = "comfyui" if "diffusion_model." in name else "diffusers"
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if name.startswith(prefix):
                name, stripped = name.removeprefix(prefix), True
    return name, kind


def _matrix(stored: StoredTensor, key: str, name: str) -> Tensor:
    if len(stored.shape) not in (2, 4) or not stored.dtype.is_floating_point or 0 in stored.shape:
        raise InputError(f"{name}: {quoted(key)} has shape {stored.shape}, which no LoRA has")
    return stored.read()


def _number(stored: StoredTensor, key: str, name: str) -> float:
    value = stored.read().float() if stored.num_bytes <= 8 else torch.tensor(float("nan"))
    if value.numel() != 1 or not math.isfinite(value.item()):
        raise InputError(f"{name}: {quoted(key)} is not a number")
    return value.item()


def _pair(module: str, parts: Mapping[str, Tensor], name: str) -> LoRAPair:
    if len(parts) != 2:
        raise InputError(f"{name}: {quoted(module)} has only one of its two matrices")
    down, up = parts["down"], parts["up"]
    fits = down.shape[0] == up.shape[1] and down.ndim == up.ndim and tuple(up.shape[2:]) in ((), (1, 1))
    if not fits or down.shape[0] > MAX_RANK:
        shapes = f"{tuple(down.shape)} and {tuple(up.shape)}"
        raise InputError(f"{name}: the matrices of {quoted(module)} do not fit each other or are too large: {shapes}")
    return LoRAPair(down, up)


def _with_strength(
    pairs: dict[str, LoRAPair],
    alphas: Mapping[str, float],
    header: Mapping[str, str],
    config: Mapping[str, Any] | None,
    name: str,
) -> tuple[AlphaSource, dict[str, LoRAPair]]:
    """Give every pair its alpha, from the best source there is."""
    if alphas:
        missing = [module for module in pairs if module not in alphas]
        if missing:
            raise InputError(f"{name}: some parts have an alpha and some have none: {first_few(missing)}")
        return "tensors", {module: replace(pair, alpha=alphas[module]) for module, pair in pairs.items()}
    told = _told_by_header(header, name)
    if told is not None:
        return "header", {
            module: replace(pair, alpha=_alpha(told, module, pair, name)) for module, pair in pairs.items()
        }
    if config is not None and "lora_alpha" in config:
        where = f"adapter_config.json beside {name}"
        return "adapter_config", {
            module: replace(pair, alpha=_alpha(config, module, pair, where)) for module, pair in pairs.items()
        }
    return "absent", pairs


def _told_by_header(header: Mapping[str, str], name: str) -> Mapping[str, Any] | None:
    """Return the settings in a file's header: those of diffusers, or the alpha that kohya's trainers write."""
    if HEADER_KEY in header:
        try:
            told = json.loads(header[HEADER_KEY])
            told = {key.removeprefix("transformer."): value for key, value in told.items()}
        except (ValueError, AttributeError, RecursionError) as error:
            raise InputError(f"{name}: {HEADER_KEY} in the header is damaged") from error
        if "lora_alpha" in told:
            return told
    if "ss_network_alpha" in header:
        return {"lora_alpha": header["ss_network_alpha"]}
    return None


def _alpha(settings: Mapping[str, Any], module: str, pair: LoRAPair, where: str) -> float:
    """Return the alpha that PEFT's settings give a module, checked against its rank."""
    if settings.get("use_dora"):
        raise InputError(f"{where}: a DoRA, not a plain LoRA; merge it with the program that made it")
    rank = _for_module(settings.get("rank_pattern"), module, settings.get("r", pair.rank), where)
    alpha = _for_module(settings.get("alpha_pattern"), module, settings["lora_alpha"], where)
    if rank != pair.rank:
        raise InputError(f"{where}: says rank {rank:g} for {module}, the matrices have {pair.rank}")
    return alpha * math.sqrt(rank) if settings.get("use_rslora") else alpha


def _for_module(patterns: Any, module: str, default: Any, where: str) -> float:
    """Look a module up in PEFT's patterns, as plain names or ends of names: no pattern of a file is run."""
    value = default
    for pattern, own in patterns.items() if isinstance(patterns, dict) else ():
        plain = pattern.replace("\\.", ".")
        if module == plain.removeprefix("^") or (not plain.startswith("^") and module.endswith(f".{plain}")):
            value = own
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {quoted(str(value))} is not a number") from error
    if not math.isfinite(number) or abs(number) > 1e6:
        raise InputError(f"{where}: {number} is out of bounds")
    return number


def _strength_warning(name: str) -> str:
    stem = Path(name).name
    return (
        f"{name} does not say its alpha: taken as alpha = rank (strength 1). If the official trainer made it, "
        f"with its default alpha = rank/2, its own strength is 0.5: --lora {stem}:0.5"
    )


def _sat_pairs(weights: Weights, name: str) -> dict[str, LoRAPair]:
    """Return the pairs of a SAT file; alpha is 1 there whatever the rank."""
    halves: dict[str, dict[str, Tensor]] = {}
    for key, stored in weights.items():
        match = _SAT.fullmatch(key)
        if match is None:
            continue  # the base weights, which such a file repeats
        layer, part, letter, number = match.groups()
        if (part, number) not in SAT_MODULES:
            raise InputError(f"{name}: unknown part of a SAT LoRA: {quoted(key)}")
        module = f"transformer_blocks.{layer}.{SAT_MODULES[part, number]}"
        halves.setdefault(module, {})["down" if letter == "A" else "up"] = _matrix(stored, key, name)
    return {module: replace(_pair(module, parts, name), alpha=1.0) for module, parts in halves.items()}
