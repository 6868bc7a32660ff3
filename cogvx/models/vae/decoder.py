"""The decoder of the 3D causal VAE: latents to pixels."""

from torch import Tensor, nn

from cogvx.models.vae.blocks import Activated, Past, ResStack, SpatialNorm, UpBlock
from cogvx.models.vae.causal_conv import CausalConv3d
from cogvx.models.vae.config import VAEConfig
from cogvx.models.vae.parallel import Part


class Decoder(Activated):
    """The encoder's mirror; every norm reads the latents, and frames double at the smallest sizes.

    Source: CogVideoX paper (arXiv 2408.06072), "3D Causal VAE".
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = config.block_out_channels[::-1]
        groups, latent_channels = config.norm_num_groups, config.latent_channels
        last = len(widths) - 1
        self.conv_in = CausalConv3d(latent_channels, widths[0])
        self.mid_block = ResStack(widths[0], widths[0], 2, groups, latent_channels)
        self.up_blocks = nn.ModuleList(
            UpBlock(
                (widths[max(i - 1, 0)], width),
                config.layers_per_block + 1,
                groups,
                latent_channels,
                grow=i < last,
                grow_time=i < config.num_temporal_levels,
            )
            for i, width in enumerate(widths)
        )
        self.norm_out = SpatialNorm(widths[-1], latent_channels, groups)
        self.conv_out = CausalConv3d(widths[-1], config.out_channels)

    def forward(self, z: Tensor, past: Past | None = None, part: Part | None = None) -> tuple[Tensor, Past]:
        """Decode one chunk, or all chunks of a part in one pass.

        Args:
            z: (b c t h w), latents divided by the scaling factor.
            past: The caches of the chunk before, None at the start of a clip.
            part: Where the latents stand in a clip that runs in one pass.

        Returns:
            Video (b 3 t' 8h 8w), about [-1, 1] and not clamped, and the caches for the next chunk.
        """
        num_blocks = len(self.up_blocks)
        past_in, past_mid, *past_up, past_out = past or [None] * (num_blocks + 3)
        x, kept_in = self.conv_in(z, past_in, part)
        x, kept_mid = self.mid_block(x, z, past_mid, part)
        kept_up = []
        for block, block_past in zip(self.up_blocks, past_up, strict=True):
            x, kept = block(x, z, block_past, part)
            kept_up.append(kept)
        x, kept_out = self.conv_out(self.activate(self.norm_out, x, z, part), past_out, part)
        return x, (kept_in, kept_mid, *kept_up, kept_out)
