"""The loss of the VAE: errors of pixels and of their changes, a perceptual distance, the divergence, a discriminator.

The gradient with respect to the rebuilt frames is computed first, term by term, on a copy of them that is a leaf. Only
their weighted sum goes back through the VAE, once: the adaptive weight needs the terms apart.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from einops import reduce
from torch import Tensor, nn
from torch.nn.grad import conv3d_weight

from cogvx.checkpoints.perceptual import Distance
from cogvx.distributed import World, all_sum, gather
from cogvx.models.vae.discriminator import Discriminator, hinge_loss
from cogvx.models.vae.gaussian import DiagonalGaussian
from cogvx.training.recipe import VAEOptions

MOST_WEIGHT, SMALLEST_NORM = 1e4, 1e-4  # of the adaptive weight


@dataclass(frozen=True, kw_only=True, eq=False)
class Rebuilt:
    """What the VAE made of one batch: this rank's frames of it, and the whole batch beside them.

    Attributes:
        video: (b 3 t h w) in [-1, 1], the whole clips, also where ranks share them.
        own: This rank's frames of them.
        rebuilt: What the VAE made of those, float32.
        posterior: Of this rank's latents.
        sharing: The ranks that share these clips.
        seen_frame: (b,) for each clip, the frame that the perceptual distance looks at.
        window: First frame and end of what the discriminator looks at.
    """

    video: Tensor
    own: Tensor
    rebuilt: Tensor
    posterior: DiagonalGaussian
    sharing: World
    seen_frame: Tensor
    window: tuple[int, int]


@dataclass
class LastLayer:
    """The decoder's last convolution, as the adaptive weight needs it.

    Attributes:
        conv: The convolution.
        inputs: What it was given in its last pass, (b c t h w).
    """

    conv: nn.Conv3d
    inputs: Tensor | None = None

    def gradient(self, by_output: Tensor) -> Tensor:
        """Return the gradient of its weight, from that of its output."""
        assert self.inputs is not None
        # In float32: on some CPUs this gradient is wrong in bfloat16 (see frame_convs.py).
        inputs, grad = self.inputs.detach().float(), by_output.float()
        if inputs.shape[2] == 1:  # an image, which every frame of the kernel sees
            inputs = inputs.expand(-1, -1, self.conv.kernel_size[0], -1, -1)
        return conv3d_weight(inputs, list(self.conv.weight.shape), grad, padding=self.conv.padding)  # type: ignore[arg-type]


@contextmanager
def watched(conv: nn.Conv3d) -> Iterator[LastLayer]:
    """Note what a convolution is given, within the block."""
    last = LastLayer(conv)

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        last.inputs = inputs[0]

    hook = conv.register_forward_pre_hook(note)
    try:
        yield last
    finally:
        hook.remove()


class VAELoss:
    """The loss of one batch, as one rank's share of it."""

    def __init__(
        self,
        options: VAEOptions,
        *,
        world: World,
        distance: Distance | None = None,
        discriminator: Discriminator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take the networks that judge.

        Args:
            options: Weights of the terms.
            world: All ranks: the adaptive weight is one for all.
            distance: The perceptual distance, if there is one.
            discriminator: It, if there is one.
            dtype: Of the discriminator's arithmetic.
        """
        self.options, self.world, self.dtype = options, world, dtype
        self.distance, self.discriminator = distance, discriminator

    def __call__(self, made: Rebuilt, last: LastLayer | None) -> tuple[Tensor, dict[str, float]]:
        """Return this rank's share of the batch's mean loss, and of its metrics.

        The shares of the ranks that share the clips add up to the mean over the clips.

        Args:
            made: The batch.
            last: The decoder's last layer, once the discriminator counts; None before.
        """
        options, size = self.options, made.sharing.context_size
        leaf = made.rebuilt.detach().requires_grad_()
        error = leaf - made.own
        share = 1 / made.video.numel()
        terms = {"l1": error.abs().sum() * share, "l2": error.square().sum() * share}
        nll = options.l1 * terms["l1"] + options.l2 * terms["l2"]
        needs_whole = self.distance is not None or last is not None or options.flicker > 0
        whole = gather(leaf, dim=2, world=made.sharing) if needs_whole else leaf
        # Every rank computes what follows on the same pictures.
        if options.flicker and made.video.shape[2] > 1:
            terms["flicker"] = (whole - made.video).diff(dim=2).abs().mean() / size
            nll = nll + options.flicker * terms["flicker"]
        if self.distance is not None:
            clips = torch.arange(len(whole), device=whole.device)
            seen = [clip[clips, :, made.seen_frame] for clip in (made.video, whole)]
            terms["perceptual"] = self.distance(*seen).mean() / size
            nll = nll + options.perceptual_weight * terms["perceptual"]
        (gradient,) = torch.autograd.grad(nll, leaf, retain_graph=last is not None)
        value, extra = nll.detach(), leaf.new_zeros(())
        if last is not None:
            opinion, by_opinion, extra, logits = self._judge(made, whole, leaf)
            weight = options.gan_weight * self._adaptive(last, gradient, by_opinion, made.sharing)
            gradient = gradient + weight * by_opinion
            value = value + weight * opinion
            terms |= {"gan": opinion, "gan_weight": weight / size, "discriminator": extra, **logits}
        terms["kl"] = kl = _mean_kl(made)
        total = with_gradient(value, made.rebuilt, gradient) + options.kl * kl + extra
        metrics = {name: float(term.detach()) for name, term in terms.items()}
        return total, {"loss": float((value + options.kl * kl).detach()), **metrics}

    def _judge(self, made: Rebuilt, whole: Tensor, leaf: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Return the generator's term with its gradient, the discriminator's loss, and its mean logits."""
        assert self.discriminator is not None
        start, end = made.window
        size = made.sharing.context_size
        part = whole[:, :, start:end]
        seen = part.detach().requires_grad_()
        with torch.autocast(seen.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            rebuilt, real = self.discriminator(seen).float(), self.discriminator(made.video[:, :, start:end]).float()
        opinion = -rebuilt.mean() / size
        (by_seen,) = torch.autograd.grad(opinion, seen, retain_graph=True)
        (by_leaf,) = torch.autograd.grad(part, leaf, by_seen.to(part.dtype))
        logits = {"logits_real": real.mean() / size, "logits_rebuilt": rebuilt.mean() / size}
        return opinion.detach(), by_leaf, hinge_loss(real, rebuilt) / size, logits

    def _adaptive(self, last: LastLayer, by_nll: Tensor, by_opinion: Tensor, sharing: World) -> Tensor:
        """Return the weight that makes the discriminator's pull on the last layer as strong as that of the rest."""
        both = torch.stack([last.gradient(by_nll), last.gradient(by_opinion)])
        nll, opinion = all_sum(both / self._replicas(sharing), world=self.world).flatten(1).norm(dim=1)
        return adaptive_weight(nll, opinion)

    def _replicas(self, sharing: World) -> int:
        """How many times all ranks together hold a mean over clips."""
        return self.world.size // sharing.context_size


def adaptive_weight(nll: Tensor, opinion: Tensor) -> Tensor:
    """Return the weight of the generator's term from the norms of both terms' gradients at the last layer.

    Source: Esser et al., "Taming Transformers" (arXiv 2012.09841), the adaptive weight; its bounds are the official
        code's.
    """
    return (nll / (opinion + SMALLEST_NORM)).clamp(0.0, MOST_WEIGHT)


def with_gradient(value: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
    """Return a scalar of a given value whose gradient with respect to x is the given one."""
    line = (x * gradient).sum()
    return value.detach() + (line - line.detach())


def _mean_kl(made: Rebuilt) -> Tensor:
    """Return this rank's share of the mean divergence of a latent value, in nats."""
    mean, size = made.posterior.mean, made.sharing.context_size
    extra = int(made.sharing.context_rank == 0)  # the latent of the clip's first frame
    whole = 1 + (mean.shape[2] - extra) * size
    return made.posterior.kl().sum() / mean.numel() * (mean.shape[2] / whole)


def mean_psnr(made: Rebuilt) -> Tensor:
    """Return this rank's share of the mean PSNR in dB over the clips, each of its mean squared error."""
    own = reduce((made.rebuilt.detach() - made.own).square(), "b c t h w -> 1 b", "sum")
    errors = gather(own, dim=0, world=made.sharing).sum(dim=0) / made.video[0].numel()
    return (-10 * (errors / 4).clamp_min(1e-10).log10()).mean() / made.sharing.context_size
