"""Training of the 3D causal VAE."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from cogvx.models.vae import CausalVAE
from cogvx.training.optim import make_optimizers, trapezoid
from cogvx.training.state import load_state, save_state


@dataclass(frozen=True, kw_only=True)
class VAERecipe:
    """How to train a VAE.

    Attributes:
        num_steps: Optimizer steps.
        plan: Share of the steps done, frames a clip and clips a batch, in order; single frames come first.
        lr: Peak learning rate.
        l1_weight: Weight of the mean absolute error.
        l2_weight: Weight of the mean squared error.
        kl_weight: Weight of the divergence from the standard normal, in nats a latent value.
        warmup: Steps in which the learning rate rises.
        autocast: Run the networks in bfloat16.
        log_every: Steps between two lines of metrics.
        save_every: Steps between two states on disk.
        seed: Of the order of clips and of the latents' noise.
    """

    num_steps: int
    plan: tuple[tuple[float, int, int], ...] = ((0.4, 1, 16), (0.8, 9, 4), (1.0, 17, 2))
    lr: float = 2e-3
    l1_weight: float = 1.0
    l2_weight: float = 1.0
    kl_weight: float = 1e-4
    warmup: int = 50
    autocast: bool = True
    log_every: int = 25
    save_every: int = 250
    seed: int = 0


def train_vae(
    vae: CausalVAE, clips: np.ndarray, recipe: VAERecipe, *, state: Path, log: Callable[[dict[str, float]], None]
) -> None:
    """Train in place on clips (n t h w 3) uint8, going on from the state where there is one.

    Args:
        vae: The model.
        clips: The training set.
        recipe: How to train.
        state: The training state, read if it exists and written on the way.
        log: Takes each line of metrics.

    Source: CogVideoX paper (arXiv 2408.06072), "3D Causal VAE"; images first, then short clips, then long ones.
    """
    optimizers = make_optimizers(vae, lr=recipe.lr)
    first = load_state(state, {"vae": vae}, optimizers, ema=None) if state.exists() else 0
    started, total = time.monotonic(), 0.0
    for step in range(first, recipe.num_steps):
        rng = np.random.default_rng((recipe.seed, step))
        frames, batch_size = _stage(recipe, step)
        video = draw_clips(clips, frames, batch_size, rng=rng)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.autocast):
            posterior = vae.encode(video)
            rebuilt = vae.decode(vae.scale(posterior.sample(generator=generator)))
        loss, squared = _loss(rebuilt.float(), video, posterior.kl().mean() / posterior.mean[0].numel(), recipe)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        factor = trapezoid(step, recipe.num_steps, warmup=recipe.warmup)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * factor
            optimizer.step()
            optimizer.zero_grad()
        total += -10 * float(torch.log10(squared / 4))
        if (step + 1) % recipe.log_every == 0:
            seconds = time.monotonic() - started
            log(
                {
                    "step": step + 1,
                    "frames": frames,
                    "psnr": total / recipe.log_every,
                    "loss": float(loss.detach()),
                    "s": seconds,
                }
            )
            total = 0.0
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.num_steps:
            save_state(state, {"vae": vae}, optimizers, ema=None, step=step + 1)


def _stage(recipe: VAERecipe, step: int) -> tuple[int, int]:
    return next((frames, size) for share, frames, size in recipe.plan if step < share * recipe.num_steps)


def _loss(rebuilt: Tensor, video: Tensor, kl: Tensor, recipe: VAERecipe) -> tuple[Tensor, Tensor]:
    squared = F.mse_loss(rebuilt, video)
    loss = recipe.l1_weight * F.l1_loss(rebuilt, video) + recipe.l2_weight * squared
    return loss + recipe.kl_weight * kl, squared.detach()


def draw_clips(clips: np.ndarray, frames: int, batch_size: int, *, rng: np.random.Generator) -> Tensor:
    """Draw random clips of some frames from (n t h w 3) uint8: (b 3 t h w) in [-1, 1]."""
    chosen = rng.integers(len(clips), size=batch_size)
    starts = rng.integers(clips.shape[1] - frames + 1, size=batch_size)
    batch = np.stack([clips[i, start : start + frames] for i, start in zip(chosen, starts, strict=True)])
    return rearrange(torch.from_numpy(batch), "b t h w c -> b c t h w").float() / 127.5 - 1


@torch.no_grad()
def reconstruction_psnr(vae: CausalVAE, clips: np.ndarray, *, batch_size: int = 4) -> float:
    """Return the mean PSNR in dB of clips (n t h w 3) uint8 through the mean of their latents, frame by frame."""
    values = []
    for start in range(0, len(clips), batch_size):
        video = rearrange(torch.from_numpy(np.array(clips[start : start + batch_size])), "b t h w c -> b c t h w")
        video = video.float() / 127.5 - 1
        rebuilt = vae.decode(vae.scale(vae.encode(video).mean)).clamp(-1, 1)
        values.append(-10 * torch.log10((rebuilt - video).square().mean(dim=(1, 3, 4)) / 4).flatten())
    return float(torch.cat(values).mean())
