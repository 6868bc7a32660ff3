"""What travels between ranks, and back as gradients, on real processes."""

import pytest
import torch

from cogvx import distributed
from cogvx.errors import ShapeError, UsageError


def describe(world):
    return (world.rank, world.data_rank, world.context_rank, world.data_size, world.context_size)


def use_halo(world, sizes):
    """Every rank weighs its slice and its neighbour's end; twice, the second time on what came of the first."""
    whole = torch.arange(float(sum(sizes)) * 2).reshape(1, -1, 2)
    x = whole.split(sizes, dim=1)[world.context_rank].clone().requires_grad_()
    first = x * 2
    loss = 0
    for scale in (1.0, 10.0):
        previous = distributed.halo(first, 2, dim=1, world=world)
        loss = loss + scale * (first * (1 + world.rank)).sum()
        if previous is not None:
            loss = loss + scale * (previous * (100 * world.rank)).sum()
            first = first + previous.sum()
        else:
            first = first * 1
    loss.backward()
    return x.grad, None if previous is None else previous.detach()


def halo_of_few(world):
    with pytest.raises(ShapeError, match="2 slices"):
        distributed.halo(torch.zeros(1, 3), 2, dim=0, world=world)


def use_gather(world, sizes):
    whole = torch.arange(float(sum(sizes)) * 3).reshape(3, -1)
    x = whole.split(sizes, dim=1)[world.context_rank].clone().requires_grad_()
    joined = distributed.gather(x * 2, dim=-1, world=world)
    (joined * (1 + world.rank)).sum().backward()
    return joined.detach(), x.grad


def use_sum(world):
    x = torch.full((2,), float(world.rank + 1))
    total = distributed.all_sum(x, world=world)
    distributed.wait_for_all(world)
    return x, total


def test_a_world_of_one_is_the_identity():
    world = distributed.start(device="cpu")
    x = torch.randn(2, 3)
    assert world == distributed.alone()
    assert distributed.halo(x, 1, dim=0, world=world) is None
    assert distributed.gather(x, dim=0, world=world) is x
    assert torch.equal(distributed.all_sum(x, world=world), x)
    distributed.stop(world)


def test_one_process_cannot_share_a_clip():
    with pytest.raises(UsageError, match="torchrun"):
        distributed.start(context=2, device="cpu")


def test_the_mesh_has_neighbours_in_one_context_group(ranks):
    assert ranks(4, describe, context=2) == [(0, 0, 0, 2, 2), (1, 0, 1, 2, 2), (2, 1, 0, 2, 2), (3, 1, 1, 2, 2)]


def test_a_halo_is_the_end_of_the_previous_slice(ranks):
    (_, nothing), (_, got) = ranks(2, use_halo, [3, 4], context=2)
    assert nothing is None
    assert torch.equal(got, torch.arange(2.0, 6.0).reshape(1, 2, 2) * 2)


@pytest.mark.parametrize("sizes", [[3, 4], [2, 3, 2]])
def test_the_gradient_of_a_halo_goes_to_its_owner(ranks, sizes):
    # The same computation on one process, with plain slices.
    whole = torch.arange(float(sum(sizes)) * 2).reshape(1, -1, 2).requires_grad_()
    firsts = [part * 2 for part in whole.split(sizes, dim=1)]
    loss = 0
    for scale in (1.0, 10.0):
        ends = [part[:, -2:] for part in firsts]
        for rank, part in enumerate(firsts):
            loss = loss + scale * (part * (1 + rank)).sum()
            if rank:
                loss = loss + scale * (ends[rank - 1] * (100 * rank)).sum()
        firsts = [part + ends[rank - 1].sum() if rank else part * 1 for rank, part in enumerate(firsts)]
    loss.backward()
    got = ranks(len(sizes), use_halo, sizes, context=len(sizes))
    assert torch.equal(torch.cat([grad for grad, _ in got], dim=1), whole.grad)


def test_a_slice_shorter_than_the_halo_is_an_error(ranks):
    ranks(2, halo_of_few, context=2)


@pytest.mark.parametrize("sizes", [[2, 2], [1, 3], [3, 0]])
def test_gathered_slices_are_the_whole(ranks, sizes):
    whole = torch.arange(float(sum(sizes)) * 3).reshape(3, -1) * 2
    for size, (joined, grad) in zip(sizes, ranks(2, use_gather, sizes, context=2), strict=True):
        assert torch.equal(joined, whole)
        assert torch.equal(grad, torch.full((3, size), 6.0))  # 2 x (1 + 2): both ranks' use counts


def test_a_sum_is_over_all_ranks(ranks):
    for rank, (x, total) in enumerate(ranks(2, use_sum)):
        assert torch.equal(x, torch.full((2,), float(rank + 1)))
        assert torch.equal(total, torch.full((2,), 3.0))
