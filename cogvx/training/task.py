"""What a kind of training brings to the training loop, which knows nothing else about it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of one micro batch on one rank.

    Attributes:
        value: A scalar to call backward on, divided so that its sum over all micro batches and all ranks is the mean
            loss of the step. A rank that shares its clip counts its own slice; where the ranks of a context group all
            compute the same loss, each counts 1/context_size of it.
        metrics: Numbers to log, divided in the same way, each summed over micro batches and ranks.
        tokens: Tokens of the micro batch: of the whole clips, also where ranks share them.
        clips: Clips of the micro batch, counted like tokens.
    """

    value: Tensor
    metrics: dict[str, float] = field(default_factory=dict)
    tokens: int = 0
    clips: int = 0


class Task(Protocol):
    """A kind of training: its parts, its data and its loss.

    Everything that is drawn is a function of (seed, step, place in the step), never of the rank or of what came
    before, so that a run which goes on from a checkpoint equals one that was never stopped. That includes what depends
    on the stage of the recipe: the engine only counts steps.

    So nothing may draw from PyTorch's global state either (dropout is off). One optional attribute,
    `identity: dict[str, str]`, says what a run must not change when it goes on, such as the hash of its data and of the
    weights that it started from; a resume compares it. Another, `fixed: tuple[str, ...]`, names entries of it without
    which the weights mean nothing, such as the words that rows of them stand for: no resume may change those.

    Attributes:
        parts: Name of each trained part to the part. Their parameters with requires_grad are trained: the running mean
            follows them, and checkpoints hold them and the persistent buffers. A second network that is trained but
            not part of the result belongs here too (its optimizer steps with the others).
    """

    parts: nn.ModuleDict

    def optimizers(self) -> list[Optimizer]:
        """Return the optimizers of all trained parameters, in a fixed order; called once, after sharding.

        The engine scales the learning rate that each of their parameter groups has now by the schedule.
        """
        ...

    def num_micro_batches(self, step: int) -> int:
        """Return how many micro batches this data rank has in a step; the same on every rank, at least 1.

        Ranks meet in every forward and backward pass, so a rank with nothing left gives a loss of zero weight.
        """
        ...

    def loss(self, step: int, micro: int) -> Loss:
        """Return the loss of one micro batch of this rank."""
        ...

    def validate(self) -> dict[str, float]:
        """Return numbers on held-out clips, the same on all ranks; called before step 1 and every validate_every.

        After step 0 a second call follows with the running mean as the weights; its numbers are logged as `ema_…`.
        """
        ...

    def preview(self, folder: Path) -> None:
        """Write sample clips into a folder, on rank 0; called on all ranks, which must all run the networks.

        The parts have the running mean as their weights.
        """
        ...

    def export(self, folder: Path) -> None:
        """Write the result (the diffusers layout, or a LoRA file) into a folder, from the current weights of parts.

        Called on rank 0 only, at the end, with the running mean as the parts' weights; where they were sharded, whole
        weights on the CPU take their place. The folder exists and is empty.
        """
        ...
