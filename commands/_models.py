"""What `cogvx models` prints."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from cogvx.errors import CogvxError
from cogvx.presets import EMBEDDED, PRESETS, Preset, ResolvedModel, cached_path, read_defaults, resolve

# Weights of every official model besides the transformer: T5-v1.1-XXL encoder, VAE.
_T5, _VAE = 4_762_310_656, 215_583_907


def describe_preset(preset: Preset) -> dict[str, Any]:
    """Return what is known of a named model without reading more than configuration files."""
    path = _path(preset)
    record: dict[str, Any] = {"name": preset.name, "task": preset.task, "repo": preset.repo, "licence": preset.licence}
    record |= {"note": preset.note or None, "path": str(path) if path else None}
    defaults = preset.defaults
    if defaults is None and path is not None:
        try:
            return record | _from_folder(resolve(preset.name))
        except CogvxError:
            return record | {"memory_bytes": None}
    if defaults is None:
        return record | {"memory_bytes": None}
    parameters = {"transformer": preset.transformer_parameters or 0, "text_encoder": _T5, "vae": _VAE}
    record |= asdict(defaults) | {"parameters": parameters, "download_bytes": preset.download_bytes}
    return record | {"memory_bytes": _official_memory(preset)}


def describe_model(model: str) -> dict[str, Any]:
    """Return what is known of any model; one that is not on this machine is described from its preset."""
    preset = PRESETS.get(model.lower()) or next((p for p in PRESETS.values() if model in (p.repo, p.old_repo)), None)
    if preset is not None and preset.repo is not None and _path(preset) is None:
        return describe_preset(preset)
    resolved = resolve(model)
    record: dict[str, Any] = {"name": resolved.name, "task": None, "repo": preset.repo if preset else None}
    record |= {"licence": preset.licence if preset else None, "note": preset.note or None if preset else None}
    return record | {"path": str(resolved.path)} | _from_folder(resolved)


def _path(preset: Preset) -> Path | None:
    if preset.repo is None:
        folder = EMBEDDED / preset.name
        return folder if (folder / "model_index.json").is_file() else None
    return cached_path(preset)


def _from_folder(resolved: ResolvedModel) -> dict[str, Any]:
    """Sizes, parameters and memory of a model whose configuration can be read."""
    import torch

    from cogvx.checkpoints.diffusers import open_model
    from cogvx.generate.estimate import count_parameters, estimate
    from cogvx.generate.options import GenerateOptions, Memory, Runtime

    folder = open_model(resolved.path, shared=dict(resolved.shared), allow_pickle=True)
    parameters = count_parameters(folder.configs)
    record: dict[str, Any] = {"layout": folder.layout, "parameters": parameters}
    if "transformer" not in folder.configs:
        return record | {"memory_bytes": None}
    defaults = read_defaults(folder.configs)
    options = GenerateOptions(prompt="", height=defaults.height, width=defaults.width, num_frames=defaults.num_frames)
    memory: dict[str, int] = {}
    for mode in get_args(Memory):
        run = Runtime(device=torch.device("cpu"), dtype=torch.float32, memory=mode)
        cost = estimate(
            options, run, parameters=parameters, vae=folder.vae_config, transformer=folder.transformer_config
        )
        memory[mode] = cost.peak_bytes
    return record | asdict(defaults) | {"memory_bytes": memory}


def _official_memory(preset: Preset) -> dict[str, int]:
    """Memory on a GPU, at two bytes a weight: weights, and activations of the transformer at the native size.

    Decoding in tiles needs less than denoising for all of them.
    """
    from cogvx.generate.estimate import TOKEN_COPIES

    defaults = preset.defaults
    assert defaults is not None and preset.transformer_parameters is not None
    time_patch = 2 if defaults.fps == 16 else 1
    latents = (defaults.num_frames - 1) // 4 + 1
    tokens = 226 + -(-latents // time_patch) * (defaults.height // 16) * (defaults.width // 16)
    width, layers = (1920, 30) if preset.name == "2b" else (3072, 42)
    activations = 2 * tokens * width * 2 * TOKEN_COPIES
    transformer = 2 * preset.transformer_parameters
    return {
        "none": 2 * (_T5 + _VAE) + transformer + activations,
        "model": max(2 * _T5, transformer + activations),
        "layer": max(2 * _T5 // 12, 2 * transformer // layers + activations),
    }
