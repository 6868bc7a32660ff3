"""A LoRA to be trained: put into a transformer by PEFT, new or from a file, and taken out again to be saved."""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cogvx.checkpoints.lora import LoRA, LoRAPair, match_lora, new_lora, read_lora
from cogvx.errors import MissingError
from cogvx.models.transformer import ExpertTransformer
from cogvx.training.draws import source
from cogvx.training.recipe import LoRAOptions

_ADAPTER = "default"


def starting_lora(
    options: LoRAOptions,
    transformer: ExpertTransformer,
    *,
    seed: int,
    announce: Callable[[str], None] = lambda text: None,
) -> LoRA:
    """Return the LoRA that training starts from: one that changes nothing yet, or that of a file at its own strength.

    Args:
        options: What the recipe says; with `start`, rank and alpha are the file's, part by part.
        transformer: The model that it is for.
        seed: Of a new one.
        announce: Called with what a user should know about the file.

    Raises:
        UsageError: No layer has one of the targets' names.
        InputError: The file is no LoRA, or of another model.
    """
    if not options.start:
        generator = source(seed, "lora")
        return new_lora(
            transformer, rank=options.rank, alpha=options.alpha, generator=generator, targets=options.targets
        )
    lora = read_lora(Path(options.start))
    shapes = {
        name: tuple(layer.weight.shape)
        for name, layer in transformer.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    pairs, warnings = match_lora(lora, shapes)
    for warning in warnings:
        announce(warning)
    return LoRA(pairs, lora.format, lora.alpha_source)


def put_in(transformer: ExpertTransformer, lora: LoRA) -> None:
    """Add a LoRA to a transformer as PEFT's layers, in place; only it is trained from now on, in float32.

    Raises:
        MissingError: PEFT is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingError("training a LoRA needs PEFT; pip install 'cogvx[train]'") from error
    ranks = {name: pair.rank for name, pair in lora.pairs.items()}
    alphas = {name: pair.scale * pair.rank for name, pair in lora.pairs.items()}
    rank = next(iter(ranks.values()))
    alpha = alphas[next(iter(alphas))]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT takes fractions too
        # Patterns are matched by PEFT as regular expressions.
        rank_pattern={f"^{re.escape(name)}": own for name, own in ranks.items() if own != rank},
        alpha_pattern={f"^{re.escape(name)}": own for name, own in alphas.items() if own != alpha},
        target_modules=list(lora.pairs),
        init_lora_weights=True,
    )
    transformer.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):  # PEFT draws first values, which are replaced
        inject_adapter_in_model(config, transformer, adapter_name=_ADAPTER)
    for name, layer in _layers(transformer):
        pair = lora.pairs[name]
        assert math.isclose(layer.scaling[_ADAPTER], pair.scale), name
        for part, value in ((layer.lora_A, pair.down), (layer.lora_B, pair.up)):
            weight = part[_ADAPTER].weight
            part[_ADAPTER].weight = nn.Parameter(value.to(weight.device, torch.float32, copy=True))


def take_out(transformer: nn.Module) -> LoRA:
    """Return the LoRA of a transformer, on the CPU."""
    pairs = {}
    for name, layer in _layers(transformer):
        down, up = (part[_ADAPTER].weight.detach().cpu() for part in (layer.lora_A, layer.lora_B))
        pairs[name] = LoRAPair(down, up, layer.scaling[_ADAPTER] * down.shape[0])
    return LoRA(pairs, "diffusers", "convention")


@torch.no_grad()
def relative_change(transformer: nn.Module) -> float:
    """Return how large the LoRA's changes are against the weights that they change: 0 does nothing."""
    changes, weights = 0.0, 0.0
    for _, layer in _layers(transformer):
        down, up = (_whole(part[_ADAPTER].weight).float().flatten(1) for part in (layer.lora_A, layer.lora_B))
        # The squared norm of up @ down, without making the product.
        square = ((up.T @ up) * (down @ down.T)).sum()
        changes += float(square) * layer.scaling[_ADAPTER] ** 2
        weights += float(_whole(layer.get_base_layer().weight).float().square().sum())
    return math.sqrt(max(changes, 0.0) / weights)


def _layers(transformer: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for name, layer in transformer.named_modules():
        if isinstance(layer, LoraLayer):
            yield name, layer


def _whole(weight: Tensor) -> Tensor:
    """Return a weight that may be spread over ranks."""
    from torch.distributed.tensor import DTensor

    return weight.full_tensor() if isinstance(weight, DTensor) else weight
