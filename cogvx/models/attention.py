"""The one door to attention: every backend gives the same numbers and honours the same mask."""

from importlib.util import find_spec
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from cogvx.errors import MissingError, UsageError
from cogvx.shapes import expect

Backend = Literal["auto", "sdpa", "flash", "reference"]


def attend(q: Tensor, k: Tensor, v: Tensor, *, lengths: Tensor | None = None, backend: Backend = "auto") -> Tensor:
    """Return softmax(q k' / sqrt(e)) v.

    Args:
        q: (b n l e) queries.
        k: (b n s e) keys.
        v: (b n s e) values.
        lengths: (b,) how many keys of each item are real; the rest, at the end, are not attended. None: all of them.
        backend: "sdpa" are PyTorch's kernels, "flash" the flash-attn package on CUDA in half precision, "reference" the
            plain formula; "auto" takes flash where it can run and sdpa elsewhere.

    Returns:
        (b n l e).

    Raises:
        UsageError: The backend has no such name, or cannot take these tensors.
        MissingError: The backend's package is not installed.
    """
    expect(q, "b n l e", "q")
    expect(k, "b n s e", "k", e=q.shape[3])
    if backend not in get_args(Backend):
        raise UsageError(f"attention backend {backend!r} is not known (one of {', '.join(get_args(Backend))})")
    if backend == "auto":
        backend = "flash" if _flash_can_run(q) and find_spec("flash_attn") else "sdpa"
    if backend == "flash":
        return _flash(q, k, v, lengths)
    mask = None
    if lengths is not None:
        mask = (torch.arange(k.shape[2], device=k.device) < lengths[:, None].to(k.device))[:, None, None, :]
    if backend == "reference":
        return _reference(q, k, v, mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    scores = torch.einsum("bnle,bnse->bnls", q, k) * q.shape[3] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.einsum("bnls,bnse->bnle", scores.softmax(dim=-1), v)


def _flash_can_run(q: Tensor) -> bool:
    return q.is_cuda and q.dtype in (torch.float16, torch.bfloat16)


def _flash(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None) -> Tensor:
    if not _flash_can_run(q):
        raise UsageError(f"flash attention needs fp16 or bf16 on CUDA, got {q.dtype} on {q.device}; use sdpa")
    try:
        from flash_attn import flash_attn_func, flash_attn_varlen_func
    except ImportError as error:
        raise MissingError("flash attention is not installed here; pip install 'cogvx[flash]'") from error
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if lengths is None:
        return flash_attn_func(q, k, v).transpose(1, 2)
    b, num_queries, heads, width = q.shape
    kept = torch.arange(k.shape[1], device=k.device) < lengths[:, None].to(k.device)
    starts = F.pad(lengths.to(k.device, torch.int32).cumsum(0, dtype=torch.int32), (1, 0))
    query_starts = torch.arange(0, (b + 1) * num_queries, num_queries, device=q.device, dtype=torch.int32)
    out = flash_attn_varlen_func(
        q.reshape(-1, heads, width), k[kept], v[kept], query_starts, starts, num_queries, int(lengths.max())
    )
    return out.view(b, num_queries, heads, width).transpose(1, 2)
