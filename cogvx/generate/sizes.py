"""Which heights, widths and frame counts a model can do."""

import math
from dataclasses import dataclass

from cogvx.errors import UsageError
from cogvx.models.transformer import TransformerConfig
from cogvx.models.vae import VAEConfig

ENCODE_CHUNK = 8  # frames the VAE encodes at a time; part of its definition


@dataclass(frozen=True)
class SizeRules:
    """Legal sizes of a model.

    Attributes:
        multiple: Height and width are multiples of this many pixels.
        frame_period: The frame count is k times this, plus 1.
        temporal_ratio: Frames a latent frame.
        spatial_ratio: Pixels a latent, in each direction.
        temporal_patch: Latent frames a token.
        fixed: The only (height, width) possible, if there is only one.
        largest: The largest (height, width) possible, if there is one.
    """

    multiple: int
    frame_period: int
    temporal_ratio: int
    spatial_ratio: int
    temporal_patch: int = 1
    fixed: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None

    @classmethod
    def of(cls, vae: VAEConfig, transformer: TransformerConfig | None = None) -> "SizeRules":
        """Derive the rules from a model's configuration; without a transformer those of the VAE alone.

        The VAE works on chunks of 8 frames and 2 latents, and only from an odd number of latents come back as many
        frames as went in: hence 8k + 1 frames for the official ratio of 4, and not 4k + 1.
        """
        period = math.lcm(ENCODE_CHUNK, 2 * vae.temporal_compression_ratio)
        ratio = vae.spatial_ratio
        if transformer is None:
            return cls(ratio, period, vae.temporal_compression_ratio, ratio)
        own = (transformer.sample_height * ratio, transformer.sample_width * ratio)
        sliced = transformer.rotary and transformer.temporal_patch_size is not None
        return cls(
            multiple=ratio * transformer.patch_size,
            frame_period=period,
            temporal_ratio=vae.temporal_compression_ratio,
            spatial_ratio=ratio,
            temporal_patch=transformer.temporal_patch_size or 1,
            fixed=own if transformer.learned_positions else None,
            largest=own if sliced else None,
        )

    def check(self, *, height: int, width: int, num_frames: int) -> None:
        """Refuse a size that the model cannot do.

        Raises:
            UsageError: Which value is wrong, and the nearest that are right.
        """
        if self.fixed is not None and (height, width) != self.fixed:
            raise UsageError(
                f"this model does {self.fixed[1]}x{self.fixed[0]} only (width x height), not {width}x{height}; "
                f"use --height {self.fixed[0]} --width {self.fixed[1]}"
            )
        for name, value, top in (("height", height, 0), ("width", width, 1)):
            limit = self.largest[top] if self.largest else None
            if value % self.multiple or value < self.multiple or (limit is not None and value > limit):
                near = " or ".join(str(n) for n in self._near(value, limit))
                bound = f" up to {limit}" if limit is not None else ""
                raise UsageError(
                    f"{name} {value} is not possible: it must be a multiple of {self.multiple}{bound}; nearest: {near}"
                )
        if num_frames < 1 or (num_frames - 1) % self.frame_period:
            below, above = self.nearest_frames(num_frames)
            near = f"{below} or {above}" if below != above else f"{below}"
            raise UsageError(
                f"{num_frames} frames are not possible: it must be {self.frame_period}k + 1; nearest: {near}"
            )

    def nearest_frames(self, num_frames: int) -> tuple[int, int]:
        """Return the legal frame counts just below (or equal) and just above."""
        below = max((num_frames - 1) // self.frame_period, 0) * self.frame_period + 1
        return (below, below) if below == num_frames else (below, below + self.frame_period)

    def floor_frames(self, num_frames: int) -> int:
        """Return the largest legal frame count that a clip of this many frames (at least 1) has."""
        return self.nearest_frames(num_frames)[0]

    def floor_size(self, size: int) -> int:
        """Return the largest legal height or width up to a size, at least one multiple."""
        return max(size // self.multiple, 1) * self.multiple

    def num_latents(self, num_frames: int) -> int:
        """Return the latent frames of a clip."""
        return (num_frames - 1) // self.temporal_ratio + 1

    def num_padded(self, num_frames: int) -> int:
        """Return how many latent frames are put in front so that they fill whole tokens (1.5 models: 0 or 1)."""
        return -self.num_latents(num_frames) % self.temporal_patch

    def _near(self, value: int, limit: int | None) -> list[int]:
        below = self.floor_size(min(value, limit) if limit is not None else value)
        above = below + self.multiple
        return [below] if value < below or (limit is not None and above > limit) else [below, above]
