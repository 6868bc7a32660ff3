"""Tensors in files: read one at a time, from headers that are checked before anything is allocated."""

import json
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogvx.errors import InputError, RefusedError
from cogvx.files import clean

MAX_HEADER_BYTES = 16 * 2**20  # the largest model of the family needs 0.15 MB
MAX_TENSORS = 20_000  # the largest has 1,028
MAX_JSON_BYTES = 64 * 2**20
PICKLE_SUFFIXES = (".pt", ".bin", ".ckpt", ".pth", ".pkl", ".pickle")

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_CODES = {dtype: code for code, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is somewhere else, and is read each time it is asked for.

    Attributes:
        shape: Its sizes.
        dtype: Its type as stored.
        read: Returns it, on the CPU, as a tensor that nobody else holds.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @property
    def num_bytes(self) -> int:
        """Its size in the file."""
        return prod(self.shape) * self.dtype.itemsize

    @classmethod
    def of(cls, tensor: Tensor) -> "StoredTensor":
        """Wrap a tensor that is in memory; reading gives that very tensor."""
        return cls(tuple(tensor.shape), tensor.dtype, lambda: tensor)

    def cast(self, dtype: torch.dtype | None) -> "StoredTensor":
        """Return this tensor in another floating-point type; tensors of whole numbers stay as they are."""
        if dtype is None or dtype == self.dtype or not self.dtype.is_floating_point:
            return self
        return StoredTensor(self.shape, dtype, lambda: self.read().to(dtype))


Weights = Mapping[str, StoredTensor]


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file whose header was read and found sound.

    Attributes:
        path: The file.
        tensors: Its tensors, in the order of their data.
        metadata: The strings in its header.
    """

    path: Path
    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


def open_safetensors(path: Path) -> TensorFile:
    """Read the header of a safetensors file.

    Raises:
        InputError: The file is missing, cut, corrupt, or larger in its header than any model needs.
        RefusedError: The file is a pickle with the wrong name.
    """
    size = regular_size(path)
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise _not_safetensors(path, size, length)
            header = file.read(length)
    except OSError as error:
        raise InputError(f"cannot read {shown(path)}: {error.strerror}") from error
    entries = _parse_header(path, header)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InputError(f"{shown(path)}: damaged safetensors header: __metadata__ is not text")
    if len(entries) > MAX_TENSORS:
        raise InputError(f"{shown(path)}: {len(entries):,} tensors; at most {MAX_TENSORS:,} are read")
    tensors = {}
    position = 0
    for name, code, shape, start, end in sorted(_entries(path, entries), key=lambda entry: entry[3:]):
        if start != position:
            raise InputError(f"{shown(path)}: damaged safetensors header: a gap or overlap before {quoted(name)}")
        position = end
        tensors[name] = StoredTensor(shape, _DTYPES[code], _reader(path, 8 + length + start, shape, _DTYPES[code]))
    if position != size - 8 - length:
        here = size - 8 - length
        raise InputError(f"{shown(path)}: cut or damaged: {position:,} bytes of data are promised, {here:,} are there")
    return TensorFile(path, tensors, metadata)


def write_safetensors(path: Path, weights: Weights, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file with one tensor in memory at a time.

    The file is written in place: give a path that `cogvx.files.atomic_path` made.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    # Large elements first, as the safetensors library does, so that every tensor is aligned.
    names = sorted(weights, key=lambda name: (-weights[name].dtype.itemsize, name))
    for name in names:
        stored = weights[name]
        end = position + stored.num_bytes
        header[name] = {
            "dtype": DTYPE_CODES[stored.dtype],
            "shape": list(stored.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            tensor = weights[name].read().detach().cpu().contiguous()
            assert tuple(tensor.shape) == weights[name].shape and tensor.dtype == weights[name].dtype, name
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")


def open_weights(folder: Path, *, stem: str, allow_pickle: bool = False) -> dict[str, StoredTensor]:
    """Find and open the weights of one component: a single safetensors file, or shards with their index.

    Args:
        folder: The component's folder.
        stem: File name without suffix: `diffusion_pytorch_model` for diffusers, `model` for transformers.
        allow_pickle: Read a pickle if there is nothing else.

    Raises:
        InputError: There are no weights, a shard or a tensor is missing, or a file is damaged.
        RefusedError: There are only pickles, or the index names a file outside the folder.
    """
    index = _only(folder, f"{stem}.safetensors.index.json", "*.safetensors.index.json")
    if index is not None:
        return _open_shards(index, lambda path: open_safetensors(path).tensors)
    single = _only(folder, f"{stem}.safetensors", "*.safetensors")
    if single is not None:
        return open_safetensors(single).tensors
    from cogvx.checkpoints.pickles import open_pickle  # the same types, the other way

    index = _only(folder, f"{stem}.bin.index.json", "*.bin.index.json")
    if index is not None:
        return _open_shards(index, lambda path: open_pickle(path, allow_pickle=allow_pickle))
    pickles = [path for path in _listed(folder) if path.suffix in PICKLE_SUFFIXES]
    if pickles:
        if len(pickles) > 1 and allow_pickle:
            raise InputError(f"{shown(folder)}: several pickles and no index; which one holds the weights?")
        return open_pickle(pickles[0], allow_pickle=allow_pickle)
    raise InputError(f"{shown(folder)}: no weights (looked for {stem}.safetensors and {stem}.safetensors.index.json)")


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a component that hold weights, by name."""
    return [path for path in _listed(folder) if path.suffix in (".safetensors", *PICKLE_SUFFIXES)]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        InputError: The file is missing, too large, or holds something else.
    """
    if regular_size(path) > MAX_JSON_BYTES:
        raise InputError(f"{shown(path)}: too large for a JSON file of a model")
    try:
        value = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown(path)}: not JSON: {clean(str(error))}") from error
    except OSError as error:
        raise InputError(f"cannot read {shown(path)}: {error.strerror}") from error
    if not isinstance(value, dict):
        raise InputError(f"{shown(path)}: expected a JSON object, got {type(value).__name__}")
    return value


def looks_like_pickle(path: Path) -> bool:
    """Tell whether a file is a pickle, bare or in a zip, by its content (by its name when it is empty)."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    if start[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith((".pkl", ".npy")) for name in archive.namelist())
    binary = len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5
    return binary or (path.suffix in PICKLE_SUFFIXES and not start)


def regular_size(path: Path) -> int:
    """Return the size of a regular file.

    Raises:
        InputError: There is none of that name; a pipe or a device is not one.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {shown(path)}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"cannot read {shown(path)}: not a regular file")
    return status.st_size


def shown(path: Path | str) -> str:
    """Return a path that is safe to print."""
    return clean(str(path))


def quoted(name: str) -> str:
    """Return a name from a file, safe to print and not too long."""
    return repr(clean(name)[:120])


def first_few(names: Iterable[str], limit: int = 4) -> str:
    """Return a few names, and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(clean(name)[:120] for name in listed[:limit]) + more


def _not_safetensors(path: Path, size: int, length: int) -> InputError | RefusedError:
    if looks_like_pickle(path):
        return RefusedError(f"{shown(path)}: a pickle, whatever its name says; not opened")
    if size < 8 or length > size - 8:
        return InputError(
            f"{shown(path)}: not a safetensors file, or cut: header of {length:,} bytes in a file of {size:,}"
        )
    return InputError(f"{shown(path)}: header of {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read")


def _parse_header(path: Path, header: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice")
        return found

    try:
        if not header.startswith(b"{"):
            raise ValueError("it does not start with {")
        return json.loads(header.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown(path)}: damaged safetensors header: {clean(str(error))[:200]}") from error


def _entries(path: Path, entries: dict[str, Any]) -> Iterable[tuple[str, str, tuple[int, ...], int, int]]:
    """Yield name, type code, shape, start and end of each tensor, checked on their own."""
    for name, entry in entries.items():
        try:
            code, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            numbers = [*shape, start, end]
            if len(entry) != 3 or len(shape) > 64 or not all(type(number) is int and number >= 0 for number in numbers):
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{shown(path)}: damaged safetensors header: entry {quoted(name)}") from error
        if not isinstance(code, str) or code not in _DTYPES:
            raise InputError(
                f"{shown(path)}: tensor {quoted(name)} has a type that is not supported: {quoted(str(code))}"
            )
        if prod(shape) * _DTYPES[code].itemsize != end - start:
            raise InputError(f"{shown(path)}: damaged safetensors header: shape and bytes of {quoted(name)} differ")
        yield name, code, tuple(shape), start, end


def _reader(path: Path, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return a function that reads one tensor.

    The bytes are read, not mapped: a mapped tensor changes or crashes the program when somebody rewrites the file.
    """

    def read() -> Tensor:
        data = torch.empty(prod(shape) * dtype.itemsize, dtype=torch.uint8)
        view = data.numpy().data
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(offset)
                while view:
                    count = file.readinto(view)
                    if not count:
                        raise InputError(f"{shown(path)}: cut while it was read")
                    view = view[count:]
        except OSError as error:
            raise InputError(f"cannot read {shown(path)}: {error.strerror}") from error
        return (data != 0 if dtype == torch.bool else data.view(dtype)).reshape(shape)

    return read


def _open_shards(index: Path, open_file: Callable[[Path], dict[str, StoredTensor]]) -> dict[str, StoredTensor]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise InputError(f"{shown(index)}: no weight_map")
    opened: dict[str, dict[str, StoredTensor]] = {}
    for name in sorted(set(places.values())):
        # Shards lie beside their index. Links are followed: in the Hugging Face cache every file is one.
        if not re.fullmatch(r"[^/\\\0:]+", name) or name in (".", "..") or name != name.strip():
            raise RefusedError(
                f"{shown(index)}: refused shard {quoted(name)}: it is not a file name in the same folder"
            )
        path = index.parent / name
        if not path.exists():
            raise InputError(f"{shown(index)}: shard {quoted(name)} is missing; download the model again")
        opened[name] = open_file(path)
    missing = [key for key, name in places.items() if key not in opened[name]]
    if missing:
        raise InputError(f"{shown(index)}: the shards lack {len(missing)} tensors: {first_few(missing)}")
    return {key: opened[name][key] for key, name in places.items()}


def _only(folder: Path, name: str, pattern: str) -> Path | None:
    """Return the file of that name, or the only one of the pattern (a variant such as `….fp16.safetensors`)."""
    if (folder / name).exists():
        return folder / name
    found = sorted(folder.glob(pattern))
    return found[0] if len(found) == 1 else None


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"cannot read {shown(folder)}: {error.strerror}") from error
