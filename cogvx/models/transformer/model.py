"""The expert transformer: noised latents, text and time to the velocity."""

import torch
from torch import Tensor, nn

from cogvx.models.attention import Backend
from cogvx.models.rope import fitted_coordinates, rope_table, sliced_coordinates
from cogvx.models.transformer.blocks import ExpertBlock, FinalAdaLN, split
from cogvx.models.transformer.config import TransformerConfig
from cogvx.models.transformer.embeddings import PatchEmbed, TimeEmbedding, unpatchify
from cogvx.shapes import expect


class ExpertTransformer(nn.Module):
    """The diffusion transformer of every released form; the config says which.

    Source: CogVideoX paper (arXiv 2408.06072), "Expert Transformer"; zai-org/CogVideo sat/dit_video_concat.py.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_backend: Backend = "auto"
        self.patch_embed = PatchEmbed(config)
        self.time_embedding = TimeEmbedding(config.hidden_size, config.time_size)
        self.ofs_embedding = TimeEmbedding(config.ofs_size, config.ofs_size) if config.ofs_size else None
        self.transformer_blocks = nn.ModuleList(ExpertBlock(config) for _ in range(config.num_layers))
        self.norm_final = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.norm_out = FinalAdaLN(config)
        self.proj_out = nn.Linear(config.hidden_size, config.out_channels * config.patch_values)

    def forward(self, latents: Tensor, text_embeds: Tensor, timestep: Tensor, *, ofs: Tensor | None = None) -> Tensor:
        """Predict the velocity of noised latents.

        Args:
            latents: (b c t h w), the noised latents and, for image-to-video, the image's behind them on c; t is a
                multiple of the temporal patch, h and w of the patch.
            text_embeds: (b l d).
            timestep: (b,) in 0...999.
            ofs: (b,) or (1,), the second scalar of the 1.5 image-to-video form.

        Returns:
            Velocity (b c_out t h w): sqrt(alpha) noise - sqrt(1 - alpha) x0.

        Raises:
            ShapeError: An axis does not fit.
        """
        config = self.config
        expect(latents, "b c t h w", "latents", c=config.in_channels)
        expect(text_embeds, "b l d", "text_embeds", d=config.text_size)
        grid = self.grid(latents)
        text_length = text_embeds.shape[1]
        time = self.time_embedding(timestep, latents.dtype)
        if self.ofs_embedding is not None and ofs is not None:
            time = time + self.ofs_embedding(ofs, latents.dtype)
        tokens = self.patch_embed(latents, text_embeds)
        rope = self.rope(grid, latents.device)
        for block in self.transformer_blocks:
            tokens = block(tokens, time, rope, text_length, self.attention_backend)
        _, video = split(tokens, text_length)
        return unpatchify(self.proj_out(self.norm_out(self.norm_final(video), time)), grid, config)

    def grid(self, latents: Tensor) -> tuple[int, int, int]:
        """Return how many tokens latents (b c t h w) make along t, h and w."""
        config = self.config
        t, h, w = latents.shape[2:]
        return t // (config.temporal_patch_size or 1), h // config.patch_size, w // config.patch_size

    def rope(self, grid: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor] | None:
        """Return the rotary tables (t*h*w head_dim) of a grid, None for a form without rotation."""
        config = self.config
        if not config.rotary:
            return None
        base = config.sample_height // config.patch_size, config.sample_width // config.patch_size
        coordinates = fitted_coordinates if config.temporal_patch_size is None else sliced_coordinates
        cos, sin = rope_table(config.head_dim, grid[0], *coordinates(grid[1:], base))
        return cos.to(device), sin.to(device)
