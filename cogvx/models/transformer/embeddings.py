"""From latents, text and time to tokens, and from tokens back to latents."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cogvx.errors import UsageError
from cogvx.models.rope import (
    fitted_coordinates,
    plain_coordinates,
    rope_table,
    sliced_coordinates,
    stretched_coordinates,
)
from cogvx.models.sincos import sincos_table, timestep_sinusoid
from cogvx.models.transformer.config import Positions, TransformerConfig
from cogvx.models.transformer.layout import Grid, Rope


class TimeEmbedding(nn.Module):
    """Diffusion time, or another scalar, to the vector that steers the norms."""

    def __init__(self, sinusoid_size: int, size: int) -> None:
        super().__init__()
        self.sinusoid_size = sinusoid_size
        self.linear_1 = nn.Linear(sinusoid_size, size)
        self.linear_2 = nn.Linear(size, size)

    def forward(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Map (b,) to (b e); the sinusoid is made in float32, then cast."""
        return self.linear_2(F.silu(self.linear_1(timestep_sinusoid(values, self.sinusoid_size).to(dtype))))


class PatchEmbed(nn.Module):
    """Text embeddings and patches of latents to one sequence of tokens, with added positions where a form has them."""

    pos_embedding: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        p, channels, width = config.patch_size, config.in_channels, config.hidden_size
        self.proj: nn.Module
        if config.temporal_patch_size is None:
            self.proj = nn.Conv2d(channels, width, kernel_size=p, stride=p)
        else:
            self.proj = nn.Linear(channels * config.patch_values, width)
        self.text_proj = nn.Linear(config.text_size, width)
        if config.learned_positions:
            num_tokens = config.max_text_length + self._sample_grid[0] * self._sample_grid[1] * self._sample_grid[2]
            self.register_buffer("pos_embedding", torch.zeros(1, num_tokens, width))

    @property
    def _sample_grid(self) -> Grid:
        config = self.config
        return (config.sample_frames - 1) // config.temporal_compression_ratio + 1, *config.sample_patches

    def forward(self, latents: Tensor, text_embeds: Tensor) -> Tensor:
        """Map latents (b c t h w) and text (b l d) to tokens (b l+t*h*w/p^2 d)."""
        text = self.text_proj(text_embeds)
        p, pt = self.config.patch_size, self.config.temporal_patch_size
        if pt is None:
            frames = rearrange(latents, "b c t h w -> (b t) c h w")
            video = rearrange(self.proj(frames), "(b t) d h w -> b (t h w) d", b=latents.shape[0])
        else:
            patches = rearrange(latents, "b c (t pt) (h ph) (w pw) -> b (t h w) (c pt ph pw)", pt=pt, ph=p, pw=p)
            video = self.proj(patches)
        tokens = torch.cat([text, video], dim=1)
        if self.config.rotary and not self.config.learned_positions:
            return tokens
        t, h, w = latents.shape[2], latents.shape[3] // p, latents.shape[4] // p
        return tokens + self._positions((t, h, w), text.shape[1]).to(tokens)

    def _positions(self, grid: Grid, text_length: int) -> Tensor:
        config = self.config
        if text_length != config.max_text_length:
            raise UsageError(f"this model takes exactly {config.max_text_length} text tokens, got {text_length}")
        if config.learned_positions:
            if grid[1:] != self._sample_grid[1:]:
                size = f"{config.sample_height}x{config.sample_width}"
                raise UsageError(f"this model has learned positions for {size} latents only")
            if grid == self._sample_grid:  # another length takes the fixed table, as the official code does
                return self.pos_embedding
        table = sincos_table(
            config.hidden_size, grid, spatial_scale=config.spatial_scale, temporal_scale=config.temporal_scale
        )
        return F.pad(table, (0, 0, text_length, 0))[None]


def rope_of(config: TransformerConfig, grid: Grid, positions: Positions) -> Rope | None:
    """Return the rotary tables (t*h*w head_dim) of a grid of tokens, None for a form without rotation.

    Raises:
        UsageError: The model has no such positions.
    """
    if not config.rotary:
        if positions == "interpolate":
            raise UsageError("only a model with rotary positions can interpolate them")
        return None
    size, base = grid[1:], config.sample_patches
    if positions == "extrapolate":
        coordinates = plain_coordinates(size)
    elif positions == "interpolate":
        coordinates = stretched_coordinates(size, base)
    else:
        coordinates = (fitted_coordinates if config.temporal_patch_size is None else sliced_coordinates)(size, base)
    return rope_table(config.head_dim, grid[0], *coordinates)


def unpatchify(tokens: Tensor, grid: Grid, config: TransformerConfig) -> Tensor:
    """Map output tokens (... t*h*w c*pt*p*p) of a grid (t, h, w) back to latents (... c t*pt h*p w*p)."""
    t, h, w = grid
    p, pt = config.patch_size, config.temporal_patch_size or 1
    pattern = "... (t h w) (c pt ph pw) -> ... c (t pt) (h ph) (w pw)"
    return rearrange(tokens, pattern, t=t, h=h, w=w, pt=pt, ph=p, pw=p)
