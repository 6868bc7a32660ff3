"""Training state: written whole or not at all, checked before it is read, and read by any number of ranks."""

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from cogvx.distributed import World, all_sum
from cogvx.errors import InputError, MissingError, UsageError
from cogvx.files import atomic_path, free_bytes, sha256_file
from cogvx.training.optim import EMA
from cogvx.training.run_folder import COMPLETE, check, checkpoint_path, checkpoints, on_first_rank
from cogvx.training.storage import SafetensorsReader, SafetensorsWriter

SCHEMA = 1
NOTE = "state.json"
_NOTHING = object()  # in place of what one of two runs does not have


@dataclass(frozen=True)
class State:
    """What a checkpoint holds: trained weights and buffers, the optimizers' state, and the running mean.

    Attributes:
        parts: The trained parts; weights without requires_grad are not held.
        optimizers: In the task's order.
        ema: The running mean, if there is one.
    """

    parts: nn.ModuleDict
    optimizers: Sequence[torch.optim.Optimizer]
    ema: EMA | None

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by name; the tensors share the memory of what they are of."""
        found = {f"parts.{name}": value for name, value in _kept(self.parts)}
        if self.ema is not None:
            found |= {f"ema.{name}": value for name, value in self.ema.weights.items()}
        return found | {name: value for name, value in self._optimizer_state() if isinstance(value, Tensor)}

    def numbers(self) -> dict[str, Any]:
        """Return the optimizers' state that is no tensor, by name."""
        return {name: value for name, value in self._optimizer_state() if not isinstance(value, Tensor)}

    def restore(self, path: Path, numbers: Mapping[str, Any], *, world: World) -> None:
        """Read a checkpoint into the parts, the optimizers and the running mean.

        Raises:
            InputError: It is of other parts.
        """
        reader = SafetensorsReader(path)
        weights = dict(self.parts.named_parameters())
        places: dict[str, tuple[torch.optim.Optimizer, nn.Parameter, str]] = {}
        targets = {name: value.detach() for name, value in self.tensors().items() if not name.startswith("optim.")}
        for name in [*reader.shapes, *numbers]:
            if name.startswith("optim."):
                _, number, rest = name.split(".", 2)
                weight_name, _, field = rest.rpartition(".")
                if weight_name not in weights or int(number) >= len(self.optimizers):
                    raise InputError(f"{path}: another model or optimizer: there is no {weight_name} to train")
                places[name] = (self.optimizers[int(number)], weights[weight_name], field)
        for name, (optimizer, weight, field) in places.items():
            if name not in numbers:
                targets[name] = _empty(optimizer, weight, field, reader.shapes[name], reader.dtypes[name])
        _compare(path, {name: list(value.shape) for name, value in targets.items()}, reader.shapes)
        _together(lambda: dcp.load(targets, storage_reader=reader, no_dist=world.size == 1))
        for name, (optimizer, weight, field) in places.items():
            optimizer.state[weight][field] = targets[name] if name in targets else numbers[name]

    def _optimizer_state(self) -> Iterator[tuple[str, Any]]:
        names = {id(weight): name for name, weight in self.parts.named_parameters()}
        for number, optimizer in enumerate(self.optimizers):
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    for field, value in optimizer.state.get(weight, {}).items():
                        yield f"optim.{number}.{names[id(weight)]}.{field}", value


def save(folder: Path, step: int, state: State, note: Mapping[str, Any], *, world: World) -> Path:
    """Write a checkpoint into a run folder and return its path; all ranks call this.

    It is made under a temporary name, flushed to the disk, marked as complete with the hashes of its files, and then
    renamed.

    Raises:
        MissingError: The disk is full; nothing else changed.
    """
    target = checkpoint_path(folder, step)
    tensors = state.tensors()
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with contextlib.ExitStack() as stack:

        def begin() -> Path:
            if (free := free_bytes(folder)) < needed:
                raise MissingError(f"disk full: a checkpoint needs {needed:,} bytes, {free:,} are free at {folder}")
            workshop = stack.enter_context(atomic_path(target))
            workshop.mkdir()
            return workshop

        workshop = on_first_rank(world, begin)
        writer = SafetensorsWriter(workshop)
        _together(lambda: dcp.save(dict(tensors), storage_writer=writer, no_dist=world.size == 1))

        def finish() -> None:
            whole_note = {"schema": SCHEMA, "step": step, "numbers": state.numbers(), **note}
            path = workshop / NOTE
            path.write_text(json.dumps(whole_note, indent=1) + "\n", encoding="utf-8")
            files = {**writer.files, NOTE: {"size": path.stat().st_size, "sha256": sha256_file(path)}}
            marker = {"step": step, "schema": SCHEMA, "files": dict(sorted(files.items()))}
            (workshop / COMPLETE).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
            stack.close()  # flushed and renamed here

        on_first_rank(world, finish)
    return target


def choose(folder: Path, resume: str, *, world: World, tell: Callable[[str], None]) -> Path:
    """Return the checkpoint to go on from, its files checked.

    Args:
        folder: The run folder.
        resume: "latest": the newest one that is whole; or the path of one, which may lie in another folder.
        world: The ranks; they share the work.
        tell: Takes a line about each damaged one.

    Raises:
        UsageError: There is none.
        InputError: The one that was named, or every one, is damaged.
    """
    if resume != "latest":
        path = Path(resume)
        if not path.is_dir():
            raise UsageError(f"no checkpoint {path}; give a folder such as {checkpoint_path(folder, 500)}, or latest")
        if problem := _problem(path, world):
            raise InputError(problem)
        return path
    found = on_first_rank(world, lambda: list(reversed(checkpoints(folder).values())))
    if not found:
        raise UsageError(f"{folder} has no checkpoint to go on from; start without --resume")
    problems = []
    for path in found:
        problem = _problem(path, world)
        if problem is None:
            return path
        problems.append(problem)
        tell(f"skipped a checkpoint: {problem}")
    raise InputError(f"no checkpoint of {folder} is whole: {problems[0]}")


def read_note(path: Path) -> dict[str, Any]:
    """Return what was noted beside a checkpoint's tensors.

    Raises:
        InputError: It cannot be read.
        UsageError: It was written by another version of cogvx in a form that this one does not know.
    """
    try:
        note = json.loads((path / NOTE).read_bytes())
        schema = note["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path / NOTE}: cannot be read: {error}") from error
    if schema != SCHEMA:
        raise UsageError(f"{path}: schema {schema}; this version of cogvx reads schema {SCHEMA}")
    return note


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one "name: then -> now" for each entry that two runs do not share; of tables and lists, what differs."""
    return list(_differences("", then, now))


def _differences(key: str, then: Any, now: Any) -> Iterator[str]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        names = sorted({*then, *now})
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        names = list(range(len(then)))
        then, now = dict(enumerate(then)), dict(enumerate(now))
    else:
        if (None if then is _NOTHING else then) != (None if now is _NOTHING else now):
            yield f"{key}: {_shown(then)} -> {_shown(now)}"
        return
    for name in names:
        place = f"{key}.{name}" if key else str(name)
        yield from _differences(place, then.get(name, _NOTHING), now.get(name, _NOTHING))


def _shown(value: Any) -> str:
    return "nothing" if value is _NOTHING else json.dumps(value)


def _problem(path: Path, world: World) -> str | None:
    """What is wrong with a checkpoint, the same on every rank; None if nothing is."""
    problem = ""
    try:
        check(path, share=(world.rank, world.size))
    except InputError as error:
        problem = str(error)
    bad = all_sum(torch.tensor(float(bool(problem)), device=world.device), world=world)
    if not bad:
        return None
    return problem or f"{path}: damaged, as another rank says"


def _kept(parts: nn.ModuleDict) -> Iterator[tuple[str, Tensor]]:
    """Yield trained weights and persistent buffers, each once."""
    for name, weight in parts.named_parameters():
        if weight.requires_grad:
            yield name, weight.detach()
    for prefix, module in parts.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                yield f"{prefix}.{name}", buffer


def _empty(
    optimizer: torch.optim.Optimizer, weight: nn.Parameter, field: str, shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    """Return a place for a tensor of an optimizer's state: sharded like its weight if it has its shape."""
    if list(weight.shape) == list(shape) and weight.ndim:
        return torch.zeros_like(weight, dtype=dtype, requires_grad=False).detach()
    on_device = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
    device = "cpu" if field == "step" and not on_device else weight.device  # where PyTorch's optimizers keep it
    return torch.zeros(list(shape), dtype=dtype, device=device)


def _compare(path: Path, wanted: Mapping[str, Sequence[int]], got: Mapping[str, Sequence[int]]) -> None:
    problems = [f"{name} is missing" for name in sorted(set(wanted) - set(got))]
    problems += [f"{name} is unknown here" for name in sorted(set(got) - set(wanted))]
    problems += [
        f"{name} has the shape {list(got[name])} instead of {list(shape)}"
        for name, shape in sorted(wanted.items())
        if name in got and list(got[name]) != list(shape)
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise InputError(f"{path}: a checkpoint of another model: {'; '.join(problems[:3])}{more}")


def _together(body: Callable[[], Any]) -> None:
    """Run a collective save or load; raise the error of the rank that failed instead of a list of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            body()
        except CheckpointException as error:
            raise next(iter(error.failures.values()))[0] from error
