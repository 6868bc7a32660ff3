"""The same training on one device or many: sharded parts, summed gradients, one norm."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from cogvx.distributed import World, all_sum
from cogvx.training.optim import local_slice
from cogvx.training.task import Loss

T = TypeVar("T")
_BUCKET = 2**24  # numbers that are summed over the ranks in one message


class Parallel:
    """The parts of a task on this world's devices."""

    def __init__(self, parts: nn.ModuleDict, world: World, *, shard: bool) -> None:
        """Make the ranks' weights equal (those of rank 0), and shard them where asked.

        Args:
            parts: The trained parts, the same on every rank.
            world: The ranks.
            shard: Spread weights over all ranks (FSDP2); the items of a part's lists of blocks are gathered one at a
                time, everything else stays gathered during a forward and a backward pass.
        """
        self.world = world
        self.sharded = shard and world.size > 1
        self._root = _Root(parts)
        if world.size > 1:
            for tensor in [*parts.parameters(), *parts.buffers()]:
                dist.broadcast(tensor.detach(), src=0)
        if self.sharded:
            mesh = init_device_mesh(world.device.type, (world.size,), mesh_dim_names=("all",))
            for module in [*blocks_of(parts), self._root]:
                fully_shard(module, mesh=mesh, reshard_after_forward=True)
            for sharded in self._sharded_modules():
                # Losses are parts of a sum already; averaging would divide them twice.
                sharded.set_gradient_divide_factor(1.0)
                sharded.set_force_sum_reduction_for_comms(True)

    def loss(self, body: Callable[[], Loss]) -> Loss:
        """Return the loss that a function computes with the parts."""
        found: list[Loss] = []

        def value() -> Tensor:
            found.append(body())
            return found[0].value

        # FSDP must see the tensor on which backward is called.
        tensor = self._root(value)
        return replace(found[0], value=tensor)

    @torch.no_grad()
    def call(self, body: Callable[[], T]) -> T:
        """Return what a function computes with the parts, without gradients; every rank must call this."""
        found: list[T] = []
        self._root(lambda: found.append(body()))
        return found[0]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Give the parts of rank 0 whole weights, on the CPU where they were sharded, to be read; all ranks call this.

        FSDP's own unsharded state will not do: `state_dict` gives slices in it too.
        """
        slices: list[tuple[nn.Module, str, nn.Parameter]] = []
        fulls: dict[int, nn.Parameter] = {}
        for module in self._root.parts.modules():
            for name, weight in module._parameters.items():
                if not isinstance(weight, DTensor):
                    continue
                slices.append((module, name, weight))
                if id(weight) not in fulls:
                    full = weight.detach().full_tensor()
                    if self.world.rank == 0:
                        fulls[id(weight)] = nn.Parameter(full.cpu(), requires_grad=weight.requires_grad)
        try:
            for module, name, weight in slices:
                module._parameters[name] = fulls.get(id(weight), weight)
            yield
        finally:
            for module, name, weight in slices:
                module._parameters[name] = weight

    def sum_gradients(self, weights: Sequence[Tensor]) -> None:
        """Sum gradients over all ranks; sharded ones have been already, in the backward pass."""
        if self.world.size == 1 or self.sharded:
            return
        used = torch.tensor([float(weight.grad is not None) for weight in weights], device=self.world.device)
        dist.all_reduce(used)
        gradients = []
        for weight, count in zip(weights, used.tolist(), strict=True):
            if count and weight.grad is None:  # used on another rank
                weight.grad = torch.zeros_like(weight)
            if weight.grad is not None:
                gradients.append(weight.grad)
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, total in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(total.view_as(gradient))

    def gradient_norm(self, weights: Sequence[Tensor]) -> Tensor:
        """Return the norm of all gradients together, a float64 scalar that is the same on every rank."""
        total = torch.zeros((), dtype=torch.float64, device=self.world.device)
        gradients = [local_slice(weight.grad) for weight in weights if weight.grad is not None]
        if gradients:
            total += torch.stack(torch._foreach_norm(gradients)).double().square().sum()
        return (all_sum(total, world=self.world) if self.sharded else total).sqrt()

    def _sharded_modules(self) -> list[FSDPModule]:
        return [module for module in self._root.modules() if isinstance(module, FSDPModule)]


class _Root(nn.Module):
    """Runs any function as one forward pass, so that FSDP need not know which of the parts' methods are called."""

    def __init__(self, parts: nn.ModuleDict) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, body: Callable[[], Any]) -> Any:
        return body()


def blocks_of(parts: nn.ModuleDict) -> list[nn.Module]:
    """Return the items of the lists of modules that the parts have, such as a transformer's blocks."""
    lists = (child for part in parts.values() for child in part.children() if isinstance(child, nn.ModuleList))
    return [block for blocks in lists for block in blocks]


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield tensors of one type together, up to a size."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (bucket[0].dtype != tensor.dtype or sum(t.numel() for t in bucket) + tensor.numel() > _BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
