"""Training state as safetensors files, through torch.distributed.checkpoint.

Each rank writes its own slices, and ranks of any number read them. PyTorch's own storage keeps a pickle
beside the tensors; here the place of every slice stands in the header of its file.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint import StorageReader, StorageWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from cogvx.errors import InputError
from cogvx.files import disk_errors, sha256_file, sync

FORMAT = "cogvx.state/1"
# A file's tensors are copied to memory together.
_FILE_BYTES = 2 * 2**30
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class SafetensorsWriter(StorageWriter):
    """Writes a rank's slices to `state-RANK-PART.safetensors` in a folder that exists.

    Attributes:
        files: Name -> {"size", "sha256"} of the files of all ranks; on the coordinator, when all is written.
    """

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, dict[str, Any]] = {}
        self._folder = folder

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin a checkpoint."""
        self.files = {}

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Take nothing."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return the plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Tell each rank its number."""
        return [replace(plan, storage_data=rank) for rank, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's slices and flush them to the disk."""
        results = []
        for part, items in enumerate(_portions(plan.items)):
            tensors, places = {}, {}
            for item in items:
                data = planner.resolve_data(item)
                assert isinstance(data, Tensor) and item.tensor_data is not None
                offset = list(item.tensor_data.chunk.offsets)
                whole = item.tensor_data.chunk.sizes == item.tensor_data.size
                name = item.index.fqn if whole else f"{item.index.fqn}@{','.join(map(str, offset))}"
                # A copy, where it is none yet: tied weights share their memory, which the file cannot.
                tensors[name] = data.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
                if not whole:
                    places[name] = [item.index.fqn, list(item.tensor_data.size), offset]
            path = self._folder / f"state-{plan.storage_data:05d}-{part:05d}.safetensors"
            with disk_errors(path):
                save_file(tensors, str(path), metadata={"format": FORMAT, "slices": json.dumps(places)})
                sync(path)
            record = {path.name: {"size": path.stat().st_size, "sha256": sha256_file(path)}}
            results += [WriteResult(item.index, 0, record) for item in items]
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Collect what was written."""
        for result in (result for of_rank in results for result in of_rank):
            self.files |= result.storage_data

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Tell that no storage is chosen by name."""
        return False


class SafetensorsReader(StorageReader):
    """Reads what SafetensorsWriter wrote, whatever the number of ranks then and now.

    Attributes:
        shapes: Name of every tensor -> its whole shape.
        dtypes: Name of every tensor -> its type.
    """

    def __init__(self, folder: Path) -> None:
        """Read the headers.

        Raises:
            InputError: A file is not of this format.
        """
        self.shapes: dict[str, list[int]] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self._chunks: dict[str, list[ChunkStorageMetadata]] = {}
        self._places: dict[MetadataIndex, tuple[Path, str]] = {}
        for path in sorted(folder.glob("state-*.safetensors")):
            try:
                self._read_header(path)
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                raise InputError(f"{path}: not a training state: {error}") from error

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin to read."""

    def read_metadata(self) -> Metadata:  # type: ignore[override]
        """Return what is where."""
        tensors = {
            name: TensorStorageMetadata(
                TensorProperties(dtype=self.dtypes[name]), torch.Size(shape), self._chunks[name]
            )
            for name, shape in self.shapes.items()
        }
        return Metadata(dict(tensors), storage_data=self._places)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Take nothing."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Return the plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Return the plans as they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy the slices into their tensors, file by file."""
        by_file: dict[Path, list[tuple[str, Any]]] = {}
        for item in plan.items:
            path, name = self._places[item.storage_index]
            by_file.setdefault(path, []).append((name, item))
        for path, items in by_file.items():
            with safe_open(path, framework="pt") as file:
                for name, item in items:
                    target = planner.resolve_tensor(item).detach()
                    if target.ndim == 0:
                        data = file.get_tensor(name)
                    else:
                        pairs = zip(item.storage_offsets, item.lengths, strict=True)
                        data = file.get_slice(name)[tuple(slice(start, start + length) for start, length in pairs)]
                    target.copy_(data)
                    planner.commit_tensor(item, target)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Tell that no storage is chosen by name."""
        return False

    def _read_header(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
            slices = json.loads(metadata["slices"])
            for stored in file.keys():
                part = file.get_slice(stored)
                sizes = part.get_shape()
                name, shape, offset = slices.get(stored, (stored, sizes, [0] * len(sizes)))
                if self.shapes.setdefault(name, shape) != shape:
                    raise ValueError(f"{name} has two shapes")
                self.dtypes[name] = _DTYPES[part.get_dtype()]
                self._chunks.setdefault(name, []).append(ChunkStorageMetadata(torch.Size(offset), torch.Size(sizes)))
                self._places[MetadataIndex(name, offset)] = (path, stored)


def _portions(items: list[WriteItem]) -> Iterator[list[WriteItem]]:
    """Yield the items in files of limited size."""
    portion: list[WriteItem] = []
    num_bytes = 0
    for item in items:
        size = item.tensor_storage_size() or 0
        if portion and num_bytes + size > _FILE_BYTES:
            yield portion
            portion, num_bytes = [], 0
        portion.append(item)
        num_bytes += size
    if portion:
        yield portion
