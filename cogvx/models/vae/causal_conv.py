"""3D convolution that sees the past only; its cache is a value in, a value out."""

import torch
from torch import Tensor, nn

from cogvx.models.vae.parallel import Part


class _Conv3d(nn.Conv3d):
    """Convolution without padding in time; a single frame is an image that every frame of the kernel sees."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (b c t h w) to (b c t-k+1 h w), or one frame to one frame.

        In half precision an image takes a k-th of the work: the frames of the kernel are summed first. In float32 the
        sum has the order of the reference.
        """
        frames = self.kernel_size[0]
        if x.shape[2] > 1 or frames == 1:
            return super().forward(x)
        casts = torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type)
        if x.dtype == torch.float32 and not casts:
            return super().forward(torch.cat([x] * frames, dim=2))
        kernel = self.weight.float().sum(dim=2, keepdim=True).to(self.weight.dtype)
        return self._conv_forward(x, kernel, self.bias)


class CausalConv3d(nn.Module):
    """Convolution over (t h w) whose output frame depends on this frame and earlier ones.

    Space is padded with zeros on both sides. Time is padded at the front only: with the frames that the caller kept
    from the chunk before, or, at the start of a clip, with copies of the first frame.

    Source: CogVideoX paper (arXiv 2408.06072), "3D Causal VAE".
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.num_past = kernel_size - 1
        pad = kernel_size // 2
        self.conv = _Conv3d(in_channels, out_channels, kernel_size, padding=(0, pad, pad))

    def forward(self, x: Tensor, past: Tensor | None = None, part: Part | None = None) -> tuple[Tensor, Tensor]:
        """Return the convolved chunk and the frames that the next chunk needs.

        Args:
            x: (b c t h w).
            past: (b c k-1 h w), the second value of the call on the chunk before; None at the start of a clip.
            part: Where these frames stand in a clip that is cut over ranks; the past then comes from the rank before.
        """
        if part is not None and self.num_past:
            past = part.before(x, self.num_past)
        still = past is None and x.shape[2] == 1
        if past is None:
            past = torch.cat([x[:, :, :1]] * self.num_past or [x[:, :, :0]], dim=2)  # in the order of x in memory
        padded = torch.cat([past, x], dim=2) if self.num_past else x
        y = self.conv(x if still else padded)
        if part is not None:  # no chunk follows, and what is returned would only keep memory
            return y, x.new_empty(0)
        return y, padded[:, :, padded.shape[2] - self.num_past :]
