"""Tiles: encode and decode large frames piece by piece, blended where the pieces overlap."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cogvx.models.vae.config import VAEConfig


@dataclass(frozen=True)
class Tiling:
    """Size and overlap of tiles.

    Attributes:
        height: Tile height in pixels.
        width: Tile width in pixels.
        overlap_height: Share of a tile's height that overlaps the next, in [0, 1).
        overlap_width: The same for the width.
    """

    height: int
    width: int
    overlap_height: float = 1 / 6
    overlap_width: float = 1 / 5

    @classmethod
    def default(cls, config: VAEConfig) -> "Tiling":
        """Return the official tiles: half the model's own size, 240 x 360 for the released checkpoints."""
        return cls(config.sample_height // 2, config.sample_width // 2)

    def exceeded(self, height: int, width: int) -> bool:
        """Tell whether a frame of this many pixels is larger than one tile."""
        return height > self.height or width > self.width


def run_tiled(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    tile: tuple[int, int],
    output_tile: tuple[int, int],
    tiling: Tiling,
) -> Tensor:
    """Apply a function to overlapping tiles and join the results.

    Each tile is blended with the finished tile above it, then with the one on its left, in raster order, so that later
    tiles blend with what was blended before: this order is part of the official numbers.

    Args:
        function: Maps (b c t h w) to (b c' t' h' w'), h'/h being output_tile/tile.
        x: (b c t h w).
        tile: Height and width of a tile of x.
        output_tile: Height and width of what the function makes of a whole tile.
        tiling: Overlaps.

    Source: zai-org/CogVideo and diffusers, tiled encode and decode of the CogVideoX VAE.
    """
    overlaps = (tiling.overlap_height, tiling.overlap_width)
    stride_h, stride_w = (int(size * (1 - overlap)) for size, overlap in zip(tile, overlaps, strict=True))
    blend_h, blend_w = (int(size * overlap) for size, overlap in zip(output_tile, overlaps, strict=True))
    keep_h, keep_w = output_tile[0] - blend_h, output_tile[1] - blend_w
    joined: list[Tensor] = []
    above: list[Tensor] = []
    for top in range(0, x.shape[3], stride_h):
        row: list[Tensor] = []
        for column, left in enumerate(range(0, x.shape[4], stride_w)):
            piece = function(x[:, :, :, top : top + tile[0], left : left + tile[1]])
            if above:
                piece = _blend(above[column], piece, blend_h, dim=3)
            if row:
                piece = _blend(row[-1], piece, blend_w, dim=4)
            row.append(piece)
        above = row
        joined.append(torch.cat([piece[:, :, :, :keep_h, :keep_w] for piece in row], dim=4))
    return torch.cat(joined, dim=3)


def _blend(before: Tensor, piece: Tensor, extent: int, *, dim: int) -> Tensor:
    """Fade from the end of one tile into the start of the next, linearly."""
    extent = min(before.shape[dim], piece.shape[dim], extent)
    if extent == 0:
        return piece
    shape = [1] * piece.ndim
    shape[dim] = extent
    weight = (torch.arange(extent, dtype=torch.float64, device=piece.device) / extent).to(piece.dtype).view(shape)
    start = piece.narrow(dim, 0, extent)
    end = before.narrow(dim, before.shape[dim] - extent, extent)
    start.copy_(end * (1 - weight) + start * weight)
    return piece
