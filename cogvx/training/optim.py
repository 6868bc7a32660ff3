"""Optimizers and learning rates."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from cogvx.errors import MissingError
from cogvx.training.recipe import OptimOptions

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
                    weight.add_(_like(update.view(weight.shape), weight), alpha=-group["lr"] * scale)

    def _ahead(self, weight: Tensor, momentum: float) -> Tensor:
        """Move the mean of a weight's gradients and return a look ahead as a matrix (Nesterov)."""
        assert weight.grad is not None
        mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
        mean.lerp_(weight.grad, 1 - momentum)
        ahead = weight.grad.lerp(mean, momentum)
        return (ahead.full_tensor() if isinstance(ahead, DTensor) else ahead).flatten(1)


def _like(update: Tensor, weight: Tensor) -> Tensor:
    """Return what every rank has whole as a tensor sharded like a weight, if that is."""
    if not isinstance(weight, DTensor):
        return update
    return distribute_tensor(update, weight.device_mesh, weight.placements, src_data_rank=None)


def orthogonalise(matrices: Tensor, *, num_iterations: int = 5) -> Tensor:
    """Return matrices (b m n) with the singular vectors of the given ones and singular values near 1, float32."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16().contiguous()
    a, b, c = _QUINTIC
    for _ in range(num_iterations):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x if wide else x.mT).float()


OptimizerName = Literal["adamw", "muon", "adamw8bit"]


def make_optimizers(
    module: nn.Module,
    *,
    lr: float,
    name: OptimizerName = "muon",
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
    adam_share: float = 1.0,
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a module's trained weights.

    Args:
        module: What to train.
        lr: Learning rate of all.
        name: "adamw"; "muon": Muon for the weights of hidden layers, and AdamW for embeddings, first and last
            projections, modulations, norms and biases; "adamw8bit": AdamW whose means have 8 bits, from bitsandbytes.
        betas: Decay of AdamW's means.
        eps: Added to AdamW's root.
        weight_decay: Weight decay of all; norms and biases have none.
        adam_share: Learning rate of the weights that AdamW moves beside Muon, as a share of lr.

    Raises:
        MissingError: 8-bit AdamW without bitsandbytes, or for weights that are not on a CUDA device.
    """
    hidden, outer, flat = [], [], []
    for key, weight in module.named_parameters():
        if not weight.requires_grad:
            continue
        if weight.ndim < 2:
            flat.append(weight)
        elif name != "muon" or _is_outer(key):
            outer.append(weight)
        else:
            hidden.append(weight)
    groups: list[dict[str, Any]] = [{"params": outer}, {"params": flat, "weight_decay": 0.0}]
    adamw: Any = torch.optim.AdamW
    if name == "adamw8bit":
        adamw = _adamw_8bit([*outer, *flat])
    optimizer = adamw(
        groups, lr=lr * adam_share if name == "muon" else lr, betas=betas, eps=eps, weight_decay=weight_decay
    )
    return [Muon(hidden, lr=lr, weight_decay=weight_decay), optimizer] if hidden else [optimizer]


def optimizers_of(
    parts: nn.ModuleDict, options: OptimOptions, rates: Mapping[str, float]
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of the parts that a run trains.

    Args:
        parts: What is trained.
        options: What the recipe says.
        rates: Learning rate of each part; a part that is not there has the recipe's.

    Raises:
        MissingError: As make_optimizers.
    """
    return [
        optimizer
        for name, part in parts.items()
        for optimizer in make_optimizers(
            part,
            lr=rates.get(name, options.lr),
            name=options.name,
            betas=options.betas,
            eps=options.eps,
            weight_decay=options.weight_decay,
            adam_share=options.adam_share,
        )
    ]


def _adamw_8bit(weights: list[nn.Parameter]) -> Any:
    """Return the class of 8-bit AdamW."""
    advice = "; --set optim.name=adamw works everywhere"
    if any(weight.device.type != "cuda" for weight in weights):
        raise MissingError(f"optim.name=adamw8bit needs a CUDA device{advice}")
    if any(isinstance(weight, DTensor) for weight in weights):
        raise MissingError(f"bitsandbytes cannot work on sharded weights (run.shard){advice}")
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingError(
            f"optim.name=adamw8bit needs the package bitsandbytes: pip install bitsandbytes{advice}"
        ) from error
    return AdamW8bit


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


Decay = Literal["cosine", "linear", "constant", "trapezoid"]


def lr_factor(step: int, num_steps: int, *, warmup: int, decay: Decay) -> float:
    """Return the learning rate's factor in 0...1 of a step: a linear warm-up, then the decay to zero, if any.

    Args:
        step: Steps done before this one.
        num_steps: Of the whole run.
        warmup: Steps in which the rate rises.
        decay: "cosine" and "linear" fall from the warm-up's end on, "trapezoid" in the last 40 % of all steps,
            "constant" never.
    """
    if decay == "trapezoid":
        return trapezoid(step, num_steps, warmup=max(1, warmup))
    rise = min(1.0, (step + 1) / max(1, warmup))
    if decay == "constant" or step < warmup:
        return rise
    done = (step - warmup) / max(1, num_steps - warmup)
    return 1 - done if decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))


class EMA:
    """Running mean of trained weights, warmed up so that early steps do not linger."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the module's weights.

        Args:
            module: Its parameters with requires_grad are followed; sharded ones rank by rank.
            decay: Share of the mean that is kept each step, in [0, 1).
        """
        self.decay = decay
        self.num_updates = 0
        self.weights = {
            name: weight.detach().clone() for name, weight in module.named_parameters() if weight.requires_grad
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the mean towards the module's weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        weights = dict(module.named_parameters())
        means = [local_slice(mean) for mean in self.weights.values()]
        torch._foreach_lerp_(means, [local_slice(weights[name].detach()) for name in self.weights], 1 - decay)

    @contextmanager
    def in_place(self, module: nn.Module) -> Iterator[None]:
        """Let the module have the mean as its weights while the block runs."""
        self._swap(module)
        try:
            yield
        finally:
            self._swap(module)

    @torch.no_grad()
    def _swap(self, module: nn.Module) -> None:
        weights = dict(module.named_parameters())
        for name, mean in self.weights.items():
            mine, theirs = local_slice(mean), local_slice(weights[name].detach())
            kept = theirs.clone()
            theirs.copy_(mine)
            mine.copy_(kept)


def local_slice(tensor: Tensor) -> Tensor:
    """Return this rank's slice of a sharded tensor, sharing its memory; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
