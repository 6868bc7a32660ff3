"""Training of the expert transformer, alone or with its text encoder."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from cogvx.diffusion.schedule import Schedule
from cogvx.diffusion.timesteps import stratified_timesteps
from cogvx.models.text_encoder import TextEncoder
from cogvx.models.transformer import ExpertTransformer
from cogvx.training.batches import shuffled
from cogvx.training.optim import EMA, lr_factor, make_optimizers
from cogvx.training.state import load_state, save_state


@dataclass(frozen=True, kw_only=True)
class DiTRecipe:
    """How to train a transformer.

    Attributes:
        num_steps: Optimizer steps.
        batch_size: Clips a step.
        lr: Peak learning rate of Muon's weights.
        adam_lr: That of AdamW's weights, as a share of lr.
        text_lr: That of the text encoder, as a share of the transformer's.
        warmup: Steps in which the learning rate rises.
        ema_decay: Share of the running mean of the weights that is kept each step.
        caption_dropout: Share of clips trained without their caption.
        image_dropout: Share of clips trained without their image (image-to-video).
        dense_share: Share of clips trained with their dense caption; the others have the short one.
        autocast: Run the networks in bfloat16.
        time_power: Diffusion times are 1000 u^time_power with u uniform; below 1, more of them have much noise.
        favoured_share: Share of a batch that is taken from the favoured clips.
        log_every: Steps between two lines of metrics.
        save_every: Steps between two states on disk.
        seed: Of everything that is drawn.
    """

    num_steps: int
    batch_size: int = 32
    lr: float = 1e-3
    adam_lr: float = 1.0
    text_lr: float = 1.0
    warmup: int = 100
    ema_decay: float = 0.999
    caption_dropout: float = 0.1
    image_dropout: float = 0.05
    dense_share: float = 0.3
    autocast: bool = True
    time_power: float = 1.0
    favoured_share: float = 0.0
    log_every: int = 50
    save_every: int = 500
    seed: int = 0


@dataclass(frozen=True)
class Encoded:
    """A training set encoded ahead.

    Attributes:
        latents: (n c t h w), times the scaling factor.
        short: (n l) token ids of the short captions.
        dense: (n l) token ids of the dense captions.
        empty: (l,) token ids of the empty prompt.
        images: (n c h w) latents of the first frames alone, times the scaling factor; None for text-to-video.
        favoured: (m,) numbers of the clips that batches may favour.
    """

    latents: Tensor
    short: Tensor
    dense: Tensor
    empty: Tensor
    images: Tensor | None = None
    favoured: Tensor | None = None


def train_dit(
    transformer: ExpertTransformer,
    text_encoder: TextEncoder,
    schedule: Schedule,
    data: Encoded,
    recipe: DiTRecipe,
    *,
    train_text: bool,
    state: Path,
    log: Callable[[dict[str, float]], None],
    preview: Callable[[int, nn.ModuleDict], None] | None = None,
) -> EMA:
    """Train in place, going on from the state where there is one; return the running mean of the weights.

    The loss is the mean squared error of the velocity, at times drawn one from each of batch_size equal intervals.

    Args:
        transformer: The model.
        text_encoder: Embeds the captions.
        schedule: Noise levels.
        data: The training set.
        recipe: How to train.
        train_text: Train the text encoder too.
        state: The training state, read if it exists and written on the way.
        log: Takes each line of metrics.
        preview: Called with the step and the parts whenever the state was written.

    Source: CogVideoX paper (arXiv 2408.06072), "Training CogVideoX".
    """
    parts = nn.ModuleDict({"transformer": transformer})
    if train_text:
        parts["text_encoder"] = text_encoder.encoder
    else:
        text_encoder.requires_grad_(False)
    rates: dict[Optimizer, float] = {}
    for name, part in parts.items():
        rate = recipe.lr * (recipe.text_lr if name == "text_encoder" else 1.0)
        for optimizer in make_optimizers(part, lr=rate, adam_share=recipe.adam_lr):
            rates[optimizer] = optimizer.param_groups[0]["lr"]
    optimizers = [*rates]
    ema = EMA(parts, recipe.ema_decay)
    first = load_state(state, {"parts": parts}, optimizers, ema=ema) if state.exists() else 0
    batches = _batches(data, recipe)
    for _ in range(first):
        next(batches)
    started, total = time.monotonic(), 0.0
    for step in range(first, recipe.num_steps):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        loss = _loss(transformer, text_encoder, schedule, data, recipe, next(batches), generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        factor = lr_factor(step, recipe.num_steps, warmup=recipe.warmup, decay="linear")
        for optimizer, rate in rates.items():
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad()
        ema.update(parts)
        total += float(loss.detach())
        if (step + 1) % recipe.log_every == 0:
            log({"step": step + 1, "loss": total / recipe.log_every, "s": time.monotonic() - started})
            total = 0.0
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.num_steps:
            save_state(state, {"parts": parts}, optimizers, ema=ema, step=step + 1)
            if preview is not None:
                preview(step + 1, parts)
    return ema


def _batches(data: Encoded, recipe: DiTRecipe) -> Iterator[Tensor]:
    """Yield the numbers (batch_size,) of the clips of each step, favoured ones first."""
    count = round(recipe.batch_size * recipe.favoured_share) if data.favoured is not None else 0
    order = shuffled(len(data.latents), recipe.batch_size - count, rng=np.random.default_rng(recipe.seed))
    if not count or data.favoured is None:
        yield from map(torch.from_numpy, order)
        return
    favoured = shuffled(len(data.favoured), count, rng=np.random.default_rng(recipe.seed + 1))
    for some, others in zip(favoured, order, strict=True):
        yield torch.cat([data.favoured[torch.from_numpy(some)], torch.from_numpy(others)])


def _loss(
    transformer: ExpertTransformer,
    text_encoder: TextEncoder,
    schedule: Schedule,
    data: Encoded,
    recipe: DiTRecipe,
    chosen: Tensor,
    generator: torch.Generator,
) -> Tensor:
    b = len(chosen)
    x0 = data.latents[chosen].float()
    ids = torch.where(_coin(b, recipe.dense_share, generator)[:, None], data.dense[chosen], data.short[chosen])
    ids = torch.where(_coin(b, recipe.caption_dropout, generator)[:, None], data.empty, ids)
    timestep = stratified_timesteps(b, generator=generator, power=recipe.time_power)
    noise = torch.randn(x0.shape, generator=generator)
    inputs = schedule.add_noise(x0, noise, timestep)
    if data.images is not None:
        kept = ~_coin(b, recipe.image_dropout, generator)
        image = torch.zeros_like(x0)
        image[:, :, 0] = data.images[chosen].float() * kept[:, None, None, None]
        inputs = torch.cat([inputs, image], dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.autocast):
        velocity = transformer(inputs, text_encoder(ids), timestep)
    return F.mse_loss(velocity.float(), schedule.velocity(x0, noise, timestep))


def _coin(count: int, probability: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) < probability
