"""Convolutions over time and space whose gradients are right and fast, for the training of VAEs on a CPU.

On CPUs with AMX oneDNN's bfloat16 weight gradient of 3D convolutions is not right for more than 16 channels or for
large frames: not finite, wrong by a third, or a crash (seen with PyTorch 2.13). Its 2D convolutions are right, and with
the channels innermost in memory several times faster.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class _FrameConvs(torch.autograd.Function):
    """Convolution without padding in time; its weight gradient is one of 2D convolutions for each frame of the kernel.

    x is (b t h w c), contiguous, and so is the result: for oneDNN the channels are innermost.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        if weight.shape[2] == 1:
            y = F.conv2d(_images(x), weight[:, :, 0], bias, padding=padding)
            return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
        y = F.conv3d(x.permute(0, 4, 1, 2, 3), weight, bias, padding=[0, *padding])
        return y.permute(0, 2, 3, 4, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        by_bias = grad.sum(dim=(0, 1, 2, 3), dtype=torch.float32).to(grad.dtype)
        wants_input = ctx.needs_input_grad[0]
        if weight.shape[2] == 1:
            by_x, by_kernel = _backward(_images(grad), _images(x), weight[:, :, 0], ctx.padding, [wants_input, True])
            by_input = by_x.permute(0, 2, 3, 1).unflatten(0, x.shape[:2]) if wants_input else None
            return by_input, by_kernel[:, :, None], by_bias, None
        by_input = None
        if wants_input:
            slopes, frames = grad.permute(0, 4, 1, 2, 3), x.permute(0, 4, 1, 2, 3)
            found = _backward(slopes, frames, weight, [0, *ctx.padding], [True, False])[0]
            by_input = found.permute(0, 2, 3, 4, 1)
        by_weight = torch.zeros(weight.shape, dtype=torch.float32)
        for clip, slope in zip(x, grad, strict=True):
            for k in range(weight.shape[2]):
                seen = _images(clip[None, k : k + len(slope)])
                by_weight[:, :, k] += _backward(
                    _images(slope[None]), seen, weight[:, :, k], ctx.padding, [False, True]
                )[1]
        return by_input, by_weight.to(weight.dtype), by_bias, None


def _images(x: Tensor) -> Tensor:
    """Return the frames (b*t c h w) of x (b t h w c)."""
    return x.flatten(0, 1).permute(0, 3, 1, 2)


def _backward(grad: Tensor, x: Tensor, weight: Tensor, padding: list[int], wanted: list[bool]) -> tuple[Tensor, Tensor]:
    """Return the gradients by x and by weight of a 2D or 3D convolution, those that are wanted."""
    ones = [1] * len(padding)
    found = torch.ops.aten.convolution_backward(
        grad, x, weight, None, ones, padding, ones, False, [0] * len(padding), 1, [*wanted, False]
    )
    return found[0], found[1]


def convolve(x: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, ...]) -> Tensor:
    """Return the convolution in bfloat16 (b o t h w), channels innermost in memory.

    Args:
        x: (b i t h w).
        weight: (o i t' h' w').
        bias: (o).
        padding: Zeros before and after, in time, height and width.
    """
    low = torch.bfloat16
    frames = rearrange(x.to(low), "b c t h w -> b t h w c").contiguous()
    if padding[0]:
        frames = F.pad(frames, (0, 0, 0, 0, 0, 0, padding[0], padding[0]))
    y = _FrameConvs.apply(frames, weight.to(low), bias.to(low), list(padding[1:]))
    return rearrange(y, "b t h w c -> b c t h w")


def use_frame_convs(module: nn.Module) -> None:
    """Let the 3D convolutions of a module train in bfloat16 as `convolve` has them; without gradients nothing changes.

    They must be without strides, dilation and groups, as those of the VAE and its discriminator are.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            assert part.stride == part.dilation == (1, 1, 1) and part.groups == 1
            part._conv_forward = _forward.__get__(part)  # type: ignore[method-assign]


def _trains() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()


def _forward(self: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None or not _trains():
        return nn.Conv3d._conv_forward(self, x, weight, bias)
    assert not isinstance(self.padding, str)
    return convolve(x, weight, bias, self.padding)
