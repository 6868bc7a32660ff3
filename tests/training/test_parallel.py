"""Two processes compute what one computes, sharded or not, and take over each other's checkpoints."""

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from toy_task import digest, losses, run, toy_recipe

from cogvx.distributed import alone
from cogvx.errors import UsageError
from cogvx.training.optim import Muon
from cogvx.training.parallel import Parallel
from cogvx.training.run_folder import check, checkpoints


def on_rank(world, folder, recipe, options=None):
    torch.set_num_threads(1)
    report = run(world, folder, recipe, **(options or {}))
    return report.records, report.notes


def stop_at(world, folder, recipe, step, options=None):
    class Crash(Exception):
        pass

    def crash(now):
        if now == step:
            raise Crash

    with pytest.raises(Crash):
        run(world, folder, recipe, before_loss=crash, **(options or {}))


def refused(world, folder, recipe):
    with pytest.raises(UsageError, match=r"ranks: 2 -> 1|ranks: 1 -> 2"):
        run(world, folder, recipe, resume="latest")


def full_disk(world, folder, recipe):
    from cogvx.errors import MissingError
    from cogvx.training import storage

    if world.rank == 1:  # only the other rank's disk is full

        def fail(*args, **options):
            raise OSError(28, "No space left on device")

        storage.save_file = fail
    with pytest.raises(MissingError, match="disk full"):
        run(world, folder, recipe)


def not_a_number(world, folder, recipe):
    options = {"nan_at": 4} if world.rank == 1 else {}
    with pytest.raises(UsageError, match="step 5"):
        run(world, folder, recipe, **options)


def unequal_gradients(world):
    parts = torch.nn.ModuleDict({"a": torch.nn.Linear(1, 1, bias=False), "b": torch.nn.Linear(1, 1, bias=False)})
    parallel = Parallel(parts, world, shard=False)
    weights = list(parts.parameters())
    if world.rank == 0:
        weights[0].grad = torch.ones(1, 1)
    parallel.sum_gradients(weights)
    return weights[0].grad, weights[1].grad, weights[0].detach()


def muon_step(world):
    generator = torch.Generator().manual_seed(0)
    whole = torch.nn.Parameter(torch.randn(7, 5, generator=generator))
    gradient = torch.randn(7, 5, generator=generator)
    mesh = init_device_mesh("cpu", (world.size,))
    sharded = torch.nn.Parameter(distribute_tensor(whole.detach().clone(), mesh, [Shard(0)]))
    whole.grad, sharded.grad = gradient, distribute_tensor(gradient, mesh, [Shard(0)])
    for weight in (whole, sharded):
        Muon([weight], lr=0.1, weight_decay=0.1).step()
    return whole.detach(), sharded.detach().full_tensor()


def result(folder, name="net"):
    return load_file(folder / "model" / f"{name}.safetensors")


def close(a, b):
    assert a.keys() == b.keys()
    for name in a.keys() - {"count"}:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-4)  # Adam's first steps magnify what is small


@pytest.mark.parametrize("shard", [False, True], ids=["replicated", "sharded"])
@pytest.mark.parametrize("optim", ["adamw", "muon"])
@pytest.mark.parametrize("task,name", [("toy", "net"), ("transformer", "transformer")])
def test_two_ranks_give_one_ranks_losses(tmp_path, ranks, shard, optim, task, name):
    recipe = toy_recipe(optim={"name": optim, "clip": 0.5}, shard=shard, accumulate=2, preview_every=6)
    if task == "transformer":
        recipe = toy_recipe(6, optim={"name": optim, "clip": 0.5}, shard=shard)
    ranks(2, on_rank, tmp_path / "two", recipe, {"task": task})
    ranks(1, on_rank, tmp_path / "one", recipe, {"task": task})
    # Muon rounds to bf16 before it orthogonalises, which makes more of the order in which gradients are summed.
    tolerance = 1e-5 if optim == "adamw" else 1e-3
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=tolerance)
    if optim == "adamw":
        close(result(tmp_path / "two", name), result(tmp_path / "one", name))
    for path in checkpoints(tmp_path / "two").values():
        check(path)
        assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("shard", [False, True], ids=["replicated", "sharded"])
def test_two_ranks_that_share_a_clip_sum_their_gradients(tmp_path, ranks, shard):
    recipe = toy_recipe(6, shard=shard, context=2)
    ranks(2, on_rank, tmp_path / "two", recipe, context=2)
    ranks(1, on_rank, tmp_path / "one", recipe)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    clips = [record["clips"] for record in ranks(1, on_rank, tmp_path / "again", recipe)[0][0] if "clips" in record]
    assert clips == [16, 16, 16]


@pytest.mark.parametrize("shard", [False, True], ids=["replicated", "sharded"])
@pytest.mark.parametrize("first,second", [(2, 1), (1, 2), (2, 2)])
def test_a_checkpoint_goes_on_with_another_number_of_ranks(tmp_path, ranks, shard, first, second):
    recipe = toy_recipe(shard=shard)
    ranks(first, stop_at, tmp_path / "run", recipe, 7)
    if first != second:
        ranks(second, refused, tmp_path / "run", recipe)
    ranks(second, on_rank, tmp_path / "run", recipe, {"resume": "latest", "allow_changes": first != second})
    ranks(second, on_rank, tmp_path / "whole", recipe)
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    close(result(tmp_path / "run"), result(tmp_path / "whole"))
    if first == second:
        assert digest(tmp_path / "run") == digest(tmp_path / "whole")


def test_a_sharded_checkpoint_is_spread_over_the_ranks(tmp_path, ranks):
    ranks(2, on_rank, tmp_path, toy_recipe(3, shard=True))
    files = [load_file(path) for path in sorted((tmp_path / "checkpoint-000003").glob("*.safetensors"))]
    weights = [next(value for name, value in file.items() if "parts.net.first.weight" in name) for file in files]
    assert [list(weight.shape) for weight in weights] == [[5, 6], [5, 6]]
    assert list(result(tmp_path)["first.weight"].shape) == [10, 6]


def test_one_full_disk_stops_every_rank(tmp_path, ranks):
    ranks(2, full_disk, tmp_path, toy_recipe(shard=True))
    assert not checkpoints(tmp_path)
    assert not list(tmp_path.glob(".cogvx-tmp-*"))


def test_one_ranks_bad_number_stops_every_rank(tmp_path, ranks):
    ranks(2, not_a_number, tmp_path, toy_recipe())
    assert list(checkpoints(tmp_path)) == [3, 4]


def test_a_sharded_weight_takes_the_step_of_a_whole_one(ranks):
    for whole, sharded in ranks(2, muon_step):
        assert torch.equal(whole, sharded)


def test_a_gradient_of_one_rank_only_is_summed(ranks):
    for used, unused, weight in ranks(2, unequal_gradients):
        assert used == 1 and unused is None
        first = weight
    assert alone().size == 1 and first.shape == (1, 1)
