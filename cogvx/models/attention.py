"""The one door to attention: every backend gives the same numbers and honours the same mask."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import accumulate, pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from cogvx.errors import MissingError, ShapeError, UsageError
from cogvx.shapes import expect

Backend = Literal["auto", "sdpa", "flash", "reference"]
_NO_FLASH = "flash attention is not installed here; pip install 'cogvx[flash]'"


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    segments: Sequence[int] | None = None,
    first_query: int = 0,
    backend: Backend = "auto",
) -> Tensor:
    """Return softmax(q k' / sqrt(e)) v.

    Args:
        q: (b n l e) queries.
        k: (b n s e) keys.
        v: (b n s e) values.
        lengths: (b,) how many keys of each item are real; the rest, at the end, are not attended. None: all of them.
        segments: Lengths of consecutive pieces of the keys; queries see the keys of their own piece only. b is 1.
        first_query: Where among the keys the queries stand, with segments; they may be a part of the sequence.
        backend: "sdpa" are PyTorch's kernels, "flash" the flash-attn package on CUDA in half precision, "reference" the
            plain formula; "auto" takes flash where it can run and sdpa elsewhere.

    Returns:
        (b n l e).

    Raises:
        UsageError: The backend has no such name, or cannot take these tensors.
        ShapeError: The segments are not the sequence's.
        MissingError: The backend's package is not installed.
    """
    expect(q, "b n l e", "q")
    expect(k, "b n s e", "k", e=q.shape[3])
    if backend not in get_args(Backend):
        raise UsageError(f"attention backend {backend!r} is not known (one of {', '.join(get_args(Backend))})")
    if backend == "auto":
        backend = "flash" if _flash_can_run(q) and find_spec("flash_attn") else "sdpa"
    if segments is not None:
        _check_segments(q, k, lengths, segments, first_query)
        attend_segments = {"flash": _flash_segments, "sdpa": _sdpa_segments, "reference": _reference_segments}[backend]
        return attend_segments(q, k, v, segments, first_query)
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
        raise MissingError(_NO_FLASH) from error
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


def _check_segments(q: Tensor, k: Tensor, lengths: Tensor | None, segments: Sequence[int], first_query: int) -> None:
    if lengths is not None:
        raise UsageError("attention takes lengths or segments, not both")
    if q.shape[0] != 1:
        raise ShapeError(f"attention over segments takes one sequence, got a batch of {q.shape[0]}")
    if sum(segments) != k.shape[2] or first_query < 0 or first_query + q.shape[2] > k.shape[2]:
        queries = f"{first_query}...{first_query + q.shape[2]}"
        raise ShapeError(f"segments of {sum(segments)} tokens do not fit queries {queries} and {k.shape[2]} keys")


def _seen(segments: Sequence[int], first: int, count: int) -> list[tuple[range, range]]:
    """Return which of `count` queries from place `first` on see which keys, a pair of ranges for each piece."""
    pairs = []
    for start, stop in pairwise(accumulate(segments, initial=0)):
        queries = range(max(start, first) - first, min(stop, first + count) - first)
        if len(queries):
            pairs.append((queries, range(start, stop)))
    return pairs


def _runs(segments: Sequence[int], first: int, count: int) -> list[list[tuple[range, range]]]:
    """Return the pairs of `_seen`, neighbours of one size together."""
    runs: list[list[tuple[range, range]]] = []
    for queries, keys in _seen(segments, first, count):
        if runs and (len(queries), len(keys)) == tuple(len(part) for part in runs[-1][0]):
            runs[-1].append((queries, keys))
        else:
            runs.append([(queries, keys)])
    return runs


def _in_runs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    segments: Sequence[int],
    first_query: int,
    attend_one: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Attend piece by piece; pieces of one size that follow each other go as one batch."""
    parts = []
    for run in _runs(segments, first_query, q.shape[2]):
        (first_queries, first_keys), (last_queries, last_keys) = run[0], run[-1]
        queries = q[:, :, first_queries.start : last_queries.stop]
        keys, values = (x[:, :, first_keys.start : last_keys.stop] for x in (k, v))
        queries, keys, values = (rearrange(x, "1 n (m l) e -> m n l e", m=len(run)) for x in (queries, keys, values))
        parts.append(rearrange(attend_one(queries, keys, values), "m n l e -> 1 n (m l) e"))
    return torch.cat(parts, dim=2)


def _sdpa_segments(q: Tensor, k: Tensor, v: Tensor, segments: Sequence[int], first_query: int) -> Tensor:
    return _in_runs(q, k, v, segments, first_query, F.scaled_dot_product_attention)


def _reference_segments(q: Tensor, k: Tensor, v: Tensor, segments: Sequence[int], first_query: int) -> Tensor:
    return _in_runs(q, k, v, segments, first_query, partial(_reference, mask=None))


def _flash_segments(q: Tensor, k: Tensor, v: Tensor, segments: Sequence[int], first_query: int) -> Tensor:
    if not _flash_can_run(q):
        raise UsageError(f"flash attention needs fp16 or bf16 on CUDA, got {q.dtype} on {q.device}; use sdpa")
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError as error:
        raise MissingError(_NO_FLASH) from error
    seen = _seen(segments, first_query, q.shape[2])
    (_, first), (_, last) = seen[0], seen[-1]
    k, v = (x[:, :, first.start : last.stop] for x in (k, v))
    query_lengths, key_lengths = [len(queries) for queries, _ in seen], [len(keys) for _, keys in seen]
    starts = (
        torch.tensor([*accumulate(sizes, initial=0)], dtype=torch.int32).to(q.device, non_blocking=True)
        for sizes in (query_lengths, key_lengths)
    )
    flat = (rearrange(x, "1 n l e -> l n e") for x in (q, k, v))
    out = flash_attn_varlen_func(*flat, *starts, max(query_lengths), max(key_lengths))
    return rearrange(out, "l n e -> 1 n l e")
