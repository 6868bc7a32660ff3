"""One tensor, or two, and a few words about it in a safetensors file, proof against damage.

safetensors checks the structure of a file, not its content: a flipped bit in the data loads silently. So a sha256 over
everything else that is in the file goes into its header, and is compared when it is read.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cogvx.errors import InputError
from cogvx.files import clean, write_bytes

_MAX_HEADER = 16 << 20  # the library itself would take 100 MB
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}


def save_tensor(
    path: Path | str,
    tensor: Tensor,
    *,
    name: str,
    metadata: Mapping[str, str],
    more: Mapping[str, Tensor] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a tensor (float32 or bfloat16; others become float32), whole or not at all.

    Args:
        path: The file.
        tensor: Without NaN and infinity.
        name: Of the tensor in the file.
        metadata: For the header, with "format".
        more: Further tensors of the same type, by name.
        overwrite: Whether an existing file is replaced.

    Raises:
        InputError: The tensor holds NaN or infinity.
        UsageError: The file exists.
        MissingError: The disk is full.
    """
    write_bytes(path, tensor_bytes(tensor, name=name, metadata=metadata, more=more), overwrite=overwrite)


def tensor_bytes(
    tensor: Tensor, *, name: str, metadata: Mapping[str, str], more: Mapping[str, Tensor] | None = None
) -> bytes:
    """Return the bytes that save_tensor writes: the same ones for the same arguments.

    (The library's own writer orders the metadata differently each time.)

    Raises:
        InputError: The tensor holds NaN or infinity.
    """
    stored = tensor.dtype if tensor.dtype in _DTYPES.values() else torch.float32
    ready = {key: one.detach().cpu().to(stored).contiguous() for key, one in {name: tensor, **(more or {})}.items()}
    for key, one in ready.items():
        if not bool(one.isfinite().all()):
            raise InputError(f"{key} to be written contain NaN or infinity")
    fields = {**metadata, "sha256": _digest(ready, metadata)}
    header_fields: dict[str, object] = {"__metadata__": fields}
    dtype = next(key for key, value in _DTYPES.items() if value == stored)
    data = b""
    for key, one in ready.items():
        part = _data(one).tobytes()
        header_fields[key] = {
            "dtype": dtype,
            "shape": list(one.shape),
            "data_offsets": [len(data), len(data) + len(part)],
        }
        data += part
    header = json.dumps(header_fields, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def load_tensor(source: Path | str | bytes, *, name: str, form: str) -> tuple[Tensor, dict[str, str]]:
    """Read a file that save_tensor wrote: the tensor, and the metadata (see load_tensors)."""
    tensors, metadata = load_tensors(source, name=name, form=form)
    return tensors[name], metadata


def load_tensors(
    source: Path | str | bytes, *, name: str, form: str, optional: Sequence[str] = ()
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file that save_tensor wrote.

    Args:
        source: A path, or the bytes of a file.
        name: Of the tensor.
        form: What metadata["format"] must be.
        optional: Names of further tensors that the file may hold.

    Returns:
        The tensors on the CPU by name, and the metadata.

    Raises:
        InputError: It is missing, of another format, damaged, or holds NaN or infinity.
    """
    label = "standard input" if isinstance(source, bytes) else clean(str(source))
    try:
        content = source if isinstance(source, bytes) else _read(Path(source))
        return _parsed(content, name, form, optional)
    except InputError as error:
        raise InputError(f"cannot read {label}: {error}") from error


def tensor_metadata(path: Path, *, form: str) -> dict[str, str]:
    """Return the metadata of a file that save_tensor wrote and that is as long as it says; the tensors are not read.

    Raises:
        InputError: It is missing, of another format, or cut off.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise InputError("not a safetensors file")
            header = _header(file.read(length), form)
        metadata: dict[str, str] = header.pop("__metadata__")
        end = max(int(entry["data_offsets"][1]) for entry in header.values())
    except OSError as error:
        raise InputError(f"cannot read {clean(str(path))}: {error.strerror}") from error
    except (InputError, ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise InputError(f"cannot read {clean(str(path))}: {error}") from error
    if size != 8 + length + end:
        raise InputError(f"cannot read {clean(str(path))}: it is {size} bytes long, its header says {8 + length + end}")
    return metadata


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


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the sha256 of data, type, shape and all other metadata; of further tensors their names too."""
    others = {key: value for key, value in metadata.items() if key != "sha256"}
    digest = hashlib.sha256()
    for number, (name, tensor) in enumerate(tensors.items()):
        said: object = name if number else sorted(others.items())
        digest.update(json.dumps([said, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(_data(tensor).data)
    return digest.hexdigest()


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InputError("a folder, not a file" if path.is_dir() else "no such file")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(getattr(error, "strerror", None) or str(error)) from error


def _header(content: bytes, form: str) -> dict[str, Any]:
    """Return the content of a header, whose format is the right one."""
    try:
        header = json.loads(content)
        header.setdefault("__metadata__", {})
        found = header["__metadata__"].get("format")
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError("not a safetensors file: its header is no JSON object") from error
    if found != form:
        raise InputError(f"its format is {clean(repr(found))[:60]}, {form!r} is needed")
    return header


def _parsed(content: bytes, name: str, form: str, optional: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    if len(content) < 10 or not 2 <= (size := struct.unpack_from("<Q", content)[0]) <= min(
        _MAX_HEADER, len(content) - 8
    ):
        raise InputError("not a safetensors file")
    header = _header(content[8 : 8 + size], form)
    metadata = header.pop("__metadata__")
    names = [name, *(other for other in optional if other in header)]
    if set(header) != set(names):
        raise InputError(f"it must hold the tensor {name!r} alone, it holds {clean(str(list(header)))[:120]}")
    tensors = _tensors(content, names)
    if not all(isinstance(value, str) for value in metadata.values()):
        raise InputError("its metadata are not text")
    if "sha256" in metadata and metadata["sha256"] != _digest(tensors, metadata):
        raise InputError("damaged: the sha256 in its header differs from that of its content")
    for key, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise InputError(f"{key} contain NaN or infinity")
    return tensors, metadata


def _tensors(content: bytes, names: Sequence[str]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        loaded = load(content)
        tensors = {name: loaded[name] for name in names}
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise InputError(f"damaged safetensors file: {clean(str(error))[:200]}") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES.values():
            raise InputError(f"{name} must be float32 or bfloat16, got {str(tensor.dtype).removeprefix('torch.')}")
    return tensors
