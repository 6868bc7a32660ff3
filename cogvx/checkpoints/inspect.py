"""What a file or folder is and how it was made: clips, latents, checkpoints, LoRAs, manifests, results."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from cogvx.checkpoints import sat
from cogvx.checkpoints.diffusers import open_model
from cogvx.checkpoints.hashes import weights_sha256
from cogvx.checkpoints.infer import form_of, infer_transformer, infer_vae
from cogvx.checkpoints.lora import LoRA, find_lora, is_lora, read_lora
from cogvx.checkpoints.pickles import open_pickle
from cogvx.checkpoints.sat_folder import is_sat
from cogvx.checkpoints.weights import (
    StoredTensor,
    Weights,
    looks_like_pickle,
    open_safetensors,
    open_weights,
    read_json,
    regular_size,
    shown,
    weight_files,
)
from cogvx.errors import CogvxError, InputError, RefusedError

Report = dict[str, Any]
_MAX_NAMES = 8


def describe(path: Path, *, allow_pickle: bool = False, hashed: bool = True) -> Report:
    """Tell what a path is. The first two keys are "path" and "kind".

    Args:
        path: Any file or folder.
        allow_pickle: Look into pickles, weights only.
        hashed: Include sha256 hashes, for which everything has to be read.

    Raises:
        InputError: It is nothing that cogvx knows, or it is damaged.
        RefusedError: It is a pickle and pickles are not allowed.
    """
    if not path.exists():
        raise InputError(f"{shown(path)}: no such file or folder")
    report = _folder(path, allow_pickle, hashed) if path.is_dir() else _file(path, allow_pickle, hashed)
    return {"path": str(path), **report}


def _file(path: Path, allow_pickle: bool, hashed: bool) -> Report:
    size = regular_size(path)
    report: Report
    if looks_like_pickle(path):
        if not allow_pickle:
            raise RefusedError(
                f"{shown(path)}: a pickle, not opened; --allow-pickle reads its weights, and nothing else"
            )
        weights = open_pickle(path, allow_pickle=True)
        report = {**_tensors(weights, {}, path), "container": "pickle"}
    elif path.suffix == ".safetensors" or _starts_like_safetensors(path, size):
        opened = open_safetensors(path)
        report = _tensors(opened.tensors, opened.metadata, path)
    elif path.suffix == ".jsonl":
        report = _lines(path)
    elif path.suffix in (".json", ".toml"):
        report = _document(path)
    else:
        report = _clip(path)
    report["bytes"] = size
    if hashed:
        report["sha256"] = weights_sha256(path)
    return report


def _folder(path: Path, allow_pickle: bool, hashed: bool) -> Report:
    names = {entry.name for entry in path.iterdir()}
    if "recipe.toml" in names or any(name.startswith("checkpoint-") for name in names):
        return _run(path, names)
    if names & {"model_index.json", "transformer", "vae"} or is_sat(path):
        return _model(path, allow_pickle, hashed)
    if names & {"pytorch_lora_weights.safetensors", "adapter_model.safetensors"}:
        return _file(find_lora(path), allow_pickle, hashed)
    if "config.json" in names and weight_files(path):
        return _component(path, allow_pickle, hashed)
    if any(name.lower().endswith((".png", ".jpg", ".jpeg")) for name in names):
        return _clip(path)
    raise InputError(f"{shown(path)}: a folder that holds no model, LoRA, training run or frames")


def _model(path: Path, allow_pickle: bool, hashed: bool) -> Report:
    model = open_model(path, allow_pickle=allow_pickle)
    report: Report = {"kind": "model", "layout": model.layout, "pipeline": model.class_name}
    if "transformer" in model.configs:
        report["like"] = form_of(model.configs["transformer"])
    parts: Report = {}
    for name in model.components:
        parts[name] = _counts(model.weights(name)) if name in model.readers else {}
        if name in model.readers and hashed:
            parts[name]["sha256"] = model.weights_sha256(name)
        config = model.configs.get(name, {})
        if name == "tokenizer":  # the rest is a list of a hundred words
            config = {key: config[key] for key in ("tokenizer_class", "model_max_length") if key in config}
        parts[name]["config"] = config
    return {**report, "components": parts}


def _component(path: Path, allow_pickle: bool, hashed: bool) -> Report:
    config = read_json(path / "config.json")
    weights = open_weights(path, stem="diffusion_pytorch_model", allow_pickle=allow_pickle)
    report: Report = {"kind": "component", **_counts(weights)}
    report["class"] = config.get("_class_name") or ", ".join(config.get("architectures") or [])
    report["config"] = config
    if hashed:
        report["sha256"] = weights_sha256(path)
    return report


def _tensors(weights: Weights, header: Mapping[str, str], path: Path) -> Report:
    """Tell what tensors are by their names and shapes."""
    own = header.get("format", "")
    if own.startswith("cogvx.latents/") and "latents" in weights:
        return {"kind": "latents", **_one(weights["latents"], "c t h w"), **header}
    if own.startswith("cogvx.text/") and "text_embeds" in weights:
        return {"kind": "text embeddings", **_one(weights["text_embeds"], "l d"), **header}
    if set(weights) == {"encoded_video"}:
        return {
            "kind": "latents",
            "format": "cache of the official trainer",
            **_one(weights["encoded_video"], "c t h w"),
        }
    if set(weights) == {"prompt_embedding"}:
        stored = weights["prompt_embedding"]
        return {"kind": "text embeddings", "format": "cache of the official trainer", **_one(stored, "l d")}
    if is_lora(weights):
        return _lora(read_lora(path, allow_pickle=True), header)
    report = {"kind": "weights", **_what_weights(weights), **_counts(weights)}
    if header:
        report["header"] = {key: value[:300] for key, value in header.items()}
    if report["of"] == "unknown":
        report["names"] = [*sorted(weights)[:_MAX_NAMES]]
    return report


def _what_weights(weights: Weights) -> Report:
    try:
        if sat.is_sat_vae(weights):
            return {"of": "vae", "layout": "sat", "config": infer_vae(sat.vae_from_sat(weights)).to_dict()}
        if sat.is_sat_transformer(weights):
            table = weights.get(sat.PREFIX + sat.POSITIONS)
            fixed = table is not None and sat.is_fixed_table(table)
            config = infer_transformer(sat.transformer_from_sat(weights), rotary=not fixed).to_dict()
            return {"of": "transformer", "layout": "sat", "like": form_of(config), "config": config}
        if "encoder.conv_in.conv.weight" in weights:
            return {"of": "vae", "layout": "diffusers", "config": infer_vae(weights).to_dict()}
        if "patch_embed.text_proj.weight" in weights:
            config = infer_transformer(weights).to_dict()
            return {"of": "transformer", "layout": "diffusers", "like": form_of(config), "config": config}
        if "encoder.block.0.layer.0.SelfAttention.q.weight" in weights:
            return {"of": "text_encoder", "layout": "transformers"}
    except InputError as error:
        return {"of": "unknown", "note": str(error)}
    return {"of": "unknown"}


def _lora(lora: LoRA, header: Mapping[str, str]) -> Report:
    ranks = Counter(pair.rank for pair in lora.pairs.values())
    scales = Counter(round(pair.scale, 6) for pair in lora.pairs.values())
    places = Counter(re.sub(r"^transformer_blocks\.\d+\.", "", name) for name in lora.pairs)
    return {
        "kind": "lora",
        "format": lora.format,
        "rank": _one_or_all(ranks),
        "alpha": _one_or_all(Counter(pair.alpha for pair in lora.pairs.values())),
        "strength": _one_or_all(scales),
        "alpha_from": lora.alpha_source,
        "layers": len(lora.pairs),
        "modules": dict(places.most_common(_MAX_NAMES)),
        "parameters": sum(pair.down.numel() + pair.up.numel() for pair in lora.pairs.values()),
        "warnings": list(lora.warnings),
        "header": sorted(header),
    }


def _clip(path: Path) -> Report:
    from cogvx.data.video import probe

    try:
        info = probe(path)
    except RefusedError:
        raise
    except CogvxError as error:
        raise InputError(
            f"{shown(path)}: nothing that cogvx knows: no clip ({error}), no checkpoint, no manifest"
        ) from error
    report: Report = {"kind": "clip", **info.to_dict()}
    tags = report.pop("metadata", {})
    comment = info.comment
    if comment:
        report["made_by"] = _json_or_text(comment)
        tags = {key: value for key, value in tags.items() if key != "comment"}
    return {**report, "tags": tags}


def _lines(path: Path) -> Report:
    from cogvx.data.manifest import iter_manifest

    keys: Counter[str] = Counter()
    count, bad = 0, []
    for _, entry in iter_manifest(path, torn=True, on_error=lambda error: bad.append(str(error))):
        count += 1
        keys.update(entry.keys())
    if not count:
        raise InputError(f"{shown(path)}: no entry in it{': ' + bad[0] if bad else ''}")
    kind = "manifest" if keys.keys() & {"video", "image", "latents", "caption"} else "records"
    return {"kind": kind, "entries": count, "fields": dict(keys.most_common(40)), "bad_lines": bad[:_MAX_NAMES]}


def _document(path: Path) -> Report:
    if path.suffix == ".toml":
        import tomllib

        try:
            content = tomllib.loads(path.read_bytes().decode())
        except ValueError as error:
            raise InputError(f"{shown(path)}: not TOML: {error}") from error
        if "project" in content or "tool" in content:
            raise InputError(f"{shown(path)}: TOML that is no recipe")
        return {"kind": "recipe", "content": content}
    content = read_json(path)
    if "metric" in content and "value" in content:
        return {"kind": "result", **{key: value for key, value in content.items() if key != "per_video"}}
    if "weight_map" in content:
        places = content["weight_map"] if isinstance(content["weight_map"], dict) else {}
        return {"kind": "index of shards", "tensors": len(places), "shards": sorted(set(map(str, places.values())))}
    if "_class_name" in content:
        return {"kind": "config", "class": content["_class_name"], "content": content}
    raise InputError(f"{shown(path)}: JSON that is no result, index or config of a model")


def _run(path: Path, names: set[str]) -> Report:
    checkpoints = sorted(name for name in names if name.startswith("checkpoint-"))
    report: Report = {"kind": "training run", "checkpoints": checkpoints, "has_model": "model" in names}
    if "recipe.toml" in names:
        report["recipe"] = _document(path / "recipe.toml")["content"]
    return report


def _one(stored: StoredTensor, axes: str) -> Report:
    return {"shape": list(stored.shape), "axes": axes, "dtype": _dtype_name(stored)}


def _counts(weights: Weights) -> Report:
    dtypes = Counter(_dtype_name(stored) for stored in weights.values())
    return {
        "parameters": sum(prod(stored.shape) for stored in weights.values()),
        "tensors": len(weights),
        "dtype": _one_or_all(dtypes),
        "bytes": sum(stored.num_bytes for stored in weights.values()),
    }


def _dtype_name(stored: StoredTensor) -> str:
    return str(stored.dtype).removeprefix("torch.")


def _one_or_all(values: Counter[Any]) -> Any:
    """Return the only value, or how often each occurs."""
    return next(iter(values)) if len(values) == 1 else {str(key): count for key, count in values.most_common()}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _starts_like_safetensors(path: Path, size: int) -> bool:
    with open(path, "rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= size - 8
