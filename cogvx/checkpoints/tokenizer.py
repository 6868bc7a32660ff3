"""The files of a tokenizer, from one model's folder to another's."""

import shutil
from pathlib import Path

from cogvx.checkpoints.model_folder import ModelFolder

_TOKENIZER_SUFFIXES = (".json", ".model", ".txt")
_MAX_TOKENIZER_BYTES = 64 * 2**20


def tokenizer_files(model: ModelFolder) -> list[Path]:
    """Return the data files of a model's tokenizer, if it has one; whatever else lies beside them stays behind."""
    folder = model.components.get("tokenizer")
    if folder is None:
        return []
    others = ("config.json", "model.safetensors.index.json", "generation_config.json")  # of T5 itself in SAT's folder
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in _TOKENIZER_SUFFIXES and path.name not in others and path.is_file()
        and path.stat().st_size <= _MAX_TOKENIZER_BYTES
    )  # fmt: skip


def copy_tokenizer(model: ModelFolder, folder: Path) -> None:
    """Copy a model's tokenizer into a folder, byte for byte; nothing is made if it has none."""
    files = tokenizer_files(model)
    if files:
        folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copyfile(path, folder / path.name)
