"""Clips of different lengths and sizes in one sequence; attention, positions and time are each clip's own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cogvx.distributed import World, gather
from cogvx.errors import ShapeError
from cogvx.models.transformer.config import Positions, TransformerConfig
from cogvx.models.transformer.embeddings import unpatchify
from cogvx.models.transformer.layout import layout_of, slice_of
from cogvx.shapes import expect

if TYPE_CHECKING:
    from cogvx.models.transformer.model import ExpertTransformer


def forward_packed(
    transformer: "ExpertTransformer",
    clips: Sequence[Tensor],
    text_embeds: Sequence[Tensor],
    timesteps: Tensor,
    *,
    ofs: Tensor | None = None,
    positions: Positions | None = None,
    world: World | None = None,
) -> list[Tensor]:
    """Predict the velocity of noised clips, as the transformer alone does for each of them.

    The sequence is [text 1, video 1, text 2, video 2 ...]. Ranks that share it each compute a slice of it and return
    all velocities. There every rank makes the same loss: let each count 1/context_size of it, and sum the gradients.

    Args:
        transformer: The model.
        clips: Each (c t h w), the noised latents and, for image-to-video, the image's behind them on c.
        text_embeds: Each (l d).
        timesteps: (n,) in 0...999, one a clip.
        ofs: (n,) or (1,), the second scalar of the 1.5 image-to-video form.
        positions: Another choice than the config's.
        world: Its context group shares the sequence; all its ranks give the same arguments.

    Returns:
        For each clip, the velocity (c_out t h w).

    Raises:
        ShapeError: An axis does not fit, or the lists differ in length.
        UsageError: A clip is of a size that the model has no positions for.

    Source: CogVideoX paper (arXiv 2408.06072), "Multi-Resolution Frame Pack".
    """
    # Through the module's own call, so that what hangs on it (sharding, hooks) takes part.
    return transformer(clips, text_embeds, timesteps, ofs=ofs, positions=positions, world=world)


def run_packed(
    transformer: "ExpertTransformer",
    clips: Sequence[Tensor],
    text_embeds: Sequence[Tensor],
    timesteps: Tensor,
    *,
    ofs: Tensor | None,
    positions: Positions | None,
    world: World | None,
) -> list[Tensor]:
    """Compute what `forward_packed` returns."""
    config = transformer.config
    _check(config, clips, text_embeds, timesteps)
    shared = world if world is not None and world.context_size > 1 else None
    if shared is None and len({(clip.shape, text.shape) for clip, text in zip(clips, text_embeds, strict=True)}) == 1:
        # Clips of one size are a batch: no piece needs its own call.
        batch = torch.stack([*clips]), torch.stack([*text_embeds])
        velocities = transformer.forward(*batch, timesteps, ofs=ofs, positions=positions)
        return [velocity.clone() for velocity in velocities]  # FSDP warns of views
    grids = [transformer.grid(clip) for clip in clips]
    ropes = [transformer.rope(grid, clips[0].device, positions) for grid in grids]
    layout = layout_of([len(text) for text in text_embeds], grids, ropes, transformer.attention_backend)
    time = transformer.time(timesteps, ofs, clips[0].dtype)
    # Also where only a slice is computed here: every parameter gets a gradient on every rank, and embedding is cheap.
    embedded = [transformer.patch_embed(clip[None], text[None]) for clip, text in zip(clips, text_embeds, strict=True)]
    tokens = torch.cat(embedded, dim=1)
    if shared is not None:
        layout = slice_of(layout, shared)
        tokens = tokens[:, layout.start : layout.start + sum(layout.lengths)]
    videos = layout.split(transformer.run_blocks(tokens, time, layout))[1::2]
    patches = torch.cat([transformer.head(*pair) for pair in zip(videos, time.split(1), strict=True)], dim=1)
    if shared is not None:
        patches = gather(patches, dim=1, world=shared)
    of_clips = patches[0].split([t * h * w for t, h, w in grids])
    return [unpatchify(own, grid, config) for own, grid in zip(of_clips, grids, strict=True)]


def _check(
    config: TransformerConfig, clips: Sequence[Tensor], text_embeds: Sequence[Tensor], timesteps: Tensor
) -> None:
    if not len(clips) == len(text_embeds) == len(timesteps) > 0:
        raise ShapeError(f"got {len(clips)} clips, {len(text_embeds)} texts and {len(timesteps)} timesteps to pack")
    pt, p = config.temporal_patch_size or 1, config.patch_size
    for i, (clip, text) in enumerate(zip(clips, text_embeds, strict=True)):
        expect(text, "l d", f"text_embeds[{i}]", d=config.text_size)
        t, h, w = [expect(clip, "c t h w", f"clips[{i}]", c=config.in_channels)[axis] for axis in "thw"]
        if t % pt or h % p or w % p:
            raise ShapeError(f"clips[{i}]: {t}x{h}x{w} latents are not a multiple of the patch {pt}x{p}x{p}")
