"""One tensor and a few words about it in a safetensors file, proof against damage.

safetensors checks the structure of a file, not its content: a flipped bit in the data loads silently. So a sha256 over
everything else that is in the file goes into its header, and is compared when it is read.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cogvx.errors import InputError
from cogvx.files import clean, write_bytes

_MAX_HEADER = 16 << 20  # the library itself would take 100 MB
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}


def save_tensor(
    path: Path | str, tensor: Tensor, *, name: str, metadata: Mapping[str, str], overwrite: bool = False
) -> None:
    """Write a tensor (float32 or bfloat16; others become float32), whole or not at all.

    Args:
        path: The file.
        tensor: Without NaN and infinity.
        name: Of the tensor in the file.
        metadata: For the header, with "format".
        overwrite: Whether an existing file is replaced.

    Raises:
        InputError: The tensor holds NaN or infinity.
        UsageError: The file exists.
        MissingError: The disk is full.
    """
    write_bytes(path, tensor_bytes(tensor, name=name, metadata=metadata), overwrite=overwrite)


def tensor_bytes(tensor: Tensor, *, name: str, metadata: Mapping[str, str]) -> bytes:
    """Return the bytes that save_tensor writes: the same ones for the same arguments.

    (The library's own writer orders the metadata differently each time.)

    Raises:
        InputError: The tensor holds NaN or infinity.
    """
    ready = tensor.detach().cpu().contiguous()
    if ready.dtype not in _DTYPES.values():
        ready = ready.to(torch.float32)
    if not bool(ready.isfinite().all()):
        raise InputError(f"{name} to be written contain NaN or infinity")
    data = _data(ready).tobytes()
    fields = {**metadata, "sha256": _digest(ready, metadata)}
    dtype = next(key for key, value in _DTYPES.items() if value == ready.dtype)
    entry = {"dtype": dtype, "shape": list(ready.shape), "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": fields, name: entry}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def load_tensor(source: Path | str | bytes, *, name: str, form: str) -> tuple[Tensor, dict[str, str]]:
    """Read a file that save_tensor wrote.

    Args:
        source: A path, or the bytes of a file.
        name: Of the tensor.
        form: What metadata["format"] must be.

    Returns:
        The tensor on the CPU, and the metadata.

    Raises:
        InputError: It is missing, of another format, damaged, or holds NaN or infinity.
    """
    label = "standard input" if isinstance(source, bytes) else clean(str(source))
    try:
        content = source if isinstance(source, bytes) else _read(Path(source))
        return _parsed(content, name, form)
    except InputError as error:
        raise InputError(f"cannot read {label}: {error}") from error


def number_field(metadata: Mapping[str, str], key: str) -> float:
    """Return a field of the metadata that holds a number above zero.

    Raises:
        InputError: It is missing or holds something else.
    """
    try:
        value = float(metadata[key])
    except (KeyError, ValueError) as error:
        raise InputError(f"metadata {key!r} must be a number, got {clean(repr(metadata.get(key)))[:60]}") from error
    if not 0 < value < math.inf:
        raise InputError(f"metadata {key!r} must be above zero, got {value}")
    return value


def _data(tensor: Tensor) -> np.ndarray:
    """Return the bytes of a tensor as an array."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _digest(tensor: Tensor, metadata: Mapping[str, str]) -> str:
    """Return the sha256 of data, type, shape and all other metadata."""
    others = {key: value for key, value in metadata.items() if key != "sha256"}
    head = json.dumps([sorted(others.items()), str(tensor.dtype), list(tensor.shape)])
    digest = hashlib.sha256(head.encode())
    digest.update(_data(tensor).data)
    return digest.hexdigest()


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InputError("a folder, not a file" if path.is_dir() else "no such file")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(getattr(error, "strerror", None) or str(error)) from error


def _parsed(content: bytes, name: str, form: str) -> tuple[Tensor, dict[str, str]]:
    if len(content) < 10 or not 2 <= (size := struct.unpack_from("<Q", content)[0]) <= min(
        _MAX_HEADER, len(content) - 8
    ):
        raise InputError("not a safetensors file")
    try:
        header = json.loads(content[8 : 8 + size])
        metadata = header.pop("__metadata__", {})
        found = metadata.get("format")
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError("not a safetensors file: its header is no JSON object") from error
    if found != form:
        raise InputError(f"its format is {clean(repr(found))[:60]}, {form!r} is needed")
    if list(header) != [name]:
        raise InputError(f"it must hold the tensor {name!r} alone, it holds {clean(str(list(header)))[:120]}")
    tensor = _tensor(content, name)
    if not all(isinstance(value, str) for value in metadata.values()):
        raise InputError("its metadata are not text")
    if "sha256" in metadata and metadata["sha256"] != _digest(tensor, metadata):
        raise InputError("damaged: the sha256 in its header differs from that of its content")
    if not bool(tensor.isfinite().all()):
        raise InputError(f"{name} contain NaN or infinity")
    return tensor, metadata


def _tensor(content: bytes, name: str) -> Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensor = load(content)[name]
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise InputError(f"damaged safetensors file: {clean(str(error))[:200]}") from error
    if tensor.dtype not in _DTYPES.values():
        raise InputError(f"{name} must be float32 or bfloat16, got {str(tensor.dtype).removeprefix('torch.')}")
    return tensor
