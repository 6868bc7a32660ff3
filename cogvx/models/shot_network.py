"""TransNet V2: small frames -> where one shot ends and the next begins, at once or in a dissolve.

Source: Souček and Lokoč, "TransNet V2: An effective deep network architecture for fast shot transition detection"
(arXiv 2008.04838).
"""

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional

from cogvx.shapes import expect

FRAME_SIZE = (27, 48)  # height and width that it takes
WINDOW, MARGIN = 100, 25  # frames that it takes at a time, and how many at each end lack neighbours
_LOOKUP = 101  # frames, 50 to each side, that a frame is compared with
_DILATIONS = (1, 2, 4, 8)
_BINS = 8  # of each colour in the histograms
_WIDTHS = (16, 32, 64)
_HIDDEN = 1024


class ShotNetwork(nn.Module):
    """The network with 7.6 M parameters; its names of weights are ours (see cogvx.checkpoints.shot_network)."""

    def __init__(self) -> None:
        super().__init__()
        channels = [3, *(len(_DILATIONS) * width for width in _WIDTHS)]
        self.stages = nn.ModuleList(_Stage(channels[i], width) for i, width in enumerate(_WIDTHS))
        self.projection = nn.Linear(sum(channels[1:]), 128)
        self.similarity = nn.Linear(_LOOKUP, 128)
        self.colours = nn.Linear(_LOOKUP, 128)
        height, width = (side // 2 ** len(_WIDTHS) for side in FRAME_SIZE)
        self.hidden = nn.Linear(128 + 128 + channels[-1] * height * width, _HIDDEN)
        self.cut = nn.Linear(_HIDDEN, 1)
        self.transition = nn.Linear(_HIDDEN, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each frame two probabilities, each (b t): it is where a shot ends; it is part of a transition.

        At a cut, the shot's last frame has both; in a dissolve, one in the middle has the first, all have the second.

        Args:
            frames: uint8 (b t 27 48 3), RGB; WINDOW frames, of which MARGIN at each end only give others neighbours.

        Raises:
            ShapeError: They are of another size.
        """
        expect(frames, "b t h w c", "frames", h=FRAME_SIZE[0], w=FRAME_SIZE[1], c=3)
        x = rearrange(frames, "b t h w c -> b c t h w").float() / 255
        means = []
        for stage in self.stages:
            x = stage(x)
            means.append(reduce(x, "b c t h w -> b t c", "mean"))
        unit = functional.normalize(self.projection(torch.cat(means, dim=-1)), dim=-1)
        x = torch.cat(
            [
                self.colours(_compare(_histograms(frames))).relu(),
                self.similarity(_compare(unit)).relu(),
                rearrange(x, "b c t h w -> b t (h w c)"),
            ],
            dim=-1,
        )
        x = self.hidden(x).relu()
        return self.cut(x).sigmoid().squeeze(-1), self.transition(x).sigmoid().squeeze(-1)


class _Stage(nn.Module):
    """Two cells, the first one's output added to the second's, then half the height and width."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = _Cell(channels, width)
        self.second = _Cell(len(_DILATIONS) * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return functional.avg_pool3d(self.second(x).relu() + x, (1, 2, 2))


class _Cell(nn.Module):
    """Convolutions over the picture, then over time at four distances, side by side."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        # The four branches' convolutions over the picture are one here: the same numbers, read once.
        self.space = nn.Conv3d(channels, len(_DILATIONS) * 2 * width, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.times = nn.ModuleList(
            nn.Conv3d(2 * width, width, (3, 1, 1), dilation=(step, 1, 1), padding=(step, 0, 0), bias=False)
            for step in _DILATIONS
        )
        self.norm = nn.BatchNorm3d(len(_DILATIONS) * width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.space(x).chunk(len(_DILATIONS), dim=1)
        return self.norm(torch.cat([time(part) for time, part in zip(self.times, parts, strict=True)], dim=1))


def _histograms(frames: Tensor) -> Tensor:
    """Return how often each of 512 colours stands in a frame, as vectors of length 1, (b t 512)."""
    levels = rearrange(frames, "b t h w c -> b t (h w) c").long() * _BINS // 256
    colours = (levels[..., 0] * _BINS + levels[..., 1]) * _BINS + levels[..., 2]
    counts = torch.zeros(*colours.shape[:2], _BINS**3, device=frames.device)
    counts.scatter_add_(-1, colours, torch.ones_like(colours, dtype=counts.dtype))
    return functional.normalize(counts, dim=-1)


def _compare(vectors: Tensor) -> Tensor:
    """Return each vector's products with its neighbours in time, (b t 101); 0 where there are none.

    Args:
        vectors: (b t d) of length 1.
    """
    reach = _LOOKUP // 2
    products = functional.pad(vectors @ vectors.transpose(1, 2), (reach, reach))
    count = vectors.shape[1]
    places = torch.arange(count, device=vectors.device)[:, None] + torch.arange(_LOOKUP, device=vectors.device)
    return products.gather(2, places.expand(len(vectors), -1, -1))
