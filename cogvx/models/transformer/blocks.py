"""The expert block: one attention and one feed-forward over text and video, each stream with its own modulation."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cogvx.models.transformer.config import TransformerConfig
from cogvx.models.transformer.layout import Layout

QK_NORM_EPS = 1e-6


class ExpertAdaLN(nn.Module):
    """Layer norm of the joint sequence; scale, shift and gate come from time, one set a stream.

    Source: CogVideoX paper (arXiv 2408.06072), "Expert Transformer".
    """

    num_sets = 2

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.time_size, 3 * self.num_sets * config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)

    def forward(self, tokens: Tensor, time: Tensor, layout: Layout) -> tuple[Tensor, list[Tensor]]:
        """Normalise and modulate.

        Args:
            tokens: (b l d).
            time: (clips*b e) time embeddings.
            layout: The order of the tokens.

        Returns:
            The tokens (b l d), and the gate of each piece (b 1 d).
        """
        shift, scale, gate, text_shift, text_scale, text_gate = self.modulation(time)
        scales, shifts = layout.spread(text_scale, scale), layout.spread(text_shift, shift)
        return layout.modulate(self.norm(tokens), scales, shifts), layout.spread(text_gate, gate)

    def modulation(self, time: Tensor) -> tuple[Tensor, ...]:
        """Return shift, scale and gate of the video, then of the text, each (clips*b d)."""
        return self.linear(F.silu(time)).chunk(3 * self.num_sets, dim=-1)


class Attention(nn.Module):
    """Full attention over text and video; positions rotate the video only."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_heads
        self.norm_q = nn.LayerNorm(config.head_dim, eps=QK_NORM_EPS)
        self.norm_k = nn.LayerNorm(config.head_dim, eps=QK_NORM_EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Map (b l d) to (b l d)."""
        return self.merge(self.mix(*self.project(tokens), layout))

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (b n l e) of tokens (b l d)."""
        q, k, v = (
            rearrange(proj(tokens), "b l (n e) -> b n l e", n=self.num_heads)
            for proj in (self.to_q, self.to_k, self.to_v)
        )
        return self.norm_q(q).to(v.dtype), self.norm_k(k).to(v.dtype), v

    def mix(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """Attend, all (b n l e)."""
        return layout.attend(q, k, v)

    def merge(self, heads: Tensor) -> Tensor:
        """Map (b n l e) to tokens (b l d)."""
        return self.to_out[0](rearrange(heads, "b n l e -> b l (n e)"))


class Projection(nn.Module):
    """The first half of the feed-forward; a module of its own because the official names have one."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b l d) to (b l 4d)."""
        return gelu(self.proj(x))


def gelu(x: Tensor) -> Tensor:
    """Return the GELU of x by the formula with the hyperbolic tangent.

    Compiled, a logistic function stands for the tangent, 0.5 (1 + tanh y) = sigmoid(2 y): on a CPU it takes half the
    time.
    """
    if not torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


class FeedForward(nn.Module):
    """Two linear maps with a GELU, shared by both streams."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([Projection(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (b l d) to (b l d)."""
        return self.net[2](self.net[0](x))


class ExpertBlock(nn.Module):
    """Attention and feed-forward, each between an expert norm and a gated residual."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm1 = ExpertAdaLN(config)
        self.attn1 = Attention(config)
        self.norm2 = ExpertAdaLN(config)
        self.ff = FeedForward(config.hidden_size)

    def forward(self, tokens: Tensor, time: Tensor, layout: Layout) -> Tensor:
        """Map the joint sequence (b l d) to (b l d), under time embeddings (clips*b e)."""
        x, gates = self.norm1(tokens, time, layout)
        tokens = tokens + layout.gate(self.attend(x, layout), gates)
        x, gates = self.norm2(tokens, time, layout)
        return tokens + layout.gate(self.feed(x, layout), gates)

    def attend(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Map (b l d) to (b l d), each token from those it sees."""
        return self.attn1(tokens, layout)

    def feed(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Map (b l d) to (b l d), each token from itself."""
        return self.ff(tokens)


class FinalAdaLN(nn.Module):
    """The last norm, modulated by time.

    Its epsilon is 1e-5 as in the diffusers layout; the SAT code has 1e-6 here.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.time_size, 2 * config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)

    def forward(self, video: Tensor, time: Tensor) -> Tensor:
        """Map (b l d) to (b l d) under the time embedding (b e)."""
        shift, scale = self.linear(F.silu(time))[:, None].chunk(2, dim=-1)
        return self.norm(video) * (1 + scale) + shift
