"""Fixed sinusoids: positions in three axes, and diffusion time."""

import math

import torch
from torch import Tensor


def timestep_sinusoid(timestep: Tensor, width: int) -> Tensor:
    """Return the sinusoids (b width) in float32 of diffusion times (b,), cosines first."""
    half = width // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=timestep.device) / half
    angles = timestep[:, None].float() * exponent.exp()[None, :]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def sincos_table(
    hidden_size: int, grid: tuple[int, int, int], *, spatial_scale: float, temporal_scale: float
) -> Tensor:
    """Return fixed 3D positions of the tokens of a clip, ordered (t h w).

    Channels are a quarter for time, then three eighths for the column, then three eighths for the row: the column comes
    first, as in the released 2B weights.

    Args:
        hidden_size: Width of a token.
        grid: Frames, rows and columns.
        spatial_scale: Positions in space are divided by it.
        temporal_scale: Positions in time are divided by it.

    Returns:
        (t*h*w hidden_size) in float32.
    """
    t, h, w = grid
    temporal_width, spatial_width = hidden_size // 4, 3 * hidden_size // 4
    times = _axis(torch.arange(t, dtype=torch.float64) / temporal_scale, temporal_width)
    rows = _axis(torch.arange(h, dtype=torch.float64) / spatial_scale, spatial_width // 2)
    columns = _axis(torch.arange(w, dtype=torch.float64) / spatial_scale, spatial_width // 2)
    table = torch.cat(
        [
            times[:, None, None].expand(t, h, w, -1),
            columns[None, None, :].expand(t, h, w, -1),
            rows[None, :, None].expand(t, h, w, -1),
        ],
        dim=-1,
    )
    return table.reshape(t * h * w, hidden_size).float()


def _axis(positions: Tensor, width: int) -> Tensor:
    omega = 1.0 / 10000 ** (torch.arange(width // 2, dtype=torch.float64) / (width / 2.0))
    angles = torch.outer(positions, omega)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
