"""The expert transformer: noised latents, text and time to the velocity."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cogvx.distributed import World
from cogvx.models.attention import Backend
from cogvx.models.transformer.blocks import FinalAdaLN
from cogvx.models.transformer.config import Positions, TransformerConfig
from cogvx.models.transformer.embeddings import PatchEmbed, TimeEmbedding, rope_of, unpatchify
from cogvx.models.transformer.layout import Grid, Layout, Rope, layout_of
from cogvx.models.transformer.packed import run_packed
from cogvx.models.transformer.variants import make_block
from cogvx.shapes import expect


class ExpertTransformer(nn.Module):
    """The diffusion transformer of every released form; the config says which.

    Source: CogVideoX paper (arXiv 2408.06072), "Expert Transformer"; zai-org/CogVideo sat/dit_video_concat.py.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_backend: Backend = "auto"
        self.activation_checkpointing = False  # training keeps the inputs of blocks only, and computes the rest again
        self.patch_embed = PatchEmbed(config)
        self.time_embedding = TimeEmbedding(config.hidden_size, config.time_size)
        self.ofs_embedding = TimeEmbedding(config.ofs_size, config.ofs_size) if config.ofs_size else None
        self.transformer_blocks = nn.ModuleList(make_block(config, layer) for layer in range(config.num_layers))
        self.norm_final = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.norm_out = FinalAdaLN(config)
        self.proj_out = nn.Linear(config.hidden_size, config.out_channels * config.patch_values)

    def forward(
        self,
        latents: Tensor | Sequence[Tensor],
        text_embeds: Tensor | Sequence[Tensor],
        timestep: Tensor,
        *,
        ofs: Tensor | None = None,
        positions: Positions | None = None,
        world: World | None = None,
    ) -> Tensor | list[Tensor]:
        """Predict the velocity of noised latents; a list of clips goes as one sequence (`forward_packed`).

        Args:
            latents: (b c t h w), the noised latents and, for image-to-video, the image's behind them on c; t is a
                multiple of the temporal patch, h and w of the patch.
            text_embeds: (b l d).
            timestep: (b,) in 0...999.
            ofs: (b,) or (1,), the second scalar of the 1.5 image-to-video form.
            positions: Another choice than the config's.
            world: Who shares a packed sequence.

        Returns:
            Velocity (b c_out t h w): sqrt(alpha) noise - sqrt(1 - alpha) x0.

        Raises:
            ShapeError: An axis does not fit.
        """
        if not (isinstance(latents, Tensor) and isinstance(text_embeds, Tensor)):
            return run_packed(self, [*latents], [*text_embeds], timestep, ofs=ofs, positions=positions, world=world)
        expect(latents, "b c t h w", "latents", c=self.config.in_channels)
        expect(text_embeds, "b l d", "text_embeds", d=self.config.text_size)
        grid = self.grid(latents)
        rope = self.rope(grid, latents.device, positions)
        layout = layout_of([text_embeds.shape[1]], [grid], [rope], self.attention_backend)
        time = self.time(timestep, ofs, latents.dtype)
        tokens = self.run_blocks(self.patch_embed(latents, text_embeds), time, layout)
        _, video = layout.split(tokens)
        return unpatchify(self.head(video, time), grid, self.config)

    def time(self, timestep: Tensor, ofs: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Return the vectors (b e) that steer the norms."""
        time = self.time_embedding(timestep, dtype)
        if self.ofs_embedding is not None and ofs is not None:
            time = time + self.ofs_embedding(ofs, dtype)
        return time

    def run_blocks(self, tokens: Tensor, time: Tensor, layout: Layout) -> Tensor:
        """Map tokens (b l d) to (b l d) through all blocks."""
        for block in self.transformer_blocks:
            if self.activation_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, time, layout, use_reentrant=False, preserve_rng_state=False)
            else:
                tokens = block(tokens, time, layout)
        return tokens

    def head(self, video: Tensor, time: Tensor) -> Tensor:
        """Map video tokens (b l d) under time (b e) to patches of velocity (b l c*pt*p*p)."""
        return self.proj_out(self.norm_out(self.norm_final(video), time))

    def grid(self, latents: Tensor) -> Grid:
        """Return how many tokens latents (... c t h w) make along t, h and w."""
        t, h, w = latents.shape[-3:]
        return t // (self.config.temporal_patch_size or 1), h // self.config.patch_size, w // self.config.patch_size

    def rope(self, grid: Grid, device: torch.device, positions: Positions | None = None) -> Rope | None:
        """Return the rotary tables (t*h*w head_dim) of a grid, None for a form without rotation."""
        tables = rope_of(self.config, grid, positions or self.config.positions)
        return None if tables is None else (tables[0].to(device), tables[1].to(device))
