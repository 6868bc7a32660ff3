"""Where the text and the video of each clip lie in a sequence of tokens, how they turn, and who sees whom."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise

import torch
from torch import Tensor

from cogvx.distributed import World, gather
from cogvx.errors import UsageError
from cogvx.models.attention import Backend, attend
from cogvx.models.rope import apply_rope

Grid = tuple[int, int, int]
Rope = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The order of tokens in a sequence (b l d): text and video of the first clip, of the second, and so on.

    One clip a sequence and any batch is the common case; packed clips share one sequence, with a batch of one. Time
    vectors come as (clips*b e). On a rank that has a slice of the sequence only, pieces are cut or empty.

    Attributes:
        lengths: Tokens here of text, video, text, video ...
        grids: Tokens of each whole clip along t, h and w.
        ropes: Of each clip, the tables (l e) of its video tokens here; None for a form without rotation.
        backend: Of attention.
        segments: Tokens of each whole clip, text and video, in the whole sequence.
        start: Where in the whole sequence the tokens here begin.
        world: Who shares the sequence; None: it is all here.
    """

    lengths: tuple[int, ...]
    grids: tuple[Grid, ...]
    ropes: tuple[Rope, ...] | None
    backend: Backend
    segments: tuple[int, ...]
    start: int = 0
    world: World | None = None

    def split(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Cut tokens (b l d) into text, video, text, video ..."""
        return tokens.split(self.lengths, dim=1)

    def streams(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return all text and all video of a sequence, each (b l d)."""
        pieces = self.split(tokens)
        return torch.cat(pieces[::2], dim=1), torch.cat(pieces[1::2], dim=1)

    def join(self, text: Tensor, video: Tensor) -> Tensor:
        """Put the two streams back into their order: the inverse of `streams`."""
        both = zip(text.split(self.lengths[::2], dim=1), video.split(self.lengths[1::2], dim=1), strict=True)
        return torch.cat([*chain.from_iterable(both)], dim=1)

    def spread(self, text: Tensor, video: Tensor) -> list[Tensor]:
        """Return for each piece its clip's vector (b 1 d), of vectors (clips*b d) for text and for video."""
        clips = len(self.grids)
        return [x[:, None] for pair in zip(text.chunk(clips), video.chunk(clips), strict=True) for x in pair]

    def modulate(self, tokens: Tensor, scales: list[Tensor], shifts: list[Tensor]) -> Tensor:
        """Scale tokens (b l d) by one and the scale of their piece, and shift them."""
        pieces = zip(self.split(tokens), scales, shifts, strict=True)
        return torch.cat([x * (1 + scale) + shift for x, scale, shift in pieces], dim=1)

    def gate(self, tokens: Tensor, gates: list[Tensor]) -> Tensor:
        """Weigh tokens (b l d) by the gate of their piece."""
        return torch.cat([gate * x for x, gate in zip(self.split(tokens), gates, strict=True)], dim=1)

    def rotate(self, heads: Tensor) -> Tensor:
        """Turn queries or keys (b n l e) of the video by their positions."""
        if self.ropes is None:
            return heads
        pieces = [*heads.split(self.lengths, dim=2)]
        pieces[1::2] = (apply_rope(video, rope) for video, rope in zip(pieces[1::2], self.ropes, strict=True))
        return torch.cat(pieces, dim=2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend with positions, all (b n l e): each clip within itself, over all ranks that share it."""
        q, k = self.rotate(q), self.rotate(k)
        if self.world is not None:
            k, v = gather(torch.stack([k, v]), dim=3, world=self.world).unbind()
        elif len(self.segments) == 1:
            return attend(q, k, v, backend=self.backend)
        return attend(q, k, v, segments=self.segments, first_query=self.start, backend=self.backend)


def layout_of(
    text_lengths: Sequence[int], grids: Sequence[Grid], ropes: Sequence[Rope | None], backend: Backend
) -> Layout:
    """Return the layout of clips in one sequence, or of one clip a sequence.

    Args:
        text_lengths: Text tokens of each clip.
        grids: Video tokens of each clip along t, h and w.
        ropes: Tables (t*h*w e) of each clip, all or none.
        backend: Of attention.
    """
    lengths = [(text_length, t * h * w) for text_length, (t, h, w) in zip(text_lengths, grids, strict=True)]
    return Layout(
        lengths=tuple(chain.from_iterable(lengths)),
        grids=tuple(grids),
        ropes=tuple(rope for rope in ropes if rope is not None) or None,
        backend=backend,
        segments=tuple(sum(pair) for pair in lengths),
    )


def slice_of(layout: Layout, world: World) -> Layout:
    """Return the layout of this rank's slice of a sequence: contiguous, nearly as long as the others'.

    Raises:
        UsageError: There are fewer tokens than ranks.
    """
    total, ranks = sum(layout.lengths), world.context_size
    if total < ranks:
        raise UsageError(f"{total} tokens cannot be shared by {ranks} ranks")
    start, stop = (total * rank // ranks for rank in (world.context_rank, world.context_rank + 1))
    starts = [*accumulate(layout.lengths, initial=0)]
    # Of each piece, the tokens that are here, counted from its own first.
    here = [slice(max(start - a, 0), max(min(stop, b) - a, 0)) for a, b in pairwise(starts)]
    ropes = layout.ropes
    if ropes is not None:
        ropes = tuple((cos[own], sin[own]) for (cos, sin), own in zip(ropes, here[1::2], strict=True))
    lengths = tuple(max(own.stop - own.start, 0) for own in here)
    return replace(layout, lengths=lengths, ropes=ropes, start=start, world=world)
