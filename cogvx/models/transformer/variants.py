"""Blocks of the paper's ablations, chosen by the config; the released models have none of them.

Source: CogVideoX paper (arXiv 2408.06072), "Ablation Study".
"""

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from cogvx.errors import UsageError
from cogvx.models.attention import Backend, attend
from cogvx.models.transformer.blocks import Attention, ExpertAdaLN, ExpertBlock, FeedForward
from cogvx.models.transformer.config import TransformerConfig
from cogvx.models.transformer.layout import Layout


def make_block(config: TransformerConfig, layer: int) -> ExpertBlock:
    """Return the block of a layer: the expert block, or what the config has in its place."""
    block = ExpertBlock(config) if config.streams == "shared" else TwoStreamBlock(config)
    if config.modulation == "shared":
        block.norm1, block.norm2 = SharedAdaLN(config), SharedAdaLN(config)
    if config.attention == "separated":
        block.attn1 = (TemporalAttention if layer % 2 else SpatialAttention)(config)
    return block


class SharedAdaLN(ExpertAdaLN):
    """One scale, shift and gate for text and video."""

    num_sets = 1

    def modulation(self, time: Tensor) -> tuple[Tensor, ...]:
        """Return shift, scale and gate twice, each (clips*b d)."""
        return super().modulation(time) * 2


class TextStream(nn.Module):
    """The weights of a block that belong to the text."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attn1 = Attention(config)
        self.ff = FeedForward(config.hidden_size)


class TwoStreamBlock(ExpertBlock):
    """Separate weights for text and video; they meet in attention only.

    Source: Stable Diffusion 3 paper (arXiv 2403.03206), "Text-to-Image Architecture" (MMDiT).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.text = TextStream(config)

    def attend(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Map (b l d) to (b l d), each token from those it sees."""
        text, video = layout.streams(tokens)
        parts = zip(self.text.attn1.project(text), self.attn1.project(video), strict=True)
        q, k, v = (_join_heads(*pair, layout) for pair in parts)
        heads = rearrange(self.attn1.mix(q, k, v, layout), "b n l e -> b l n e")
        text, video = (rearrange(x, "b l n e -> b n l e") for x in layout.streams(heads))
        return layout.join(self.text.attn1.merge(text), self.attn1.merge(video))

    def feed(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Map (b l d) to (b l d), each token from itself."""
        text, video = layout.streams(tokens)
        return layout.join(self.text.ff(text), self.ff(video))


def _join_heads(text: Tensor, video: Tensor, layout: Layout) -> Tensor:
    """Join heads (b n l e) of the two streams into the order of the tokens."""
    text, video = (rearrange(x, "b n l e -> b l n e") for x in (text, video))
    return rearrange(layout.join(text, video), "b l n e -> b n l e")


class SeparatedAttention(Attention):
    """Attention along some axes of a clip only; the text sees itself, so that nothing passes through it."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """Attend clip by clip, all (b n l e)."""
        if layout.world is not None:
            raise UsageError('attention="separated" does not run over ranks that share a clip')
        pieces = [*zip(*(x.split(layout.lengths, dim=2) for x in (layout.rotate(q), layout.rotate(k), v)), strict=True)]
        mixed = []
        for text, video, grid in zip(pieces[::2], pieces[1::2], layout.grids, strict=True):
            mixed.append(attend(text[0], text[1], text[2], backend=layout.backend))
            mixed.append(self.mix_video(video, text, grid[0], layout.backend))
        return torch.cat(mixed, dim=2)

    def mix_video(self, video: tuple[Tensor, ...], text: tuple[Tensor, ...], t: int, backend: Backend) -> Tensor:
        """Return the new video of one clip of t frames, of queries, keys and values of both, all (b n l e)."""
        raise NotImplementedError


class SpatialAttention(SeparatedAttention):
    """The video sees the text and its own frame."""

    def mix_video(self, video: tuple[Tensor, ...], text: tuple[Tensor, ...], t: int, backend: Backend) -> Tensor:
        """Attend within each frame, all (b n l e)."""
        q, k, v = (rearrange(x, "b n (t s) e -> (b t) n s e", t=t) for x in video)
        text_k, text_v = (repeat(x, "b n l e -> (b t) n l e", t=t) for x in text[1:])
        k, v = torch.cat([text_k, k], dim=2), torch.cat([text_v, v], dim=2)
        return rearrange(attend(q, k, v, backend=backend), "(b t) n s e -> b n (t s) e", t=t)


class TemporalAttention(SeparatedAttention):
    """The video sees its own place in all frames."""

    def mix_video(self, video: tuple[Tensor, ...], text: tuple[Tensor, ...], t: int, backend: Backend) -> Tensor:
        """Attend along time at each place, all (b n l e)."""
        q, k, v = (rearrange(x, "b n (t s) e -> (b s) n t e", t=t) for x in video)
        return rearrange(attend(q, k, v, backend=backend), "(b s) n t e -> b n (t s) e", b=len(text[0]))
