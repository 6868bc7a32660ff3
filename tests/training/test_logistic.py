import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from cogvx.training.logistic import calibrate, class_weights, fit_logistic


def problem(n=120, p=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    design = torch.randn(n, p, generator=generator, dtype=torch.float64)
    chance = torch.sigmoid(design @ torch.linspace(-1.5, 1.5, p, dtype=torch.float64) - 0.7)
    return design, (torch.rand(n, generator=generator, dtype=torch.float64) < chance).double()


def test_the_fit_is_the_optimum_that_a_general_solver_finds():
    design, truth = problem()
    weight = class_weights(truth)
    ridge = torch.tensor([[1e-3] * 6, [0.1] * 3 + [1.0] * 3], dtype=torch.float64)
    weights, biases = fit_logistic(design, truth, ridge, weight)
    x, y, share = design.numpy(), truth.numpy(), (weight / weight.sum()).numpy()
    for i in range(2):
        held = ridge[i].numpy()

        def loss(point, held=held):
            logits = x @ point[:-1] + point[-1]
            return (share * (np.logaddexp(0, logits) - y * logits)).sum() + (held * point[:-1] ** 2).sum() / 2

        found = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-9}).x
        assert np.allclose(weights[i].numpy(), found[:-1], atol=1e-5) and abs(float(biases[i]) - found[-1]) < 1e-5


def test_classes_that_a_line_separates_have_a_finite_fit():
    design = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    truth = (design[:, 0] > 0).double()
    weights, biases = fit_logistic(design, truth, torch.tensor([[1e-6]], dtype=torch.float64), torch.ones(20).double())
    assert weights.isfinite().all() and ((design @ weights[0] + biases[0] > 0) == (truth > 0)).all()


def test_a_strong_ridge_leaves_the_share_of_each_class():
    design, truth = problem()
    weights, biases = fit_logistic(
        design, truth, torch.full((1, 6), 1e9, dtype=torch.float64), torch.ones(120, dtype=torch.float64)
    )
    assert weights.abs().max() < 1e-6
    assert float(torch.sigmoid(biases[0])) == pytest.approx(float(truth.mean()), abs=1e-6)


def test_both_classes_weigh_the_same():
    truth = torch.tensor([1.0, 0, 0, 0])
    weight = class_weights(truth)
    assert weight[truth > 0].sum() == weight[truth == 0].sum() == 2


def test_calibration_undoes_a_slope_and_an_offset():
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(20_000, generator=generator, dtype=torch.float64) * 2
    truth = (torch.rand(20_000, generator=generator, dtype=torch.float64) < torch.sigmoid(honest)).double()
    slope, offset = calibrate(honest * 3 - 5, truth)
    assert slope == pytest.approx(1 / 3, abs=0.02) and offset == pytest.approx(5 / 3, abs=0.1)


def test_logits_that_are_worse_than_chance_give_everybody_the_share():
    logits = torch.linspace(-2, 2, 100, dtype=torch.float64)
    slope, offset = calibrate(logits, (logits < -1).double())
    assert slope == 0
    assert float(torch.sigmoid(torch.tensor(offset))) == pytest.approx(0.25, abs=0.02)
