"""The processes that work together: which one this is, and how slices of a clip travel between them.

Ranks form a mesh of data x context: those of one context group share a clip, cut along one axis; the groups read
different clips. A process on its own is a world of one, in which every function here is the identity.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from cogvx.errors import MissingError, ShapeError, UsageError

# Sends of gradients that may still be under way; the buffers must live until then.
_pending: list[tuple[Any, Tensor]] = []
# Number of halos so far, the same on all ranks; it tells the messages of several halos apart.
_halos = 0


@dataclass(frozen=True)
class World:
    """The processes of this run, seen from one of them.

    Attributes:
        rank: Which process this is.
        size: How many there are: data_size x context_size.
        device: Where this process computes.
        data_rank: Which replica of the data this process reads; the same within a context group.
        data_size: How many replicas there are.
        context_rank: Place in the group that shares one clip.
        context_size: How many processes share one clip.
        mesh: The device mesh ("data", "context"); None in a single process.
        context_group: The ranks that share this one's clip; None in a single process.
        data_group: The ranks with this one's place in their own context groups; None in a single process.
    """

    rank: int
    size: int
    device: torch.device
    data_rank: int
    data_size: int
    context_rank: int
    context_size: int
    mesh: DeviceMesh | None = None
    context_group: ProcessGroup | None = None
    data_group: ProcessGroup | None = None


def alone(device: torch.device | str = "cpu") -> World:
    """Return a world of one process."""
    return World(0, 1, torch.device(device), 0, 1, 0, 1)


def start(*, context: int = 1, device: str = "auto", timeout: float = 1800.0) -> World:
    """Join the processes that torchrun started; without torchrun, return a world of one.

    Args:
        context: How many neighbouring ranks share one clip.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N"; under torchrun every process on a machine
            takes its own CUDA device.
        timeout: Seconds after which a rank that waits for another gives up.

    Raises:
        UsageError: The number of processes cannot be divided so.
        MissingError: There are fewer CUDA devices than processes on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if context < 1 or size % context:
        raise UsageError(
            f"{size} process{'es' if size > 1 else ''} cannot form groups of {context} that share a clip; "
            "start a multiple of it with `torchrun --nproc-per-node N -m cogvx train ...`"
        )
    if size == 1:
        return alone(device)
    where = _own_device(torch.device(device))
    backend = "nccl" if where.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    mesh = init_device_mesh(where.type, (size // context, context), mesh_dim_names=("data", "context"))
    return World(
        rank=dist.get_rank(),
        size=size,
        device=where,
        data_rank=mesh.get_local_rank("data"),
        data_size=size // context,
        context_rank=mesh.get_local_rank("context"),
        context_size=context,
        mesh=mesh,
        context_group=mesh.get_group("context"),
        data_group=mesh.get_group("data"),
    )


def stop(world: World) -> None:
    """Leave the other processes; a world of one has nothing to leave."""
    _finish_sends()
    if world.mesh is not None and dist.is_initialized():
        dist.destroy_process_group()


def halo(x: Tensor, num: int, *, dim: int, world: World) -> Tensor | None:
    """Return the last slices of the previous context rank; None on the first one and in a world of one.

    The gradient goes back to the rank that owns the slices: it is added to the gradient of its `x`, which must
    therefore be used there too. All ranks of the group must call this in the same order.

    Args:
        x: This rank's slice; sizes may differ between ranks along `dim` only.
        num: How many slices, not more than any rank has.
        dim: The axis along which the clip was cut.
        world: Who shares the clip.

    Raises:
        ShapeError: A rank has fewer slices than `num`.
    """
    global _halos
    if world.context_size == 1 or num == 0:
        return None
    if x.shape[dim] < num:
        raise ShapeError(f"a neighbour needs {num} slices of axis {dim}, but this rank has {x.shape[dim]}")
    _halos += 1
    tag = 2 * (_halos % 2**20)
    if x.requires_grad and torch.is_grad_enabled() and world.context_rank + 1 < world.context_size:
        # A hook, not a node of the graph: the last ranks' slices have no other way back into this rank's backward.
        x.register_hook(lambda grad: _take_back(grad, num, dim, tag + 1, world))
    previous: Tensor | None = _Halo.apply(x, num, dim, tag, world)
    return previous


def gather(x: Tensor, *, dim: int, world: World) -> Tensor:
    """Return the slices of all context ranks, joined in order of rank, on every rank.

    The gradient of a slice is the sum of what all ranks make of it; where every rank computes the same loss from the
    whole, each must count 1/context_size of it.

    Args:
        x: This rank's slice; sizes may differ between ranks along `dim` only (0 included).
        dim: The axis along which to join.
        world: Who shares the clip.
    """
    if world.context_size == 1:
        return x
    joined: Tensor = _Gather.apply(x, dim % x.ndim, world)
    return joined


def all_sum(x: Tensor, *, world: World) -> Tensor:
    """Return the sum of a tensor over all ranks, without gradient; `x` stays as it is."""
    total = x.detach().clone()
    if world.size > 1:
        dist.all_reduce(total)
    return total


def wait_for_all(world: World) -> None:
    """Return once every rank has come here."""
    if world.size > 1:
        dist.barrier(device_ids=[world.device.index] if world.device.type == "cuda" else None)


class _Halo(torch.autograd.Function):
    """The exchange of `halo`; backward sends the gradient to the owner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, num: int, dim: int, tag: int, world: World) -> Tensor | None:
        ctx.tag, ctx.world = tag, world
        _finish_sends()
        operations, previous = [], None
        group = world.context_group
        if world.context_rank + 1 < world.context_size:
            last = x.detach().narrow(dim, x.shape[dim] - num, num).contiguous()
            operations.append(dist.P2POp(dist.isend, last, group=group, tag=tag, group_peer=world.context_rank + 1))
        if world.context_rank > 0:
            previous = x.new_empty(_resized(x, dim, num))
            operations.append(dist.P2POp(dist.irecv, previous, group=group, tag=tag, group_peer=world.context_rank - 1))
        for work in dist.batch_isend_irecv(operations):
            work.wait()
        return previous

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:  # type: ignore[override]
        grad = grad.contiguous()
        world = ctx.world
        # Not waited for: the owner may come to it later than to other halos.
        work = dist.isend(grad, group=world.context_group, tag=ctx.tag + 1, group_dst=world.context_rank - 1)
        _pending.append((work, grad))
        return None, None, None, None, None


def _take_back(grad: Tensor, num: int, dim: int, tag: int, world: World) -> Tensor:
    """Return the gradient of a slice with the next rank's share of its end."""
    share = grad.new_empty(_resized(grad, dim, num))
    dist.recv(share, group=world.context_group, tag=tag, group_src=world.context_rank + 1)
    total = grad.clone(memory_format=torch.contiguous_format)
    total.narrow(dim, grad.shape[dim] - num, num).add_(share)
    return total


class _Gather(torch.autograd.Function):
    """The exchange of `gather`; backward sums each slice's gradients at its owner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, world: World) -> Tensor:
        size = torch.tensor([x.shape[dim]], device=x.device)
        sizes = [torch.empty_like(size) for _ in range(world.context_size)]
        dist.all_gather(sizes, size, group=world.context_group)
        ctx.dim, ctx.world, ctx.sizes = dim, world, [int(n) for n in sizes]
        longest = max(ctx.sizes)
        padded = _pad(x.detach(), dim, longest)  # every rank must send the same number of bytes
        parts = [torch.empty_like(padded) for _ in ctx.sizes]
        dist.all_gather(parts, padded, group=world.context_group)
        return torch.cat([part.narrow(dim, 0, n) for part, n in zip(parts, ctx.sizes, strict=True)], dim=dim)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        dim, world, longest = ctx.dim, ctx.world, max(ctx.sizes)
        shares = torch.stack([_pad(share, dim, longest) for share in grad.split(ctx.sizes, dim=dim)])
        own = torch.empty_like(shares[0])
        dist.reduce_scatter_tensor(own, shares.flatten(0, 1) if own.ndim else shares, group=world.context_group)
        return own.narrow(dim, 0, ctx.sizes[world.context_rank]), None, None


def _own_device(device: torch.device) -> torch.device:
    """The device of this process among those of its machine."""
    if device.type != "cuda":
        return device
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if place >= torch.cuda.device_count():
        raise MissingError(f"process {place + 1} of this machine has no CUDA device: {torch.cuda.device_count()} here")
    own = torch.device("cuda", place)
    torch.cuda.set_device(own)
    return own


def _finish_sends() -> None:
    while _pending:
        work, _ = _pending.pop()
        work.wait()


def _resized(x: Tensor, dim: int, size: int) -> list[int]:
    shape = list(x.shape)
    shape[dim] = size
    return shape


def _pad(x: Tensor, dim: int, size: int) -> Tensor:
    """Return a contiguous copy with zeros behind, `size` long along an axis."""
    if x.shape[dim] == size:
        return x.contiguous()
    return torch.cat([x, x.new_zeros(_resized(x, dim, size - x.shape[dim]))], dim=dim)
