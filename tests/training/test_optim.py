import pytest
import torch
from torch import nn

from cogvx.training.optim import EMA, lr_factor, make_optimizers, orthogonalise, trapezoid


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_optimizers_find_a_minimum():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    x = torch.randn(32, 4)
    optimizers = make_optimizers(module, lr=2e-2)
    first = last = None
    for _ in range(60):
        loss = (module(x) - x.flip(1)).square().mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        first, last = first or loss.item(), loss.item()
    assert last < first / 5


def test_every_weight_has_one_optimizer():
    module = nn.ModuleDict({"conv_in": nn.Conv3d(3, 4, 3), "conv": nn.Conv3d(4, 4, 3), "norm": nn.GroupNorm(2, 4)})
    owned = [id(w) for o in make_optimizers(module, lr=1e-3) for group in o.param_groups for w in group["params"]]
    assert sorted(owned) == sorted(id(w) for w in module.parameters())


def test_the_learning_rate_rises_rests_and_falls():
    factors = [trapezoid(step, 100, warmup=10, decay_share=0.4) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert set(factors[10:60]) == {1.0}
    assert factors[80] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.03


def test_a_linear_decay_ends_at_nothing():
    factors = [lr_factor(step, 100, warmup=20, decay="linear") for step in range(100)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert factors[20:] == pytest.approx([1 - step / 80 for step in range(80)])


def test_the_mean_of_weights_follows():
    module = nn.Linear(1, 1, bias=False)
    ema = EMA(module, 0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
    before = ema.weights["weight"].item()
    for _ in range(200):
        ema.update(module)
    assert ema.weights["weight"].item() == pytest.approx(1.0, abs=1e-3)
    assert before != 1.0
