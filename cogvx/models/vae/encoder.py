"""The encoder of the 3D causal VAE: pixels to the moments of the latents."""

import torch
from torch import Tensor, nn

from cogvx.models.vae.blocks import NORM_EPS, Activated, DownBlock, Past, ResStack
from cogvx.models.vae.causal_conv import CausalConv3d
from cogvx.models.vae.config import VAEConfig
from cogvx.models.vae.parallel import Part


class Encoder(Activated):
    """Four levels by default; the first levels halve the frames too, the last keeps its size.

    Source: CogVideoX paper (arXiv 2408.06072), "3D Causal VAE".
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = config.block_out_channels
        groups = config.norm_num_groups
        last = len(widths) - 1
        self.conv_in = CausalConv3d(config.in_channels, widths[0])
        self.down_blocks = nn.ModuleList(
            DownBlock(
                widths[max(i - 1, 0)],
                width,
                config.layers_per_block,
                groups,
                shrink=i < last,
                shrink_time=i < config.num_temporal_levels,
            )
            for i, width in enumerate(widths)
        )
        self.mid_block = ResStack(widths[-1], widths[-1], 2, groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=NORM_EPS)
        self.conv_out = CausalConv3d(widths[-1], 2 * config.latent_channels)

    def forward(self, video: Tensor, past: Past | None = None, part: Part | None = None) -> tuple[Tensor, Past]:
        """Encode one chunk, or all chunks of a part in one pass.

        Args:
            video: (b 3 t h w) in [-1, 1].
            past: The caches of the chunk before, None at the start of a clip.
            part: Where the frames stand in a clip that runs in one pass.

        Returns:
            Moments (b 2c t' h/8 w/8), and the caches for the next chunk.
        """
        if video.device.type == "cpu" and video.dtype == torch.bfloat16 and not torch.is_grad_enabled():
            # Channels innermost, as AMX wants them: 2.5 times as fast. In float32 it makes no difference.
            video = video.contiguous(memory_format=torch.channels_last_3d)
        num_blocks = len(self.down_blocks)
        past_in, *past_down, past_mid, past_out = past or [None] * (num_blocks + 3)
        x, kept_in = self.conv_in(video, past_in, part)
        kept_down = []
        for block, block_past in zip(self.down_blocks, past_down, strict=True):
            x, kept = block(x, None, block_past, part)
            kept_down.append(kept)
        x, kept_mid = self.mid_block(x, None, past_mid, part)
        x, kept_out = self.conv_out(self.activate(self.norm_out, x, None, part), past_out, part)
        return x, (kept_in, *kept_down, kept_mid, kept_out)
