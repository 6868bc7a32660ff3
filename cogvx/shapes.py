"""Checks of tensor shapes at the public doors of the library."""

import einops
from torch import Tensor

from cogvx.errors import ShapeError


def expect(tensor: Tensor, pattern: str, name: str = "tensor", **sizes: int) -> dict[str, int]:
    """Return the size of each axis of a tensor, checked against a pattern.

    Args:
        tensor: Any tensor.
        pattern: Axis names in einops notation, such as "b c t h w".
        name: What the tensor is called in the error.
        **sizes: Sizes that some axes must have.

    Raises:
        ShapeError: The number of axes or a wanted size differs.
    """
    if tensor.ndim != len(pattern.split()):
        raise ShapeError(f"{name}: expected ({pattern}), got shape {tuple(tensor.shape)}")
    got = einops.parse_shape(tensor, pattern)
    wrong = [f"{axis}={size}" for axis, size in sizes.items() if got[axis] != size]
    if wrong:
        raise ShapeError(f"{name}: expected ({pattern}) with {', '.join(wrong)}, got shape {tuple(tensor.shape)}")
    return got
