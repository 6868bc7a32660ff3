"""Models in the diffusers layout, and the one door for every layout: `open_model`."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cogvx.checkpoints.model_folder import COMPONENTS, PIPELINES, WEIGHTED, ModelFolder, pipeline_class
from cogvx.checkpoints.sat_folder import is_sat, open_sat
from cogvx.checkpoints.saving import DIFFUSERS_STEM, TRANSFORMERS_STEM
from cogvx.checkpoints.weights import Weights, open_weights, quoted, read_json, shown
from cogvx.errors import InputError, RefusedError

_LIBRARIES = ("diffusers", "transformers")
_CLASSES = {
    "vae": ("AutoencoderKLCogVideoX",),
    "transformer": ("CogVideoXTransformer3DModel",),
    "text_encoder": ("T5EncoderModel",),
    "tokenizer": ("T5Tokenizer", "T5TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"),
    "scheduler": ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "CogVideoXDDIMInverseScheduler"),
}
_CONFIG_FILES = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}


def open_model(path: Path, *, shared: Mapping[str, Path] | None = None, allow_pickle: bool = False) -> ModelFolder:
    """Open a model in the diffusers or the SAT layout; its layout is seen from its files, never from its name.

    Only configs are read now; weights are when a part is loaded. A folder that has some of the parts opens too.

    Args:
        path: The model's folder (in the SAT layout, also its `transformer` folder or one weight file).
        shared: Parts that are taken from elsewhere if the folder lacks them.
        allow_pickle: Read weights from pickles where there is nothing else; the SAT layout needs it.

    Raises:
        InputError: There is no model, or a config is damaged.
        RefusedError: A part asks for code of its own, or the layout is SAT and pickles are not allowed.
    """
    path = Path(path)
    if is_sat(path):
        return open_sat(path, shared=shared, allow_pickle=allow_pickle)
    if not path.is_dir():
        raise InputError(
            f"{shown(path)}: no such folder" if not path.exists() else f"{shown(path)}: not the folder of a model"
        )
    index = read_json(path / "model_index.json") if (path / "model_index.json").exists() else {}
    _check_index(path, index)
    components: dict[str, Path] = {}
    configs: dict[str, dict[str, Any]] = {"model_index": index}
    readers: dict[str, Callable[[], Weights]] = {}
    for name in COMPONENTS:
        folder = path / name if (path / name).is_dir() else (shared or {}).get(name)
        if folder is None:
            if _is_named(index, name):
                raise InputError(f"{shown(path)}: model_index.json names a {name}, but there is no folder {name}")
            continue
        components[name] = folder
        config = folder / _CONFIG_FILES.get(name, "config.json")
        if name != "tokenizer" or config.exists():
            configs[name] = read_json(config)
        if name in WEIGHTED:
            _check_class(name, configs[name], folder)
            stem = TRANSFORMERS_STEM if name == "text_encoder" else DIFFUSERS_STEM
            readers[name] = partial(open_weights, folder, stem=stem, allow_pickle=allow_pickle)
    if not readers:
        raise InputError(f"{shown(path)}: no model here (no model_index.json, no transformer, no vae, no SAT weights)")
    class_name = index.get("_class_name") or pipeline_class(configs.get("transformer", {}))
    return ModelFolder(path, class_name, components, configs, "diffusers", readers)


def model_index(
    class_name: str, components: Mapping[str, Any], *, old: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the content of model_index.json for the parts that are there.

    Args:
        class_name: Class of the pipeline.
        components: The parts; only their names count.
        old: A former index, whose other keys are kept.
    """
    kept = {key: value for key, value in (old or {}).items() if key.startswith("_")}
    parts = {name: [_library(name), _CLASSES[name][0]] if name in components else [None, None] for name in COMPONENTS}
    parts.update({name: value for name, value in (old or {}).items() if name in components and name in parts})
    return {**kept, "_class_name": class_name, **parts}


def _library(name: str) -> str:
    return "transformers" if name in ("text_encoder", "tokenizer") else "diffusers"


def _is_named(index: Mapping[str, Any], name: str) -> bool:
    entry = index.get(name)
    return isinstance(entry, list) and bool(entry) and entry[0] is not None


def _check_index(path: Path, index: Mapping[str, Any]) -> None:
    class_name = index.get("_class_name", PIPELINES[0])
    if not isinstance(class_name, str):
        raise RefusedError(f"{shown(path)}: refused: model_index.json asks for a pipeline with code of its own")
    if class_name not in PIPELINES:
        raise InputError(f"{shown(path)}: a {quoted(class_name)}, not a CogVideoX model")
    for name in COMPONENTS:
        if not _is_named(index, name):
            continue
        library, kind = (index[name] + [None])[:2]
        if library not in _LIBRARIES:
            raise RefusedError(
                f"{shown(path)}: refused: model_index.json takes {name} from {quoted(str(library))}, code of its own"
            )
        if kind not in _CLASSES[name]:
            raise InputError(f"{shown(path)}: {name} is a {quoted(str(kind))}; supported: {', '.join(_CLASSES[name])}")


def _check_class(name: str, config: Mapping[str, Any], folder: Path) -> None:
    if "auto_map" in config:
        raise RefusedError(f"{shown(folder)}: refused: config.json asks for code of its own (auto_map)")
    kind = config.get("_class_name")
    if kind is not None and kind not in _CLASSES[name]:
        raise InputError(f"{shown(folder)}: config.json is of a {quoted(str(kind))}, not of a {_CLASSES[name][0]}")
