"""Logistic regression with a ridge, for many strengths of the ridge at once, solved exactly: the same on every run."""

import torch
from einops import rearrange
from torch import Tensor

_STEPS, _HALVINGS = 60, 30
_SMALL = 1e-9  # largest gradient of a solution


def fit_logistic(design: Tensor, truth: Tensor, ridge: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights and biases that fit clips best, one solution for each ridge, by Newton's method.

    Least is: the mean, by weight, of the log loss, plus half the sum of ridge times squared weight. The bias is free.

    Args:
        design: (n p) float64.
        truth: (n,) 0 or 1.
        ridge: (c p), above 0: how strongly each weight is held at 0, in each of c fits.
        weight: (n,) how much each clip counts; some of both kinds.

    Returns:
        Weights (c p) and biases (c,).
    """
    n, p = design.shape
    count = len(ridge)
    share = weight / weight.sum()
    columns = torch.cat([design, torch.ones(n, 1, dtype=design.dtype)], dim=1)
    held = torch.cat([ridge, torch.zeros(count, 1, dtype=design.dtype)], dim=1)
    solution = torch.zeros(count, p + 1, dtype=design.dtype)
    loss = _loss(solution, columns, truth, share, held)
    for _ in range(_STEPS):
        logits = solution @ columns.T  # (c n)
        chance = torch.sigmoid(logits)
        gradient = (share * (chance - truth)) @ columns + held * solution
        if float(gradient.abs().max()) < _SMALL:
            break
        curve = share * chance * (1 - chance)
        # One fit after another: all at once would hold c copies of the clips.
        hessian = torch.stack([(columns * one[:, None]).T @ columns for one in curve]) + torch.diag_embed(held)
        hessian.diagonal(dim1=1, dim2=2)[:, -1].add_(1e-12)  # of the bias, where every clip is certain
        step = torch.linalg.solve(hessian, gradient)
        scale = torch.ones(count, 1, dtype=design.dtype)
        for _ in range(_HALVINGS):
            trial = solution - scale * step
            trial_loss = _loss(trial, columns, truth, share, held)
            worse = ~(trial_loss <= loss + 1e-15)
            if not bool(worse.any()):
                break
            scale = torch.where(rearrange(worse, "c -> c 1"), scale / 2, scale)
        better = rearrange(trial_loss <= loss, "c -> c 1")
        solution = torch.where(better, trial, solution)
        improved = loss - torch.where(better[:, 0], trial_loss, loss)
        loss = torch.where(better[:, 0], trial_loss, loss)
        if float(improved.max()) < 1e-14:
            break
    return solution[:, :-1], solution[:, -1]


def class_weights(truth: Tensor) -> Tensor:
    """Return how much each clip counts so that clips with and without the label count the same together, (n,).

    Args:
        truth: (n,) 0 or 1, some of both.
    """
    with_it = truth.sum()
    return torch.where(truth > 0, len(truth) / (2 * with_it), len(truth) / (2 * (len(truth) - with_it)))


def calibrate(logits: Tensor, truth: Tensor) -> tuple[float, float]:
    """Return slope and offset that make logits of clips not trained on into honest probabilities (Platt).

    The targets are drawn in a little from 0 and 1, by how few clips there are. A slope below 0 would say that the
    logits are worse than chance: then it is 0, and every clip gets the share that has the label.

    Args:
        logits: (n,) float64.
        truth: (n,) 0 or 1, some of both.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines" (1999); Lin, Lin and Weng (2007) on its targets.
    """
    with_it = float(truth.sum())
    without = len(truth) - with_it
    target = torch.where(truth > 0, (with_it + 1) / (with_it + 2), 1 / (without + 2)).to(logits.dtype)
    even = torch.ones_like(target)
    spread = logits.std(correction=0).clamp_min(1e-6)
    design = rearrange((logits - logits.mean()) / spread, "n -> n 1")
    weights, bias = fit_logistic(design, target, torch.full((1, 1), 1e-6, dtype=logits.dtype), even)
    slope = float(weights[0, 0] / spread)
    if slope <= 0:
        share = float(target.mean())
        return 0.0, float(torch.logit(torch.tensor(share, dtype=torch.float64)))
    return slope, float(bias[0]) - slope * float(logits.mean())


def log_loss(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the mean, by weight, of the log loss over the last axis.

    Args:
        logits: (... n).
        truth: (n,) from 0 to 1.
        weight: (n,).
    """
    losses = torch.nn.functional.softplus(logits) - truth * logits
    return (losses * weight).sum(dim=-1) / weight.sum()


def _loss(solution: Tensor, columns: Tensor, truth: Tensor, share: Tensor, held: Tensor) -> Tensor:
    return log_loss(solution @ columns.T, truth, share) + (held * solution.square()).sum(dim=-1) / 2
