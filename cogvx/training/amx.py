"""A way around a fault of oneDNN in the gradients of 3D convolutions.

On CPUs with AMX the bfloat16 weight gradient of a convolution with more than 16 input or output channels, or of large
frames, is not right: not finite, wrong by a third, or a crash (seen with PyTorch 2.13). Gradients taken 16 by 16
channels and few rows at a time are.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SAFE_CHANNELS = 16
_SAFE_AREA = 1600  # pixels of a frame; 1,700 is right with 16 input channels, 6,500 is not


class _Conv3d(torch.autograd.Function):
    """Convolution whose weight gradient is computed over slices of the channels and of the rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv3d(x, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        by_input = None
        if ctx.needs_input_grad[0]:
            by_input = _backward(grad, x, weight, ctx.padding, [True, False, False])[0]
        by_weight = _weight_gradient(grad, x, weight, ctx.padding)
        return by_input, by_weight, grad.sum(dim=(0, 2, 3, 4), dtype=torch.float32).to(grad.dtype), None


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, ...]) -> Tensor:
    """Return the gradient (o i t h w) of a weight, from slices that are summed in float32."""
    if any(padding):
        x = F.pad(x, [side for one in reversed(padding) for side in (one, one)])
    height, rows = weight.shape[3], grad.shape[3]
    step = max(1, _SAFE_AREA // x.shape[4] - height + 1)
    total = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
    for i in range(0, weight.shape[1], _SAFE_CHANNELS):
        inputs = x[:, i : i + _SAFE_CHANNELS]
        for top in range(0, rows, step):
            part = inputs[:, :, :, top : top + step + height - 1].contiguous()
            for o in range(0, weight.shape[0], _SAFE_CHANNELS):
                kernel = weight[o : o + _SAFE_CHANNELS, i : i + _SAFE_CHANNELS].contiguous()
                slope = grad[:, o : o + _SAFE_CHANNELS, :, top : top + step].contiguous()
                found = _backward(slope, part, kernel, (0, 0, 0), [False, True, False])[1]
                total[o : o + _SAFE_CHANNELS, i : i + _SAFE_CHANNELS] += found
    return total.to(weight.dtype)


def _backward(
    grad: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, ...], wanted: list[bool]
) -> tuple[Tensor, ...]:
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [weight.shape[0]], [1] * 3, list(padding), [1] * 3, False, [0] * 3, 1, wanted
    )


def make_convolutions_safe(module: nn.Module) -> None:
    """Route the 3D convolutions of a module through gradients that are right in bfloat16 on every CPU."""
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            part._conv_forward = _forward.__get__(part)  # type: ignore[method-assign]


def _forward(self: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None or not torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
        return nn.Conv3d._conv_forward(self, x, weight, bias)
    low = torch.bfloat16
    return _Conv3d.apply(x.to(low), weight.to(low), bias.to(low), self.padding)
