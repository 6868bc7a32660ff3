"""One run of the transformer over the clips of a pack."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cogvx.distributed import World
from cogvx.models.transformer import ExpertTransformer
from cogvx.models.transformer.packed import forward_packed


def predict_velocities(
    transformer: ExpertTransformer,
    inputs: Sequence[Tensor],
    text_embeds: Tensor,
    timesteps: Tensor,
    *,
    ofs: float,
    world: World,
    dtype: torch.dtype,
) -> list[Tensor]:
    """Return the velocity (c t h w) of each clip, float32.

    Args:
        transformer: The model.
        inputs: Noised latents (c t h w), with the image's channels where the model takes them.
        text_embeds: (n l d).
        timesteps: (n,).
        ofs: Second scalar of the 1.5 image-to-video form; other forms have none.
        world: Ranks that share the sequence.
        dtype: Of the arithmetic; the weights keep their own.
    """
    device = inputs[0].device
    extra = torch.full((1,), ofs, device=device) if transformer.config.ofs_size else None
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        texts = list(text_embeds)
        velocities = forward_packed(transformer, inputs, texts, timesteps.to(device), ofs=extra, world=world)
    return [velocity.float() for velocity in velocities]
