"""What `--model` can name: embedded and official models, folders, repositories; and what each does by default."""

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cogvx.errors import InputError, MissingError, UsageError
from cogvx.hub import snapshot

Task = Literal["t2v", "i2v"]
Scheduler = Literal["ddim", "dpm"]
DynamicGuidance = Literal["off", "official", "smooth"]

EMBEDDED = Path(__file__).parent / "embedded"
COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
_APACHE, _CUSTOM = "Apache-2.0", "CogVideoX License (commercial use needs registration)"
# A table of positions of this size says nothing about the frames that the 1.5 models were made for.
_ROPE_TABLE = (300, 300)
_SIZE_OF_1_5 = (768, 1360)


@dataclass(frozen=True)
class Defaults:
    """What a model does when it is not told otherwise.

    Attributes:
        task: Text to video, or image to video.
        height: Pixels.
        width: Pixels.
        num_frames: Frames of a clip.
        fps: Frames a second that the model was trained for.
        num_steps: Denoising steps.
        guidance_scale: Classifier-free guidance.
        scheduler: Sampler that the authors advise.
        dynamic_guidance: How guidance changes over the steps.
        dtype: Precision that the weights were trained in.
    """

    task: Task
    height: int
    width: int
    num_frames: int
    fps: float
    num_steps: int = 50
    guidance_scale: float = 6.0
    scheduler: Scheduler = "dpm"
    dynamic_guidance: DynamicGuidance = "official"
    dtype: Literal["fp16", "bf16", "fp32"] = "bf16"


@dataclass(frozen=True)
class Preset:
    """A model that has a name of its own here.

    Attributes:
        name: What `--model` takes.
        repo: Repository id; None for an embedded model.
        old_repo: The id that it had before the repositories moved.
        licence: Of the weights.
        defaults: Native sizes and advice (None: read from the embedded folder).
        transformer_parameters: Count, without buffers.
        download_bytes: What the needed files take on disk, about.
        note: One line.
    """

    name: str
    repo: str | None
    licence: str
    task: Task
    defaults: Defaults | None = None
    old_repo: str | None = None
    transformer_parameters: int | None = None
    download_bytes: int | None = None
    note: str = ""


def _official(
    name: str, repository: str, licence: str, defaults: Defaults, parameters: int, gigabytes: float
) -> Preset:
    return Preset(
        name=name,
        repo=f"zai-org/{repository}",
        old_repo=f"THUDM/{repository}",
        licence=licence,
        task=defaults.task,
        defaults=defaults,
        transformer_parameters=parameters,
        download_bytes=int(gigabytes * 1e9),
    )


# Source: the model cards and configurations of the released checkpoints; sizes on disk at two bytes a weight
# (transformer, T5-v1.1-XXL encoder of 4.76e9 weights) and the VAE of 0.216e9.
_V1_0 = Defaults(task="t2v", height=480, width=720, num_frames=49, fps=8)
_V1_5 = Defaults(task="t2v", height=768, width=1360, num_frames=81, fps=16)
PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("tiny", None, _APACHE, "t2v", note="embedded: simple drawn scenes, on any CPU"),
        Preset("tiny-i2v", None, _APACHE, "i2v", note="embedded: simple drawn scenes from a first frame, on any CPU"),
        _official(
            "2b",
            "CogVideoX-2b",
            _APACHE,
            replace(_V1_0, scheduler="ddim", dynamic_guidance="off", dtype="fp16"),
            1_693_783_872,
            13.8,
        ),
        _official("5b", "CogVideoX-5b", _CUSTOM, _V1_0, 5_570_283_072, 21.5),
        _official("5b-i2v", "CogVideoX-5b-I2V", _CUSTOM, replace(_V1_0, task="i2v"), 5_570_479_680, 21.6),
        _official("1.5-5b", "CogVideoX1.5-5B", _CUSTOM, _V1_5, 5_570_676_352, 21.5),
        _official("1.5-5b-i2v", "CogVideoX1.5-5B-I2V", _CUSTOM, replace(_V1_5, task="i2v"), 5_571_594_880, 21.5),
    )
}


@dataclass(frozen=True)
class ResolvedModel:
    """Where a model lies.

    Attributes:
        name: What to call it in a record: a preset's name, a repository id, or a folder's own name; never a path.
        path: Its folder.
        preset: The preset, if it was named.
        shared: Components that lie outside the folder (the embedded models share theirs).
    """

    name: str
    path: Path
    preset: Preset | None = None
    shared: Mapping[str, Path] = field(default_factory=dict)


def resolve(model: str | Path, *, announce: Callable[[str], None] = lambda text: None) -> ResolvedModel:
    """Find the folder of a model, downloading it if it is nowhere on this machine.

    Args:
        model: A preset's name, a folder, or a repository id of the Hugging Face hub.
        announce: Called with a line before a download starts.

    Raises:
        UsageError: There is no model of that name.
        InputError: The folder is not there.
        MissingError: The model is not on this machine, and cannot be downloaded now.
    """
    name = str(model)
    preset = PRESETS.get(name.lower()) or _preset_of(name)
    if preset is not None and preset.repo is None:
        return _embedded(preset)
    folder = Path(name).expanduser()
    if preset is None and folder.is_dir():
        return ResolvedModel(name=folder.resolve().name, path=folder)
    if preset is None and not _is_repo(name):
        raise _unknown(name, folder)
    repos = [preset.repo, preset.old_repo] if preset is not None else [name]
    path = _find_or_download([repo for repo in repos if repo], preset, announce)
    return ResolvedModel(name=preset.name if preset else name, path=path, preset=preset)


def read_defaults(configs: Mapping[str, Mapping[str, Any]]) -> Defaults:
    """Derive what a model does by default from its own configuration files, whatever its folder is called.

    Args:
        configs: "transformer", "vae" and "scheduler" (the content of their configuration files) and "model_index",
            whose optional key "_cogvx" may set any field of Defaults.

    Raises:
        InputError: "_cogvx" has a key that is no default.
    """
    transformer, vae = configs.get("transformer", {}), configs.get("vae", {})
    ratio = 2 ** (len(vae.get("block_out_channels", (0,) * 4)) - 1)
    sample = (transformer.get("sample_height", 60), transformer.get("sample_width", 90))
    with_time_patches = transformer.get("patch_size_t") is not None
    height, width = (
        _SIZE_OF_1_5 if with_time_patches and sample == _ROPE_TABLE else (sample[0] * ratio, sample[1] * ratio)
    )
    rotary = transformer.get("use_rotary_positional_embeddings", False)
    defaults = Defaults(
        task="i2v" if transformer.get("in_channels", 16) > transformer.get("out_channels", 16) else "t2v",
        height=height,
        width=width,
        num_frames=transformer.get("sample_frames", 49),
        fps=16 if with_time_patches else 8,
        scheduler="dpm" if rotary else "ddim",
        dynamic_guidance="official" if rotary else "off",
        dtype="bf16" if rotary else "fp16",
    )
    own = configs.get("model_index", {}).get("_cogvx", {})
    unknown = set(own) - set(Defaults.__dataclass_fields__)
    if unknown:
        raise InputError(f"model_index.json: _cogvx has unknown keys {sorted(unknown)}")
    return replace(defaults, **own)


def is_name(model: str) -> bool:
    """Tell whether a text names a model without a folder: a preset, or a repository id."""
    return model.lower() in PRESETS or _is_repo(model)


def cached_path(preset: Preset) -> Path | None:
    """Return the folder of an official model in the Hugging Face cache if all of it is there; uses no network."""
    for repo in (preset.repo, preset.old_repo):
        found = _snapshot(repo, local=True) if repo else None
        if found is not None and is_complete(found):
            return found
    return None


def fetch_command(model: str) -> str:
    """The command that brings a model onto this machine."""
    return f"cogvx models pull {model}"


def _preset_of(name: str) -> Preset | None:
    """The preset whose repository is called so."""
    return next((p for p in PRESETS.values() if name.lower() in {str(p.repo).lower(), str(p.old_repo).lower()}), None)


def _is_repo(name: str) -> bool:
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None and not name.startswith(".")


def _unknown(name: str, folder: Path) -> UsageError | InputError:
    if folder.exists():
        return InputError(f"{name} is a file; --model takes the folder of a model")
    if "/" in name or "\\" in name or name.startswith((".", "~")):
        return InputError(f"no such folder: {name}")
    near = difflib.get_close_matches(name.lower(), PRESETS, n=3, cutoff=0.4)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"known: {', '.join(PRESETS)}; or a folder, or owner/repository"
    )
    return UsageError(f"no such model: {name}; {hint}")


def _embedded(preset: Preset) -> ResolvedModel:
    path = EMBEDDED / preset.name
    if not (path / "model_index.json").is_file():
        raise MissingError(
            f"this build of cogvx has no embedded model {preset.name}; "
            "name another with --model (see `cogvx models list`)"
        )
    tiny = EMBEDDED / "tiny"
    shared = {name: tiny / name for name in COMPONENTS if not (path / name).is_dir() and (tiny / name).is_dir()}
    return ResolvedModel(name=preset.name, path=path, preset=preset, shared=shared)


def _find_or_download(repos: list[str], preset: Preset | None, announce: Callable[[str], None]) -> Path:
    """Return the folder of a repository in the Hugging Face cache; the first id is the one to download."""
    for repo in repos:
        found = _snapshot(repo, local=True)
        if found is not None and is_complete(found):
            return found
    name = preset.name if preset else repos[0]
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise MissingError(
            f"{name} ({repos[0]}) is not on this machine and HF_HUB_OFFLINE is set; "
            f"with a network, run `{fetch_command(name)}`"
        )
    size = f", {preset.download_bytes / 1e9:.0f} GB" if preset and preset.download_bytes else ""
    licence = f"; licence: {preset.licence}" if preset else "; its licence is in its repository"
    announce(f"downloading {repos[0]}{size}{licence}")
    path = _snapshot(repos[0], local=False, needed=preset.download_bytes if preset else None, name=name)
    if path is None or not is_complete(path):
        raise InputError(f"{repos[0]} is not a CogVideoX model in the diffusers layout with safetensors weights")
    return path


def is_complete(folder: Path) -> bool:
    """Tell whether a folder in the diffusers layout has every part that its index names."""
    try:
        index = json.loads((folder / "model_index.json").read_text())
        for name in COMPONENTS:
            if isinstance(index.get(name), list) and index[name][0] is not None and not _has_component(folder / name):
                return False
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _has_component(folder: Path) -> bool:
    if folder.name in ("scheduler", "tokenizer"):
        return folder.is_dir() and any(folder.iterdir())
    indexes = list(folder.glob("*.safetensors.index.json"))
    if indexes:
        shards = set(json.loads(indexes[0].read_text())["weight_map"].values())
        return all((folder / Path(shard).name).is_file() for shard in shards)
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _snapshot(repo: str, *, local: bool, needed: int | None = None, name: str = "") -> Path | None:
    """Return the folder of a repository's newest snapshot; with `local`, None when the cache has none."""
    from huggingface_hub import constants

    from cogvx.files import free_bytes

    patterns = [f"{part}/{kind}" for part in COMPONENTS for kind in ("*.json", "*.safetensors", "*.model")]
    free = free_bytes(constants.HF_HUB_CACHE)
    if needed is not None and free < needed:
        raise MissingError(
            f"{repo} needs {needed / 1e9:.0f} GB on disk, {free / 1e9:.0f} GB are free at the cache; "
            "set HF_HOME to a larger disk"
        )
    command = fetch_command(name or repo)
    return snapshot(repo, patterns=["model_index.json", *patterns], local=local, command=command)
