"""Group norm, the decoder's scale and shift from the latents, and SiLU as one function, for training on a CPU.

Apart they read and write every activation a dozen times; a CPU's memory is what a VAE's training waits for.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from cogvx.models.vae import CausalVAE
from cogvx.models.vae.blocks import Activated, SpatialNorm, num_apart
from cogvx.models.vae.parallel import Part

_MOST_SHAPES = 256


def _forward(x: Tensor, s: Tensor, z: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Any:
    """Return SiLU(GN(x) * s + z), and the mean and inverse deviation (n c) of each channel's group.

    x is (n h w c); s and z are (n h/r w/r c), each for r x r pixels.
    """
    n, h, w, c = x.shape
    rows, columns = h // s.shape[1], w // s.shape[2]
    wide = x.float()
    count = h * w * (c // groups)
    mean = wide.sum((1, 2)).view(n, groups, -1).sum(2) / count
    variance = (wide * wide).sum((1, 2)).view(n, groups, -1).sum(2) / count - mean * mean
    mean = mean.repeat_interleave(c // groups, 1)
    inverse = (variance.clamp(min=0) + eps).rsqrt().repeat_interleave(c // groups, 1)
    slope = inverse * weight
    y = wide * slope[:, None, None] + (bias - mean * slope)[:, None, None]
    y = y.view(n, h // rows, rows, w // columns, columns, c)
    u = y * s[:, :, None, :, None].float() + z[:, :, None, :, None].float()
    return (u * torch.sigmoid(u)).view(n, h, w, c).to(x.dtype), mean, inverse


def _backward(
    grad: Tensor,
    x: Tensor,
    s: Tensor,
    z: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    inverse: Tensor,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients by x, s, z, weight and bias."""
    n, h, w, c = x.shape
    rows, columns = h // s.shape[1], w // s.shape[2]
    blocks = (n, h // rows, rows, w // columns, columns, c)

    def spread(value: Tensor) -> Tensor:
        return value.reshape(-1, 1, 1, 1, 1, c)

    wide = x.view(blocks).float()
    normal = wide * spread(inverse) - spread(mean * inverse)
    scale = s[:, :, None, :, None].float()
    u = (normal * spread(weight) + spread(bias)) * scale + z[:, :, None, :, None].float()
    gate = torch.sigmoid(u)
    by_u = grad.view(blocks).float() * (gate * (1 + u * (1 - gate)))
    by_z, along = by_u.sum((2, 4)), (by_u * normal).sum((2, 4))
    by_s = along * weight + by_z * bias
    # Sums over all pixels of the gradient by the norm, and of its product with the normalised x, from the coarse grid.
    sums, products = (by_z * s.float()).sum((1, 2)), (along * s.float()).sum((1, 2))
    by_weight, by_bias = products.sum(0), sums.sum(0)
    count = h * w * (c // groups)
    flat = (sums * weight).view(n, groups, -1).sum(2).repeat_interleave(c // groups, 1) / count
    tilt = (products * weight).view(n, groups, -1).sum(2).repeat_interleave(c // groups, 1) / count
    by_x = (by_u * scale * spread(weight) - spread(flat) - normal * spread(tilt)) * spread(inverse)
    return by_x.view(n, h, w, c).to(x.dtype), by_s.to(s.dtype), by_z.to(z.dtype), by_weight, by_bias


@cache
def _compiled(body: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(body, dynamic=False)


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, s: Tensor, z: Tensor, weight: Tensor, bias: Tensor, norm: nn.GroupNorm, compiled: bool
    ) -> Tensor:
        run = _compiled(_forward) if compiled else _forward
        y, mean, inverse = run(x, s, z, weight, bias, norm.num_groups, norm.eps)
        ctx.save_for_backward(x, s, z, weight, bias, mean, inverse)
        ctx.groups, ctx.compiled = norm.num_groups, compiled
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, s, z, weight, bias, mean, inverse = ctx.saved_tensors
        run = _compiled(_backward) if ctx.compiled else _backward
        found = run(grad.contiguous(), x, s, z, weight, bias, mean, inverse, ctx.groups)
        return (*found, None, None)


def _activate(norm: nn.Module, x: Tensor, z: Tensor | None, part: Part, compiled: bool) -> Tensor:
    """Return SiLU of x (b c t h w) normalised as the part says, under the latents z where the norm is spatial."""
    frames = rearrange(x, "b c t h w -> b t h w c").contiguous()
    num = frames.shape[1]
    if z is None:
        plain = norm
        shape = (len(x), num, 1, 1, x.shape[1])
        maps = [torch.ones(shape, dtype=x.dtype), torch.zeros(shape, dtype=x.dtype)]
    else:
        assert isinstance(norm, SpatialNorm)
        plain = norm.norm_layer
        times = _times(num, z.shape[2], apart=bool(num_apart(x, part)))
        maps = [
            rearrange(conv(z)[0].to(x.dtype), "b c t h w -> b t h w c").index_select(1, times)
            for conv in (norm.conv_y, norm.conv_b)
        ]
    assert isinstance(plain, nn.GroupNorm)
    parts = []
    for start, stop, chunks in part.chunks(num):
        cut = [value[:, start:stop].unflatten(1, (chunks, -1)).flatten(0, 1).flatten(1, 2) for value in (frames, *maps)]
        y = _Activation.apply(*cut, plain.weight, plain.bias, plain, compiled)
        parts.append(y.unflatten(1, (-1, x.shape[3])).unflatten(0, (len(x), chunks)).flatten(1, 2))
    y = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return rearrange(y, "b t h w c -> b c t h w")


def _times(num_frames: int, num_latents: int, *, apart: bool) -> Tensor:
    """Return which latent frame each frame is under, as at_frames_of has it."""
    if num_frames == 1 or not apart:
        return torch.arange(num_frames) * num_latents // num_frames
    rest = torch.arange(num_frames - 1) * (num_latents - 1) // (num_frames - 1)
    return torch.cat([torch.zeros(1, dtype=torch.long), 1 + rest])


def fuse_norms(vae: CausalVAE, *, compiled: bool) -> None:
    """Let a VAE's norms and activations train as one function in bfloat16; without gradients nothing changes.

    Args:
        vae: On the CPU.
        compiled: Whether torch.compile makes that function, for each shape; it needs a C++ compiler.
    """
    if compiled:  # every level of every stage has a shape of its own; beyond the limit nothing is compiled
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_SHAPES)

    def activation(norm: nn.Module, x: Tensor, z: Tensor | None, part: Part | None) -> Tensor | None:
        trains = torch.is_autocast_enabled("cpu") and torch.is_grad_enabled() and x.dtype == torch.bfloat16
        if not trains or part is None or part.world.context_size > 1:
            return None
        return _activate(norm, x, z, part, compiled)

    for module in vae.modules():
        if isinstance(module, Activated):
            module.fused = activation
