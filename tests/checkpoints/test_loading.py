import gc
import weakref

import pytest
import torch
from torch import nn

from cogvx.checkpoints.loading import load_module
from cogvx.checkpoints.weights import StoredTensor
from cogvx.errors import InputError


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.second = nn.Linear(3, 2, bias=False)
        self.register_buffer("table", torch.zeros(5))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))


def stored(module: nn.Module) -> dict[str, StoredTensor]:
    return {name: StoredTensor.of(tensor.clone()) for name, tensor in module.state_dict().items()}


def test_every_tensor_arrives():
    reference = Small()
    reference.table.normal_()
    module = load_module(Small, stored(reference), name="small")
    assert not module.training and all(parameter.requires_grad for parameter in module.parameters())
    for name, tensor in reference.state_dict().items():
        assert torch.equal(module.state_dict()[name], tensor)


def test_types():
    module = load_module(
        Small, stored(Small()), name="small", dtype=torch.float16, keep_fp32=lambda key: key.startswith("second")
    )
    assert module.first.weight.dtype == module.table.dtype == torch.float16
    assert module.second.weight.dtype == torch.float32 and module.counts.dtype == torch.int64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("table"), "1 missing: table"),
        (lambda w: w.update(more=StoredTensor.of(torch.zeros(1))), "1 unexpected: more"),
        (lambda w: w.update(table=StoredTensor.of(torch.zeros(6))), r"table is \(6,\), not \(5,\)"),
        (lambda w: w.clear(), "5 missing: counts, first.bias, first.weight, second.weight and 1 more"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_read(change, message):
    def forbidden() -> torch.Tensor:
        raise AssertionError("read")

    weights = {name: StoredTensor(s.shape, s.dtype, forbidden) for name, s in stored(Small()).items()}
    change(weights)
    with pytest.raises(InputError, match=message):
        load_module(Small, weights, name="small")


def test_only_one_tensor_is_held_besides_the_module():
    """Every tensor that was read and converted is gone when the next one is read: no second copy builds up."""
    alive: list[weakref.ref] = []
    most = []

    def watched(tensor: torch.Tensor):
        def read() -> torch.Tensor:
            gc.collect()
            most.append(sum(ref() is not None for ref in alive))
            fresh = tensor.clone()
            alive.append(weakref.ref(fresh))
            return fresh

        return StoredTensor(tuple(tensor.shape), tensor.dtype, read)

    weights = {name: watched(tensor) for name, tensor in Small().state_dict().items() if tensor.is_floating_point()}
    weights["counts"] = StoredTensor.of(torch.zeros(2, dtype=torch.int64))
    load_module(Small, weights, name="small", dtype=torch.bfloat16)
    assert len(most) == 4 and max(most) == 0


@pytest.mark.parametrize("kept", [("a.weight",), ("b.weight",), ("a.weight", "b.weight")])
def test_tied_tensors_need_to_be_there_once(kept):
    def build() -> nn.Module:
        module = nn.ModuleDict({"a": nn.Embedding(3, 2), "b": nn.Embedding(3, 2)})
        module["b"].weight = module["a"].weight
        return module

    table = torch.randn(3, 2)
    weights = {name: StoredTensor.of(table.clone()) for name in kept}
    module = load_module(build, weights, name="tied", aliases={"b.weight": "a.weight"})
    assert module["a"].weight is module["b"].weight and torch.equal(module["a"].weight, table)


def test_ignored_keys():
    weights = stored(Small()) | {"decoder.x": StoredTensor.of(torch.zeros(1))}
    load_module(Small, weights, name="small", ignore=("decoder.",))
    with pytest.raises(InputError):
        load_module(Small, weights, name="small")
