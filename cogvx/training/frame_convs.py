"""Convolutions over time and space as sums of 2D ones, for the training of VAEs on a CPU.

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
    """Convolution without padding in time: one 2D convolution of all frames for each frame of the kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        clips = []
        for frames in _runs(x, weight):
            num = len(frames) - weight.shape[2] + 1
            y = F.conv2d(frames[:num], weight[:, :, 0], bias, padding=padding)
            for k in range(1, weight.shape[2]):
                y += F.conv2d(frames[k : k + num], weight[:, :, k], padding=padding)
            clips.append(y)
        return _joined(clips, x.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        wants_input = ctx.needs_input_grad[0]
        by_weight = torch.zeros(weight.shape, dtype=torch.float32)
        by_input: list[Tensor] = []
        for frames, slopes in zip(_runs(x, weight), _runs(grad.contiguous(), weight), strict=True):
            num = len(slopes)
            total = torch.zeros_like(frames) if wants_input else frames
            for k in range(weight.shape[2]):
                kernel, seen = weight[:, :, k], frames[k : k + num]
                found, by_kernel, _ = torch.ops.aten.convolution_backward(
                    slopes,
                    seen,
                    kernel,
                    None,
                    [1, 1],
                    ctx.padding,
                    [1, 1],
                    False,
                    [0, 0],
                    1,
                    [wants_input, True, False],
                )
                by_weight[:, :, k] += by_kernel
                if wants_input:
                    total[k : k + num] += found
            by_input.append(total)
        by_bias = grad.sum(dim=(0, 1, 2, 3), dtype=torch.float32).to(grad.dtype)
        return _joined(by_input, x.shape[0]) if wants_input else None, by_weight.to(weight.dtype), by_bias, None


def _runs(x: Tensor, weight: Tensor) -> list[Tensor]:
    """Return frames (t c h w), channels innermost in memory, of each clip of x (b t h w c), or of all in one."""
    clips = [x.flatten(0, 1)] if weight.shape[2] == 1 else list(x)
    return [frames.permute(0, 3, 1, 2) for frames in clips]


def _joined(clips: list[Tensor], batch: int) -> Tensor:
    """Return (b t h w c) of what _runs gives."""
    frames = [clip.permute(0, 2, 3, 1) for clip in clips]
    return frames[0].unflatten(0, (batch, -1)) if len(frames) == 1 else torch.stack(frames)


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
    """Let the 3D convolutions of a module train in bfloat16 through 2D ones; without gradients nothing changes."""
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            part._conv_forward = _forward.__get__(part)  # type: ignore[method-assign]


def _trains() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()


def _forward(self: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None or not _trains():
        return nn.Conv3d._conv_forward(self, x, weight, bias)
    assert not isinstance(self.padding, str)
    return convolve(x, weight, bias, self.padding)
