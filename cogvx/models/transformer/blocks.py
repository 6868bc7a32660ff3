"""The expert block: one attention and one feed-forward over text and video, each stream with its own modulation."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cogvx.models.attention import Backend, attend
from cogvx.models.rope import apply_rope
from cogvx.models.transformer.config import TransformerConfig

QK_NORM_EPS = 1e-6


class ExpertAdaLN(nn.Module):
    """Layer norm of the joint sequence; scale, shift and gate come from time, one set a stream.

    Source: CogVideoX paper (arXiv 2408.06072), "Expert Transformer".
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.time_size, 6 * config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)

    def forward(self, tokens: Tensor, time: Tensor, text_length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise and modulate.

        Args:
            tokens: (b l d), text first.
            time: (b e) time embedding.
            text_length: How many tokens are text.

        Returns:
            The tokens (b l d), the gate of the text (b 1 d) and that of the video (b 1 d).
        """
        modulation = self.linear(F.silu(time))[:, None]
        shift, scale, gate, text_shift, text_scale, text_gate = modulation.chunk(6, dim=-1)
        text, video = split(self.norm(tokens), text_length)
        modulated = torch.cat([text * (1 + text_scale) + text_shift, video * (1 + scale) + shift], dim=1)
        return modulated, text_gate, gate


def split(tokens: Tensor, text_length: int) -> tuple[Tensor, Tensor]:
    """Cut a joint sequence (b l d) into its text and its video."""
    return tokens[:, :text_length], tokens[:, text_length:]


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

    def forward(self, tokens: Tensor, rope: tuple[Tensor, Tensor] | None, text_length: int, backend: Backend) -> Tensor:
        """Map (b l d) to (b l d)."""
        q, k, v = (
            rearrange(proj(tokens), "b l (n e) -> b n l e", n=self.num_heads)
            for proj in (self.to_q, self.to_k, self.to_v)
        )
        q, k = self.norm_q(q).to(v.dtype), self.norm_k(k).to(v.dtype)
        if rope is not None:
            q, k = (torch.cat([x[:, :, :text_length], apply_rope(x[:, :, text_length:], rope)], dim=2) for x in (q, k))
        return self.to_out[0](rearrange(attend(q, k, v, backend=backend), "b n l e -> b l (n e)"))


class Projection(nn.Module):
    """The first half of the feed-forward; a module of its own because the official names have one."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b l d) to (b l 4d)."""
        return F.gelu(self.proj(x), approximate="tanh")


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

    def forward(
        self, tokens: Tensor, time: Tensor, rope: tuple[Tensor, Tensor] | None, text_length: int, backend: Backend
    ) -> Tensor:
        """Map the joint sequence (b l d) to (b l d), under the time embedding (b e)."""
        x, *gates = self.norm1(tokens, time, text_length)
        tokens = _add_gated(tokens, self.attn1(x, rope, text_length, backend), gates, text_length)
        x, *gates = self.norm2(tokens, time, text_length)
        return _add_gated(tokens, self.ff(x), gates, text_length)


def _add_gated(tokens: Tensor, change: Tensor, gates: list[Tensor], text_length: int) -> Tensor:
    gated = [gate * part for gate, part in zip(gates, split(change, text_length), strict=True)]
    return tokens + torch.cat(gated, dim=1)


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
