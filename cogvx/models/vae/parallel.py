"""A clip in one pass: all chunks side by side, on one rank or cut along time over several."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from cogvx.distributed import World, gather, halo
from cogvx.errors import UsageError

# Over what group norms look: the chunk, as the released models do when they are used, or the whole clip, as the
# official code trains.
Norms = Literal["chunk", "clip"]


@dataclass(frozen=True)
class Part:
    """The frames of a clip that one rank holds, on their way through a network in one pass.

    Chunks share nothing but the past frames of convolutions, so that all of them can go through a layer together: its
    convolutions see the frames before as they are, its norms each chunk for itself. The first rank holds 1 + n frames
    and every other one n: what is done to the first frame apart is done there alone, however many frames a rank has.

    Attributes:
        world: The ranks that share the clip.
        norms: Over what group norms look.
        num_chunks: Chunks in this part.
    """

    world: World
    norms: Norms = "chunk"
    num_chunks: int = 1

    @property
    def first(self) -> bool:
        """Whether the clip's first frame is here."""
        return self.world.context_rank == 0

    def chunked(self, num_frames: int, chunk: int) -> "Part":
        """Return this part with as many chunks of `chunk` frames as its frames make; the first frame is extra."""
        return replace(self, num_chunks=max(1, (num_frames - self.first) // chunk))

    def before(self, x: Tensor, num: int) -> Tensor | None:
        """Return the last frames of the rank before, None on the first rank; x is (b c t h w)."""
        return halo(x, num, dim=2, world=self.world)

    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """Return x (b c t h w) normalised over each chunk, or over all frames of all ranks."""
        if self.norms == "clip" and self.world.context_size > 1:
            return _norm_over_ranks(norm, x, self.world)
        parts = []
        for start, stop, num in self.chunks(x.shape[2]):
            y = norm(rearrange(x[:, :, start:stop], "b c (n t) h w -> (b n) c t h w", n=num))
            parts.append(rearrange(y, "(b n) c t h w -> b c (n t) h w", n=num))
        return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]

    def chunks(self, num_frames: int) -> list[tuple[int, int, int]]:
        """Return first frame, end, and number of equal chunks of each run of frames that norms look at one by one."""
        if self.norms == "clip" or self.num_chunks == 1:
            return [(0, num_frames, 1)]
        if not self.first:
            return [(0, num_frames, self.num_chunks)]
        head = 1 + (num_frames - 1) // self.num_chunks
        return [(0, head, 1), (head, num_frames, self.num_chunks - 1)]


def cut(x: Tensor, world: World) -> Tensor:
    """Return this rank's frames of a whole clip (b c t h w): the first rank has one more than the others."""
    each = (x.shape[2] - 1) // world.context_size
    start = 1 + each * world.context_rank if world.context_rank else 0
    return x[:, :, start : 1 + each * (world.context_rank + 1)]


def check_frames(num_frames: int, ratio: int, part: Part) -> None:
    """Check that a clip can be cut over the ranks of a part, and into chunks where norms look at chunks.

    Args:
        num_frames: Of the whole clip.
        ratio: Frames a latent frame.
        part: Who shares the clip.

    Raises:
        UsageError: It cannot.
    """
    size = part.world.context_size
    # A neighbour needs two latent frames; a chunk has eight frames, and at least two latent frames in the decoder.
    step = max(8, 2 * ratio) if part.norms == "chunk" else ratio
    least = 0 if size == 1 else 2 * ratio
    if (num_frames - 1) % (step * size) or (num_frames - 1) // size < least:
        raise UsageError(
            f"clips of {num_frames} frames cannot be trained on with {size} rank{'s' if size > 1 else ''} a clip and "
            f"norms over the {part.norms}: 1 + a multiple of {max(step, least) * size} frames can"
        )


def _norm_over_ranks(norm: nn.GroupNorm, x: Tensor, world: World) -> Tensor:
    """Group norm of x (b c t h w) with the mean and variance of the frames of all context ranks."""
    groups = rearrange(x.float(), "b (g c) t h w -> b g (c t h w)", g=norm.num_groups)
    variance, mean = torch.var_mean(groups, dim=2, correction=0)
    count = torch.full_like(mean, groups.shape[2])
    counts, means, variances = gather(torch.stack([count, mean, variance])[None], dim=0, world=world).unbind(1)
    shares = counts / counts.sum(dim=0)
    mean = (shares * means).sum(dim=0)
    variance = (shares * (variances + (means - mean).square())).sum(dim=0)
    scale = rearrange(norm.weight.float(), "(g c) -> g c", g=norm.num_groups) * (variance + norm.eps).rsqrt()[..., None]
    shift = rearrange(norm.bias.float(), "(g c) -> g c", g=norm.num_groups) - mean[..., None] * scale
    scale, shift = (rearrange(value, "b g c -> b (g c) 1 1 1") for value in (scale, shift))
    return torch.addcmul(shift, x.float(), scale).to(x.dtype)
