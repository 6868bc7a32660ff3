"""Models in the layout of the official SAT code, and single files of weights."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cogvx.checkpoints import sat
from cogvx.checkpoints.infer import SCALING_2B, SCALING_5B, infer_transformer, infer_vae, scheduler_config
from cogvx.checkpoints.model_folder import ModelFolder, pipeline_class
from cogvx.checkpoints.pickles import open_pickle
from cogvx.checkpoints.weights import (
    PICKLE_SUFFIXES,
    StoredTensor,
    Weights,
    first_few,
    looks_like_pickle,
    open_safetensors,
    open_weights,
    read_json,
    regular_size,
    shown,
)
from cogvx.errors import InputError

TRANSFORMER_FILE, VAE_FILE, TEXT_FOLDER = "mp_rank_00_model_states.pt", "3d-vae.pt", "t5-v1_1-xxl"
CONFIG_FILE = "cogvx.json"  # SAT keeps its configs with the code; files that cogvx writes carry theirs here


def is_sat(path: Path) -> bool:
    """Tell whether a path is a SAT folder, one of its transformer folders, or a single file of weights."""
    if path.is_file():
        return path.suffix in (".safetensors", *PICKLE_SUFFIXES)
    return _transformer_folder(path) is not None or (path / "vae" / VAE_FILE).is_file()


def open_sat(path: Path, *, shared: Mapping[str, Path] | None = None, allow_pickle: bool = False) -> ModelFolder:
    """Open a model in the SAT layout, or one file with the weights of a transformer or a VAE.

    The configs are derived from the tensors, unless cogvx wrote the folder and left them there. The official layout
    holds pickles, so this needs allow_pickle.

    Raises:
        InputError: The files are damaged, or are of another model.
        RefusedError: A pickle has to be opened and pickles are not allowed.
    """
    opened = _open_parts(path, allow_pickle)
    own = read_json(path / CONFIG_FILE) if (path / CONFIG_FILE).is_file() else {}
    configs: dict[str, dict[str, Any]] = {"model_index": {}}
    configs.update({name: value for name, value in own.items() if isinstance(value, dict)})
    components = {name: place for name, (place, _) in opened.items()}
    readers: dict[str, Callable[[], Weights]] = {}
    like_2b = False
    if "transformer" in opened:
        place, raw = opened["transformer"]
        weights, rotary, text_length = _transformer(raw, configs.get("transformer"))
        if "transformer" not in configs:
            inferred = infer_transformer(weights, rotary=rotary, text_length=text_length or 226)
            configs["transformer"] = inferred.to_dict()
            like_2b = not inferred.rotary
        readers["transformer"] = lambda: weights
    if "vae" in opened:
        vae = _vae(opened["vae"][1])
        scaling = SCALING_2B if like_2b or "transformer" not in opened else SCALING_5B
        inverted = configs.get("transformer", {}).get("patch_size_t") is not None
        if "vae" not in configs:
            configs["vae"] = infer_vae(vae, scaling_factor=scaling, invert_scale_latents=inverted).to_dict()
        readers["vae"] = lambda: vae
    if "transformer" in opened:
        configs.setdefault("scheduler", scheduler_config(snr_shift_scale=3.0 if like_2b else 1.0))
        components["scheduler"] = path
    _add_text_encoder(path, shared or {}, components, configs, readers, allow_pickle)
    class_name = configs["model_index"].get("_class_name") or pipeline_class(configs.get("transformer", {}))
    return ModelFolder(path, class_name, components, configs, "sat", readers)


def _open_parts(path: Path, allow_pickle: bool) -> dict[str, tuple[Path, Weights]]:
    """Return the file and the raw weights of each part that is there."""
    if path.is_file():
        raw = open_any(path, allow_pickle=allow_pickle)
        vae = sat.is_sat_vae(raw) or any(name.startswith("encoder.conv_in.") for name in raw)
        return {"vae" if vae else "transformer": (path, raw)}
    parts = {}
    folder = _transformer_folder(path)
    if folder is not None:
        file = _transformer_file(folder)
        parts["transformer"] = file, open_any(file, allow_pickle=allow_pickle)
    file = path / "vae" / VAE_FILE
    if file.is_file():
        parts["vae"] = file, open_any(file, allow_pickle=allow_pickle)
    return parts


def open_any(path: Path, *, allow_pickle: bool) -> Weights:
    """Open one file of weights, safetensors or pickle, under whatever names it has."""
    if path.suffix == ".safetensors":
        return open_safetensors(path).tensors
    if path.suffix not in PICKLE_SUFFIXES and not looks_like_pickle(path):
        raise InputError(f"{shown(path)}: neither a safetensors file nor a pickle of weights")
    return open_pickle(path, allow_pickle=allow_pickle)


def _transformer_folder(path: Path) -> Path | None:
    return next((folder for folder in (path / "transformer", path) if (folder / "latest").is_file()), None)


def _transformer_file(folder: Path) -> Path:
    if regular_size(folder / "latest") > 200:
        raise InputError(f"{shown(folder / 'latest')}: not the number of an iteration")
    latest = (folder / "latest").read_text(errors="replace").strip()
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", latest):
        raise InputError(f"{shown(folder / 'latest')}: not the number of an iteration")
    if (folder / latest / "mp_rank_01_model_states.pt").exists():
        raise InputError(
            f"{shown(folder / latest)}: weights cut for several devices (model parallel) are not supported"
        )
    file = folder / latest / TRANSFORMER_FILE
    if not file.is_file():
        raise InputError(f"{shown(file)}: missing, although {shown(folder / 'latest')} names it")
    return file


def _transformer(
    raw: Weights, config: Mapping[str, Any] | None
) -> tuple[dict[str, StoredTensor], bool | None, int | None]:
    """Return weights under our names, and what the table of positions tells: rotation or not, and the text's length."""
    if not sat.is_sat_transformer(raw):
        if "patch_embed.proj.weight" not in raw:
            raise InputError(f"neither the weights of a CogVideoX transformer nor of its VAE: {first_few(raw)}")
        return dict(raw), None, None
    if config is not None:
        learned = bool(config.get("use_learned_positional_embeddings"))
        return sat.transformer_from_sat(raw, learned_positions=learned), None, None
    if any(name.endswith("mixins.pos_embed.freqs_cos") for name in raw):
        return sat.transformer_from_sat(raw, learned_positions=True), True, None
    positions = raw.get(sat.PREFIX + sat.POSITIONS) or raw.get(sat.POSITIONS)
    text_length = sat.fixed_text_length(positions) if positions is not None else None
    return sat.transformer_from_sat(raw), text_length is None, text_length


def _vae(raw: Weights) -> dict[str, StoredTensor]:
    return sat.vae_from_sat(raw) if sat.is_sat_vae(raw) else dict(raw)


def _add_text_encoder(
    path: Path,
    shared: Mapping[str, Path],
    components: dict[str, Path],
    configs: dict[str, dict[str, Any]],
    readers: dict[str, Callable[[], Weights]],
    allow_pickle: bool,
) -> None:
    """Take the T5 encoder and its tokenizer from the SAT folder, where both lie together, or from elsewhere."""
    own = path / TEXT_FOLDER
    places = {name: own if own.is_dir() else shared.get(name) for name in ("text_encoder", "tokenizer")}
    encoder, tokenizer = places["text_encoder"], places["tokenizer"]
    if encoder is not None and (encoder / "config.json").is_file():
        components["text_encoder"] = encoder
        configs["text_encoder"] = read_json(encoder / "config.json")
        readers["text_encoder"] = lambda: open_weights(encoder, stem="model", allow_pickle=allow_pickle)
    if tokenizer is not None and any((tokenizer / name).is_file() for name in ("spiece.model", "tokenizer.json")):
        components["tokenizer"] = tokenizer
