"""LoRA in a transformer: merged into the weights, or as side paths beside them."""

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogvx.checkpoints.lora_types import LoRA, LoRAPair
from cogvx.checkpoints.weights import StoredTensor, Weights, first_few
from cogvx.errors import InputError, UsageError

OFFICIAL_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def match_lora(lora: LoRA, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, LoRAPair], list[str]]:
    """Find the modules that a LoRA changes.

    Args:
        lora: The LoRA.
        shapes: Module path -> shape of its weight, of all linear and convolutional layers of the transformer.

    Returns:
        Module path -> change, and warnings about the rest.

    Raises:
        InputError: Nothing fits, or a change has another shape than its weight.
    """
    by_underscores = {name.replace(".", "_"): name for name in shapes}
    found: dict[str, LoRAPair] = {}
    rest = []
    for name, pair in lora.pairs.items():
        target = name if name in shapes else by_underscores.get(name)
        if target is None:
            rest.append(name)
        elif pair.shape != shapes[target]:
            raise InputError(
                f"the LoRA was made for another model: its change of {target} is {pair.shape}, "
                f"the weight is {shapes[target]}"
            )
        else:
            found[target] = pair
    if not found:
        raise InputError(f"nothing in the LoRA ({lora.format}) fits this model; it has: {first_few(lora.pairs)}")
    unused = [f"{len(rest)} of {len(lora.pairs)} parts of the LoRA fit nothing here: {first_few(rest)}"] if rest else []
    return found, [*lora.warnings, *unused]


def merge_lora(transformer: nn.Module, lora: LoRA, weight: float = 1.0) -> list[str]:
    """Add a LoRA to the weights of a transformer, in place; return warnings.

    The sum is made in float32 and rounded once to the weights' own type.

    Raises:
        InputError: The LoRA does not fit.
    """
    layers = _layers(transformer)
    found, warnings = match_lora(lora, {name: tuple(layer.weight.shape) for name, layer in layers.items()})
    with torch.no_grad():
        for name, pair in found.items():
            target = layers[name].weight
            target.copy_(target.float() + weight * pair.delta().to(target.device))
    return warnings


def merge_into(weights: Weights, lora: LoRA, weight: float = 1.0) -> tuple[dict[str, StoredTensor], list[str]]:
    """Return stored weights with a LoRA added as they are read, and warnings.

    Raises:
        InputError: The LoRA does not fit.
    """
    shapes = {
        name.removesuffix(".weight"): stored.shape
        for name, stored in weights.items()
        if name.endswith(".weight") and len(stored.shape) > 1
    }
    found, warnings = match_lora(lora, shapes)
    merged = dict(weights)
    for name, pair in found.items():
        merged[f"{name}.weight"] = _with_delta(weights[f"{name}.weight"], pair, weight)
    return merged, warnings


def _with_delta(stored: StoredTensor, pair: LoRAPair, weight: float) -> StoredTensor:
    def read() -> Tensor:
        return (stored.read().float() + weight * pair.delta()).to(stored.dtype)

    return StoredTensor(stored.shape, stored.dtype, read)


class LoRALayer(nn.Module):
    """A linear or convolutional layer with low-rank side paths."""

    def __init__(self, base: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.base = base
        self.downs = nn.ParameterList()
        self.ups = nn.ParameterList()
        self.scales: list[float] = []
        self.alphas: list[float | None] = []

    @property
    def weight(self) -> Tensor:
        """The weight without the side paths."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The bias."""
        return self.base.bias

    def add(self, pair: LoRAPair, weight: float, *, trainable: bool = False) -> None:
        """Add a side path; it takes the layer's type, or stays float32 to be trained."""
        floating = self.base.weight.dtype if self.base.weight.is_floating_point() else torch.float32
        dtype = torch.float32 if trainable else floating
        for parameters, matrix in ((self.downs, pair.down), (self.ups, pair.up)):
            value = matrix.detach().to(self.base.weight.device, dtype, copy=trainable)
            parameters.append(nn.Parameter(value, requires_grad=trainable))
        self.scales.append(weight * pair.scale)
        self.alphas.append(pair.alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer and add the side paths; shapes as the layer's own."""
        y = self.base(x)
        for down, up, scale in zip(self.downs, self.ups, self.scales, strict=True):
            inner = x.to(down.dtype)
            if isinstance(self.base, nn.Conv2d):
                side = F.conv2d(F.conv2d(inner, down, stride=self.base.stride, padding=self.base.padding), up)  # type: ignore[arg-type]
            else:
                side = F.linear(F.linear(inner, down), up)
            y = y + (scale * side).to(y.dtype)
        return y


def apply_lora(transformer: nn.Module, lora: LoRA, weight: float = 1.0, *, trainable: bool = False) -> list[str]:
    """Add a LoRA beside the weights of a transformer, in place; return warnings. Several add up.

    The result equals that of merge_lora up to rounding; the weights stay as they are, quantised ones too.

    Args:
        transformer: The model.
        lora: The LoRA.
        weight: Strength, on top of its own.
        trainable: Let the LoRA be trained, and freeze everything else.

    Raises:
        InputError: The LoRA does not fit.
    """
    layers = _layers(transformer)
    found, warnings = match_lora(lora, {name: tuple(layer.weight.shape) for name, layer in layers.items()})
    if trainable:
        transformer.requires_grad_(False)
    for name, pair in found.items():
        layer = layers[name]
        if not isinstance(layer, LoRALayer):
            layer = LoRALayer(layer)
            parent, _, leaf = name.rpartition(".")
            transformer.get_submodule(parent)._modules[leaf] = layer
        layer.add(pair, weight, trainable=trainable)
    return warnings


def remove_lora(transformer: nn.Module) -> None:
    """Take all side paths away; the weights are as before."""
    for name, layer in list(transformer.named_modules()):
        if isinstance(layer, LoRALayer):
            parent, _, leaf = name.rpartition(".")
            transformer.get_submodule(parent)._modules[leaf] = layer.base


def new_lora(
    transformer: nn.Module,
    *,
    rank: int,
    alpha: float,
    generator: torch.Generator,
    targets: Iterable[str] = OFFICIAL_TARGETS,
) -> LoRA:
    """Make a LoRA that changes nothing yet, for training: random down, zero up.

    Args:
        transformer: The model that it is for.
        rank: Rank of each change.
        alpha: Strength times rank.
        generator: Source of the random numbers.
        targets: Names of layers, or ends of their names: the four projections of attention in the official trainer.

    Raises:
        UsageError: No layer is called so, or the rank is not positive.
    """
    if rank < 1:
        raise UsageError(f"the rank of a LoRA must be positive, got {rank}")
    ends = tuple(targets)
    pairs = {}
    for name, layer in _layers(transformer).items():
        if any(name == end or name.endswith(f".{end}") for end in ends):
            out, *inner = layer.weight.shape
            bound = (1 / torch.Size(inner).numel()) ** 0.5
            down = torch.empty(rank, *inner).uniform_(-bound, bound, generator=generator)
            pairs[name] = LoRAPair(down, torch.zeros(out, rank, *[1] * (len(inner) - 1)), alpha)
    if not pairs:
        raise UsageError(f"no layer of this model is called {' or '.join(ends)}")
    return LoRA(pairs, "diffusers", "convention")


def collect_lora(transformer: nn.Module) -> LoRA:
    """Return the side paths of a transformer as one LoRA, to be saved.

    Raises:
        UsageError: It has none, or a layer has several.
    """
    pairs = {}
    for name, layer in transformer.named_modules():
        if isinstance(layer, LoRALayer):
            if len(layer.scales) != 1:
                raise UsageError(f"{name} has {len(layer.scales)} LoRAs; only one can be saved")
            pairs[name] = LoRAPair(layer.downs[0].detach().cpu(), layer.ups[0].detach().cpu(), layer.alphas[0])
    if not pairs:
        raise UsageError("this model has no LoRA")
    return LoRA(pairs, "diffusers", "convention")


def _layers(module: nn.Module) -> dict[str, nn.Linear | nn.Conv2d | LoRALayer]:
    """Return the layers that can be changed, by path; what is inside a LoRALayer is not listed again."""
    layers: dict[str, nn.Linear | nn.Conv2d | LoRALayer] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | LoRALayer) and not name.endswith(".base"):
            layers[name] = layer
    return layers
