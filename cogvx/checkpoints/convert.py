"""Checkpoints from one layout to another: planned first, then written whole or not at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cogvx.checkpoints import sat
from cogvx.checkpoints.diffusers import model_index, open_model
from cogvx.checkpoints.lora import LAYOUTS, LoRA, find_lora, is_lora, lora_tensors, merge_into, read_lora, save_lora
from cogvx.checkpoints.model_folder import WEIGHTED, ModelFolder
from cogvx.checkpoints.pickles import write_pickle
from cogvx.checkpoints.sat_folder import CONFIG_FILE, TEXT_FOLDER, TRANSFORMER_FILE, VAE_FILE, is_sat, open_any
from cogvx.checkpoints.saving import (
    DEFAULT_SHARD_BYTES,
    DIFFUSERS_STEM,
    TRANSFORMERS_STEM,
    plan_shards,
    write_component,
    write_json,
)
from cogvx.checkpoints.tokenizer import copy_tokenizer, tokenizer_files
from cogvx.checkpoints.weights import StoredTensor, shown
from cogvx.errors import InputError, MissingError, UsageError
from cogvx.files import atomic_path, free_bytes

MODEL_LAYOUTS = ("diffusers", "sat")
_T5_ALIAS = "encoder.embed_tokens.weight"

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How to convert.

    Attributes:
        to: Layout of the result (default: diffusers).
        merge: LoRA files and their weights, added to the transformer.
        dtype: Type of the floating-point weights (default: as they are).
        max_shard_bytes: Size at which the next file of a part begins.
        allow_pickle: Read pickles, weights only.
        alpha: Alpha of a LoRA whose file does not tell it.
        shared: Parts that are taken from elsewhere if the source lacks them.
    """

    to: str | None = None
    merge: Sequence[tuple[Path, float]] = ()
    dtype: torch.dtype | None = None
    max_shard_bytes: int = DEFAULT_SHARD_BYTES
    allow_pickle: bool = False
    alpha: float | None = None
    shared: Mapping[str, Path] | None = None


@dataclass(frozen=True)
class Plan:
    """What a conversion will write.

    Attributes:
        kind: "model" or "lora".
        source_layout: Layout that was found.
        to: Layout that will be written.
        files: Path in the result -> its size in bytes, nearly.
        warnings: What the user should know first.
    """

    kind: str
    source_layout: str
    to: str
    files: dict[str, int]
    warnings: list[str]
    _write: Callable[[Path, bool, Report], None]

    @property
    def num_bytes(self) -> int:
        """Size of the result."""
        return sum(self.files.values())

    def write(self, target: Path, *, overwrite: bool = False, report: Report = lambda stage, done, total: None) -> None:
        """Write the result, whole or not at all.

        Raises:
            UsageError: The target exists and overwrite is false, or it is something that cogvx did not make.
            MissingError: The disk is too small.
            InputError: The source turns out to be damaged.
        """
        if overwrite and target.is_dir() and not _is_ours(target):
            raise UsageError(f"{shown(target)} is a folder that holds no model; it is not replaced")
        if free_bytes(target) < self.num_bytes:
            free = free_bytes(target)
            raise MissingError(f"{shown(target)} needs {self.num_bytes:,} bytes, {free:,} are free on that disk")
        self._write(target, overwrite, report)


def plan_conversion(source: Path, options: ConvertOptions) -> Plan:
    """Read what a source is, and plan its conversion. Nothing is written.

    Args:
        source: A model in the diffusers or SAT layout, one file of weights, or a LoRA of any origin.
        options: What to make of it.

    Raises:
        UsageError: The options do not fit the source.
        InputError: The source cannot be used.
        RefusedError: The source is a pickle and pickles are not allowed.
    """
    if not source.exists():
        raise InputError(f"{shown(source)}: no such file or folder")
    if _is_lora_source(source, options.allow_pickle):
        return _plan_lora(source, options)
    to = options.to or "diffusers"
    if to not in MODEL_LAYOUTS:
        raise UsageError(f"no such layout of a model: {to}; known: {', '.join(MODEL_LAYOUTS)}")
    if options.alpha is not None:
        raise UsageError("--alpha is for LoRA files; a LoRA to be merged has its weight after its name, FILE:0.5")
    model = open_model(source, shared=options.shared, allow_pickle=options.allow_pickle)
    parts, warnings = _parts(model, options)
    if "text_encoder" not in parts:
        warnings.append("the source has no text encoder: the result is incomplete until one is put beside it")
    if to == "sat":
        return _plan_sat(model, parts, warnings)
    return _plan_diffusers(model, parts, warnings, options.max_shard_bytes)


def _is_lora_source(source: Path, allow_pickle: bool) -> bool:
    if source.is_file():
        return is_lora(open_any(source, allow_pickle=allow_pickle))
    if (source / "model_index.json").exists() or (source / "vae").is_dir():
        return False
    if (source / "latest").is_file() or (source / "transformer" / "latest").is_file():
        folder = source if (source / "latest").is_file() else source / "transformer"
        return is_lora(open_any(find_lora(folder), allow_pickle=allow_pickle))
    return not (source / "transformer").is_dir() and not is_sat(source) and _has_lora(source)


def _has_lora(folder: Path) -> bool:
    try:
        find_lora(folder)
    except InputError:
        return False
    return True


def _parts(model: ModelFolder, options: ConvertOptions) -> tuple[dict[str, dict[str, StoredTensor]], list[str]]:
    """Open the weights of every part, with LoRAs added and cast as they will be read."""
    parts: dict[str, dict[str, StoredTensor]] = {}
    warnings: list[str] = []
    for name in WEIGHTED:
        if name not in model.readers:
            continue
        weights = dict(model.weights(name))
        if name == "text_encoder":
            weights = _encoder_only(weights)
        if name == "transformer":
            for path, weight in options.merge:
                weights, more = merge_into(weights, read_lora(path, allow_pickle=options.allow_pickle), weight)
                warnings += more
        model.check(name)
        parts[name] = {key: stored.cast(options.dtype) for key, stored in weights.items()}
    if options.merge and "transformer" not in parts:
        raise UsageError("there is no transformer in the source to merge a LoRA into")
    return parts, warnings


def _encoder_only(weights: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Drop what a file of the whole T5 has besides, and the second name of its table of words."""
    kept = {key: stored for key, stored in weights.items() if key.startswith(("encoder.", "shared."))}
    if "shared.weight" in kept:
        kept.pop(_T5_ALIAS, None)
    return kept


def _plan_diffusers(
    model: ModelFolder, parts: dict[str, dict[str, StoredTensor]], warnings: list[str], max_shard_bytes: int
) -> Plan:
    names = [*parts, *(name for name in ("tokenizer", "scheduler") if name in model.components)]
    files: dict[str, int] = {}
    for name, weights in parts.items():
        for file, keys in plan_shards(weights, stem=_stem(name), max_shard_bytes=max_shard_bytes).items():
            files[f"{name}/{file}"] = sum(weights[key].num_bytes for key in keys)
        files[f"{name}/config.json"] = 1000
    documents: dict[str, Mapping[str, Any]] = {}
    if "scheduler" in names:
        documents["scheduler/scheduler_config.json"] = model.configs["scheduler"]
    if "transformer" in parts:
        documents["model_index.json"] = model_index(
            model.class_name, dict.fromkeys(names), old=model.configs.get("model_index")
        )
    files.update(dict.fromkeys(documents, 1000))
    tokenizer = tokenizer_files(model)
    files.update({f"tokenizer/{path.name}": path.stat().st_size for path in tokenizer})

    def write(target: Path, overwrite: bool, report: Report) -> None:
        with atomic_path(target, overwrite=overwrite) as folder:
            folder.mkdir()
            for done, (name, weights) in enumerate(parts.items()):
                report(name, done, len(parts))
                config = model.configs[name]
                write_component(weights, config, folder / name, stem=_stem(name), max_shard_bytes=max_shard_bytes)
            for place, document in documents.items():
                (folder / place).parent.mkdir(exist_ok=True)
                write_json(folder / place, document)
            copy_tokenizer(model, folder / "tokenizer")

    return Plan("model", model.layout, "diffusers", files, warnings, write)


def _plan_sat(model: ModelFolder, parts: dict[str, dict[str, StoredTensor]], warnings: list[str]) -> Plan:
    transformer = f"transformer/1/{TRANSFORMER_FILE}"
    pickles: dict[str, tuple[str, Mapping[str, StoredTensor]]] = {}
    if "transformer" in parts:
        pickles[transformer] = "module", sat.transformer_to_sat(parts["transformer"], model.transformer_config)
    if "vae" in parts:
        pickles[f"vae/{VAE_FILE}"] = "state_dict", sat.vae_to_sat(parts["vae"])
    files = {place: sum(stored.num_bytes for stored in weights.values()) for place, (_, weights) in pickles.items()}
    configs = {
        name: model.configs[name]
        for name in ("model_index", "transformer", "vae", "scheduler")
        if model.configs.get(name)
    }
    files[CONFIG_FILE] = 4000
    text = parts.get("text_encoder", {})
    if text:
        files[f"{TEXT_FOLDER}/model.safetensors"] = sum(stored.num_bytes for stored in text.values())
    tokenizer = tokenizer_files(model)
    files.update({f"{TEXT_FOLDER}/{path.name}": path.stat().st_size for path in tokenizer})

    def write(target: Path, overwrite: bool, report: Report) -> None:
        with atomic_path(target, overwrite=overwrite) as folder:
            folder.mkdir()
            for done, (place, (key, weights)) in enumerate(pickles.items()):
                report(place, done, len(pickles))
                (folder / place).parent.mkdir(parents=True)
                # SAT's loader wants a pickle; plain tensors in plain dictionaries, which weights_only reads.
                write_pickle({key: {name: stored.read() for name, stored in weights.items()}}, folder / place)
            if transformer in pickles:
                (folder / "transformer" / "latest").write_text("1")
            write_json(folder / CONFIG_FILE, configs)
            if text:
                write_component(text, model.configs["text_encoder"], folder / TEXT_FOLDER, stem=TRANSFORMERS_STEM)
            copy_tokenizer(model, folder / TEXT_FOLDER)

    return Plan("model", model.layout, "sat", files, warnings, write)


def _plan_lora(source: Path, options: ConvertOptions) -> Plan:
    to = options.to or "diffusers"
    if to not in LAYOUTS:
        raise UsageError(f"no such layout of a LoRA: {to}; known: {', '.join(LAYOUTS)}")
    if options.merge:
        raise UsageError(f"{shown(source)} is a LoRA; --merge-lora adds one to a model")
    folder = source / "transformer" if (source / "transformer" / "latest").is_file() else source
    lora = read_lora(folder, allow_pickle=options.allow_pickle)
    warnings = list(lora.warnings)
    if options.alpha is not None:
        if lora.alpha_source != "absent":
            raise UsageError(
                f"{shown(source)} tells its alpha itself ({lora.alpha_source}); --alpha is for files that do not"
            )
        lora, warnings = lora.with_alpha(options.alpha), []
    if options.dtype is not None:
        lora = _cast(lora, options.dtype)
    tensors, _ = lora_tensors(lora, layout=to)
    files = {"pytorch_lora_weights.safetensors": sum(tensor.nbytes for tensor in tensors.values())}

    def write(target: Path, overwrite: bool, report: Report) -> None:
        save_lora(target, lora, layout=to, overwrite=overwrite)

    return Plan("lora", lora.format, to, files, warnings, write)


def _cast(lora: LoRA, dtype: torch.dtype) -> LoRA:
    pairs = {name: replace(pair, down=pair.down.to(dtype), up=pair.up.to(dtype)) for name, pair in lora.pairs.items()}
    return replace(lora, pairs=pairs)


def _stem(name: str) -> str:
    return TRANSFORMERS_STEM if name == "text_encoder" else DIFFUSERS_STEM


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder is empty or holds a model or a LoRA, so that it may be replaced by one."""
    known = ("model_index.json", CONFIG_FILE, "pytorch_lora_weights.safetensors", "transformer", "vae", "latest")
    return not any(folder.iterdir()) or any((folder / name).exists() for name in known)
