"""Weights in pickles: only when the user allows it, tensors only, and no second try."""

import pickle
import warnings
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogvx.checkpoints.weights import MAX_TENSORS, StoredTensor, quoted, regular_size, shown
from cogvx.errors import InputError, RefusedError
from cogvx.files import clean

_WRAPPERS = ("module", "model", "state_dict")  # where training frameworks put the weights


def open_pickle(path: Path, *, allow_pickle: bool) -> dict[str, StoredTensor]:
    """Read the tensors of a `.pt`, `.bin` or `.ckpt` file, mapped from the disk where its format allows.

    Weights are looked for at the top and under "module", "model" and "state_dict".

    Raises:
        RefusedError: Pickles are not allowed, or this one holds more than weights.
        InputError: The file is damaged or has no tensors.
    """
    if not allow_pickle:
        raise RefusedError(
            f"{shown(path)}: a pickle can run code, so it was not opened; "
            "use safetensors, or pass --allow-pickle to read its weights only"
        )
    content = _load(path)
    for _ in range(3):
        inner = [content[name] for name in _WRAPPERS if isinstance(content.get(name), dict)]
        if not inner:
            break
        content = inner[0]
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{shown(path)}: no tensors in it")
    if len(tensors) > MAX_TENSORS:
        raise InputError(f"{shown(path)}: {len(tensors):,} tensors; at most {MAX_TENSORS:,} are read")
    size = regular_size(path)
    for name, tensor in tensors.items():
        # A few bytes can claim any shape by a stride of zero.
        if prod(tensor.shape) * tensor.dtype.itemsize > size or tensor.is_sparse or tensor.is_quantized:
            raise InputError(f"{shown(path)}: tensor {quoted(name)} claims more data than the file has")
    return {name: _stored(tensor.detach()) for name, tensor in tensors.items()}


def write_pickle(content: dict[str, Any], path: Path) -> None:
    """Write dictionaries of tensors for programs that take nothing else.

    The file is written in place: give a path that `cogvx.files.atomic_path` made.

    Raises:
        OSError: The disk is full; torch alone would say that its stream is broken.
    """
    try:
        with open(path, "wb") as file:
            torch.save(content, file)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        raise (cause or error) from None


def _stored(tensor: Tensor) -> StoredTensor:
    # A copy: what is mapped would change, or crash the program, when somebody rewrites the file.
    return StoredTensor(tuple(tensor.shape), tensor.dtype, tensor.clone)


def _load(path: Path) -> dict[str, Any]:
    size = regular_size(path)
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped:
            with zipfile.ZipFile(path) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > size:
                    raise InputError(f"{shown(path)}: refused: its parts unpack to more than the file's size")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocol of the pickle
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (InputError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise RefusedError(f"{shown(path)}: refused: it holds more than weights ({_reason(error)})") from error
    except Exception as error:  # a damaged file makes torch raise many kinds
        raise InputError(f"{shown(path)}: damaged pickle: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{shown(path)}: expected a dictionary of weights, got {type(content).__name__}")
    return content


def _reason(error: Exception) -> str:
    """Pick the line that says why out of torch's explanation, which otherwise advises to turn the protection off."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("Unsupported", "Trying to load", "Can only", "Attempted"))]
    return clean((telling or lines[:1] or [type(error).__name__])[0])[:160]
