"""A way around a fault of oneDNN in the gradients of 3D convolutions.

On CPUs with AMX the bfloat16 weight gradient of a convolution with more than 16 input channels is not finite (seen with
PyTorch 2.13). Gradients taken 16 channels at a time are right.
"""

from typing import Any

import torch
from torch import Tensor, nn

_SAFE_CHANNELS = 16


class _Conv3d(torch.autograd.Function):
    """Convolution whose weight gradient is computed over slices of the input channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return torch.nn.functional.conv3d(x, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()

        def gradients(inputs: Tensor, part: Tensor, mask: list[bool]) -> tuple[Tensor, ...]:
            return torch.ops.aten.convolution_backward(
                grad, inputs, part, [part.shape[0]], [1] * 3, ctx.padding, [1] * 3, False, [0] * 3, 1, mask
            )

        by_input = gradients(x, weight, [True, False, False])[0] if ctx.needs_input_grad[0] else None
        parts = [
            gradients(
                x[:, c : c + _SAFE_CHANNELS].contiguous(),
                weight[:, c : c + _SAFE_CHANNELS].contiguous(),
                [False, True, False],
            )[1]
            for c in range(0, weight.shape[1], _SAFE_CHANNELS)
        ]
        return by_input, torch.cat(parts, dim=1), grad.sum(dim=(0, 2, 3, 4), dtype=torch.float32).to(grad.dtype), None


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
