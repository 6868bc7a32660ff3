"""What a run will need, before anything is loaded: parameters, tokens, memory of a device, steps and disk."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cogvx.errors import UsageError
from cogvx.generate.sizes import SizeRules
from cogvx.training.costs import (
    VAE_BF16,
    Machine,
    clip_text_activations,
    clip_text_flops,
    count_weights,
    discriminator_activations,
    frozen_bytes,
    model_bytes,
    optimizer_bytes,
    passes,
    transformer_activations,
    transformer_flops,
    vae_activations,
)
from cogvx.training.networks import Networks
from cogvx.training.recipe import CLIP_TEXT, Recipe, Stage


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What one stage needs.

    Attributes:
        name: Of the stage.
        steps: Optimizer steps.
        height: Of the largest clip, in pixels.
        width: Of the largest clip, in pixels.
        num_frames: Of the longest clip.
        clips: A step, over all devices: exactly (VAE), or as many of the largest as fit (transformer).
        tokens: A step, over all devices: latent positions (VAE), or the budget of all packs (transformer).
        micro_batches: A step, on each device.
        micro_tokens: Of a micro batch on each device.
        activation_bytes: Of a device, without activation checkpointing.
        checkpointed_bytes: Of a device, with it.
        flops: Floating-point operations a step, over all devices; recomputation does not count.
    """

    name: str
    steps: int
    height: int
    width: int
    num_frames: int
    clips: int
    tokens: int
    micro_batches: int
    micro_tokens: int
    activation_bytes: int
    checkpointed_bytes: int
    flops: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run needs.

    Attributes:
        kind: Of the recipe.
        parameters: Part -> count.
        trained: How many of them are trained.
        num_devices: How many devices share the work.
        data_ranks: How many of them read different clips.
        num_steps: Of all stages.
        stages: In order.
        weight_bytes: Weights on a device, trained and frozen, with their copies in bf16.
        gradient_bytes: Gradients on a device.
        optimizer_bytes: Optimizer on a device.
        ema_bytes: Running mean on a device.
        peak_bytes: Of a device in the hungriest stage, as the recipe has it.
        peak_without_checkpointing: The same without activation checkpointing.
        peak_with_checkpointing: The same with it.
        checkpoint_bytes: One checkpoint on disk.
        disk_bytes: The run folder at its largest.
    """

    kind: str
    parameters: Mapping[str, int]
    trained: int
    num_devices: int
    data_ranks: int
    num_steps: int
    stages: tuple[StagePlan, ...]
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    ema_bytes: int
    peak_bytes: int
    peak_without_checkpointing: int
    peak_with_checkpointing: int
    checkpoint_bytes: int
    disk_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON takes them."""
        return asdict(self)


def make_plan(recipe: Recipe, networks: Networks, machine: Machine) -> Plan:
    """Return what a run needs on some devices.

    Args:
        recipe: The run.
        networks: Sizes of its networks (see read_networks).
        machine: The devices.

    Raises:
        UsageError: The devices cannot share the work so, or a size is not possible for these networks.
    """
    devices, context = machine.num_devices, recipe.run.context
    if devices % context:
        raise UsageError(f"{devices} device{'s'[: devices - 1]} cannot form groups of run.context={context}")
    data_ranks = devices // context
    parameters, trained, adapted = count_weights(recipe, networks)
    stages = tuple(_plan_stage(stage, recipe, networks, machine, data_ranks) for stage in recipe.stages)
    share = devices if recipe.run.shard else 1
    frozen = sum(parameters.values()) - trained
    weights = 4 * trained // share + frozen_bytes(recipe, parameters, frozen, machine, adapted=adapted)
    if machine.bf16 and not adapted:
        weights += 2 * trained  # each weight's copy in bf16 stays until it was used on the way back
    gradients, ema = 4 * trained // share, (4 * trained // share if recipe.optim.ema else 0)
    optimizer = optimizer_bytes(recipe, networks, trained) // share
    fixed = weights + gradients + optimizer + ema
    without = fixed + max(stage.activation_bytes for stage in stages)
    with_them = fixed + max(stage.checkpointed_bytes for stage in stages)
    checkpoint = (4 + (4 if recipe.optim.ema else 0)) * trained + optimizer_bytes(recipe, networks, trained)
    # A new checkpoint is whole before the oldest goes.
    kept = min(recipe.run.keep + 1, math.ceil(recipe.num_steps / recipe.run.save_every) + 1)
    result = 4 * trained if recipe.kind in ("vae", "lora") else model_bytes(parameters, machine)
    if recipe.kind in CLIP_TEXT:
        result = 4 * sum(parameters.values())
    return Plan(
        kind=recipe.kind,
        parameters=parameters,
        trained=trained,
        num_devices=devices,
        data_ranks=data_ranks,
        num_steps=recipe.num_steps,
        stages=stages,
        weight_bytes=weights,
        gradient_bytes=gradients,
        optimizer_bytes=optimizer,
        ema_bytes=ema,
        peak_bytes=with_them if recipe.run.activation_checkpointing else without,
        peak_without_checkpointing=without,
        peak_with_checkpointing=with_them,
        checkpoint_bytes=checkpoint,
        disk_bytes=kept * checkpoint + result,
    )


def num_tokens(networks: Networks, *, height: int, width: int, num_frames: int) -> int:
    """Return the tokens of one clip: text and video (transformer), or latent positions (VAE).

    Raises:
        UsageError: The networks cannot do such a clip.
    """
    config = networks.transformer
    rules = SizeRules.of(networks.vae, config)
    if num_frames != 1:
        rules.check(height=height, width=width, num_frames=num_frames)
    frames = rules.num_latents(num_frames)
    if config is None:
        return frames * (height // rules.spatial_ratio) * (width // rules.spatial_ratio)
    frames = (frames + rules.num_padded(num_frames)) // rules.temporal_patch
    return config.max_text_length + frames * (height // rules.multiple) * (width // rules.multiple)


def _plan_stage(stage: Stage, recipe: Recipe, networks: Networks, machine: Machine, data_ranks: int) -> StagePlan:
    height, width = max(stage.sizes, key=lambda size: size[0] * size[1])
    clip = {"height": height, "width": width, "num_frames": stage.max_frames}
    longest = num_tokens(networks, **clip)
    config = networks.transformer
    if config is not None or networks.clip_text is not None:
        _check_packs(stage, data_ranks)
    if networks.clip_text is not None:
        count, micro = stage.packs // data_ranks, stage.batch_size // stage.packs
        clips, tokens, micro_tokens = stage.batch_size, stage.batch_size * longest, micro * longest
        latents = SizeRules.of(networks.vae, None).num_latents(stage.max_frames)
        flops = clip_text_flops(networks.clip_text, latents) * clips * passes(recipe)
        activations = checkpointed = clip_text_activations(networks.clip_text, micro, latents)
    elif config is None:
        micro = math.ceil(stage.batch_size / data_ranks / recipe.run.accumulate)
        full, thin, flops = vae_activations(networks.vae, (micro, stage.max_frames, height, width), machine)
        if recipe.vae.gan_weight:
            judged = discriminator_activations(recipe, (micro, stage.max_frames, height, width))
            full, thin = full + judged, thin + judged
        factor = (VAE_BF16 if machine.bf16 else 1.0) / recipe.run.context
        clips, tokens, count = stage.batch_size, stage.batch_size * longest, recipe.run.accumulate
        micro_tokens = micro * longest
        flops *= passes(recipe) * stage.batch_size / micro
        activations, checkpointed = int(full * factor), int(thin * factor)
    else:
        budget = stage.tokens or longest
        if budget < longest:
            raise UsageError(
                f"stage {stage.name or 1}: a pack of {budget} tokens does not hold the largest clip ({width}x{height}, "
                f"{stage.max_frames} frames: {longest} tokens); raise stages.tokens or lower stages.max_frames"
            )
        in_pack = budget // longest
        clips, tokens, count = in_pack * stage.packs, budget * stage.packs, stage.packs // data_ranks
        micro_tokens = budget
        flops = transformer_flops(config, longest) * in_pack * stage.packs * passes(recipe)
        activations, checkpointed = transformer_activations(recipe, config, budget // recipe.run.context, machine)
    return StagePlan(
        name=stage.name,
        steps=stage.steps,
        clips=clips,
        tokens=tokens,
        micro_batches=count,
        micro_tokens=micro_tokens,
        activation_bytes=activations,
        checkpointed_bytes=checkpointed,
        flops=flops,
        **clip,
    )


def _check_packs(stage: Stage, data_ranks: int) -> None:
    if stage.packs % data_ranks:
        near = max(stage.packs // data_ranks, 1) * data_ranks
        raise UsageError(
            f"stage {stage.name or 1}: {stage.packs} packs a step cannot be shared by {data_ranks} data ranks; "
            f"use {near} or {near + data_ranks}"
        )
