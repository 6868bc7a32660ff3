"""Rotary positions in time, height and width."""

import torch
from torch import Tensor

from cogvx.errors import UsageError

THETA = 10000.0


def axis_widths(head_dim: int) -> tuple[int, int, int]:
    """Return how many channels of a head turn with t, h and w: a quarter, three eighths, three eighths."""
    return head_dim // 4, head_dim // 8 * 3, head_dim // 8 * 3


def fitted_coordinates(grid: tuple[int, int], base: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return row and column coordinates of a grid laid over the grid that the model was trained on.

    The grid keeps its aspect and is centred on the base. Only the far end of each range is scaled to the grid's last
    cell, as in the official code, so that away from the base size the spacing is slightly off.

    Args:
        grid: Rows and columns of patches.
        base: Rows and columns at the model's own size.

    Returns:
        (h,) and (w,), float32.

    Source: diffusers, CogVideoX pipelines (1.0 models).
    """
    (gh, gw), (bh, bw) = grid, base
    if gh / gw > bh / bw:
        rh, rw = bh, int(round(bh / gh * gw))
    else:
        rh, rw = int(round(bw / gw * gh)), bw
    top, left = int(round((bh - rh) / 2.0)), int(round((bw - rw) / 2.0))
    return (
        torch.linspace(top, (top + rh) * (gh - 1) / gh, gh, dtype=torch.float32),
        torch.linspace(left, (left + rw) * (gw - 1) / gw, gw, dtype=torch.float32),
    )


def sliced_coordinates(grid: tuple[int, int], base: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the plain integer coordinates of a grid no larger than the base, (h,) and (w,) float32 (1.5 models).

    Raises:
        UsageError: The grid is larger than the base.
    """
    if grid[0] > base[0] or grid[1] > base[1]:
        raise UsageError(f"{grid[0]}x{grid[1]} patches are more than the {base[0]}x{base[1]} positions of this model")
    return plain_coordinates(grid)


def plain_coordinates(grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return integer coordinates of a grid of any size, (h,) and (w,) float32: a larger grid goes beyond the base.

    Source: CogVideoX paper (arXiv 2408.06072), "Multi-Resolution Frame Pack" (extrapolation).
    """
    return torch.arange(grid[0], dtype=torch.float32), torch.arange(grid[1], dtype=torch.float32)


def stretched_coordinates(grid: tuple[int, int], base: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return coordinates of a grid that covers the base whatever its size, (h,) and (w,) float32; aspect is lost.

    Source: CogVideoX paper (arXiv 2408.06072), "Multi-Resolution Frame Pack" (interpolation).
    """
    rows, columns = (
        torch.arange(num, dtype=torch.float32) * (full / num) for num, full in zip(grid, base, strict=True)
    )
    return rows, columns


def rope_table(head_dim: int, num_frames: int, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines for the tokens of a clip, ordered (t h w).

    Args:
        head_dim: Width of a head; a multiple of 8.
        num_frames: Positions in time, 0, 1, 2 ...
        rows: (h,) coordinates.
        columns: (w,) coordinates.

    Returns:
        Two tables (t*h*w head_dim) in float32; each frequency fills two neighbouring channels.

    Source: SPEC of the released 5B weights; the paper (arXiv 2408.06072), "3D-RoPE", names the axes in another order.
    """
    times = torch.arange(num_frames, dtype=torch.float32)
    angles = [_angles(x, width) for x, width in zip((times, rows, columns), axis_widths(head_dim), strict=True)]
    t, h, w = num_frames, len(rows), len(columns)
    grid = torch.cat(
        [
            angles[0][:, None, None].expand(t, h, w, -1),
            angles[1][None, :, None].expand(t, h, w, -1),
            angles[2][None, None, :].expand(t, h, w, -1),
        ],
        dim=-1,
    ).reshape(t * h * w, -1)
    return grid.cos(), grid.sin()


def _angles(positions: Tensor, width: int) -> Tensor:
    frequencies = 1.0 / (THETA ** (torch.arange(0, width, 2, dtype=torch.float32) / width))
    return torch.outer(positions, frequencies).repeat_interleave(2, dim=1)


def apply_rope(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate x (... l e) by the tables (l e), in float32, and return it in its own type."""
    cos, sin = table
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-odd, even], dim=-1).flatten(-2)
    return (x.float() * cos + turned * sin).to(x.dtype)
