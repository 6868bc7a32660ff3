"""Optimizers and learning rates."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Parts of the names of weights that are embeddings, first or last projections, or modulations.
_OUTER = {
    "shared",
    "relative_attention_bias",
    "patch_embed",
    "proj_out",
    "conv_in",
    "conv_out",
    "linear",
    "time_embedding",
}
# Coefficients of the quintic iteration that pushes singular values towards 1.
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is orthogonalised; for weights of linear maps and convolutions.

    PyTorch's own Muon takes matrices only; here a convolution's kernel counts as a matrix of its flattened inputs.

    Source: Keller Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024).
    """

    def __init__(
        self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        """Take weights of two or more axes.

        Args:
            params: The weights.
            lr: Learning rate; each update has a root mean square of about 0.2 lr, as with AdamW.
            momentum: Share of the running mean of gradients that is kept.
            weight_decay: Share of a weight lost each step, times lr.
        """
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient; weights of one shape are orthogonalised together."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes.setdefault((weight.shape[0], weight[0].numel()), []).append(weight)
            for (rows, columns), weights in shapes.items():
                scale = 0.2 * math.sqrt(max(rows, columns))
                updates = orthogonalise(torch.stack([self._ahead(weight, group["momentum"]) for weight in weights]))
                for weight, update in zip(weights, updates, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update.view_as(weight), alpha=-group["lr"] * scale)

    def _ahead(self, weight: Tensor, momentum: float) -> Tensor:
        """Move the mean of a weight's gradients and return a look ahead as a matrix (Nesterov)."""
        assert weight.grad is not None
        mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
        mean.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(mean, momentum).flatten(1)


def orthogonalise(matrices: Tensor, *, num_iterations: int = 5) -> Tensor:
    """Return matrices (b m n) with the singular vectors of the given ones and singular values near 1, float32."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = (matrices if wide else matrices.mT).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(num_iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.mT).float()


def make_optimizers(
    module: nn.Module, *, lr: float, betas: tuple[float, float] = (0.9, 0.95), weight_decay: float = 1e-4
) -> list[torch.optim.Optimizer]:
    """Return Muon for the weights of hidden layers and AdamW for everything else.

    Args:
        module: What to train; embeddings, first and last projections, modulations, norms and biases go to
            AdamW.
        lr: Learning rate of both.
        betas: Decay of AdamW's means.
        weight_decay: Weight decay of both; norms and biases have none.
    """
    hidden, outer, flat = [], [], []
    for name, weight in module.named_parameters():
        if not weight.requires_grad:
            continue
        if weight.ndim < 2:
            flat.append(weight)
        elif _is_outer(name):
            outer.append(weight)
        else:
            hidden.append(weight)
    groups: list[dict[str, Any]] = [{"params": outer}, {"params": flat, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=lr, betas=betas, eps=1e-8, weight_decay=weight_decay)
    return [Muon(hidden, lr=lr, weight_decay=weight_decay), adamw] if hidden else [adamw]


def _is_outer(name: str) -> bool:
    parts = name.split(".")
    return (
        "shared" in parts
        or "relative_attention_bias" in parts
        or any(part in parts[:2] for part in ("patch_embed", "proj_out"))
        or parts[1:2] in (["conv_in"], ["conv_out"])
    )


def trapezoid(step: int, num_steps: int, *, warmup: int = 50, decay_share: float = 0.4) -> float:
    """Return the learning rate's factor in 0...1: a linear warm-up, a plateau, and a linear decay to zero."""
    left = (num_steps - step) / max(1.0, num_steps * decay_share)
    return max(0.0, min(1.0, (step + 1) / warmup, left))


class EMA:
    """Running mean of weights, warmed up so that early steps do not linger."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the module's weights.

        Args:
            module: Its parameters are followed.
            decay: Share of the mean that is kept each step, in [0, 1).
        """
        self.decay = decay
        self.num_updates = 0
        self.weights = {name: weight.detach().clone() for name, weight in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the mean towards the module's weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        for name, weight in module.named_parameters():
            self.weights[name].lerp_(weight.detach(), 1 - decay)
