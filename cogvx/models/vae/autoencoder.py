"""The 3D causal VAE: clips to latents and back, in the chunks that are part of its definition."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from cogvx.models.vae.blocks import Past
from cogvx.models.vae.config import VAEConfig
from cogvx.models.vae.decoder import Decoder
from cogvx.models.vae.encoder import Encoder
from cogvx.models.vae.gaussian import DiagonalGaussian
from cogvx.models.vae.parallel import Part
from cogvx.models.vae.tiling import Tiling, run_tiled
from cogvx.shapes import expect

ENCODE_CHUNK = 8  # frames
DECODE_CHUNK = 2  # latent frames


class CausalVAE(nn.Module):
    """Compresses a clip 4 x 8 x 8 times into latents.

    Clips run through encoder and decoder in chunks along time. Convolutions carry their cache from chunk to chunk,
    while group norms, pooling and resizing see one chunk: the chunks decide the numbers and are not an option.

    Source: CogVideoX paper (arXiv 2408.06072), "3D Causal VAE"; zai-org/CogVideo sat/vae_modules/autoencoder.py.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, video: Tensor, *, tiling: Tiling | None = None, part: Part | None = None) -> DiagonalGaussian:
        """Encode a clip to the distribution of its latents.

        Args:
            video: (b 3 t h w) in [-1, 1]; t = 8k + 1 is what the model was made for, h and w multiples of 8.
            tiling: Encode in tiles where the frames are larger than one.
            part: Encode all chunks in one pass, untiled, as training does; the video is this rank's part of the clip.

        Returns:
            Mean and log-variance, each (b c t' h/8 w/8), before the scaling factor; t' = 2k + 1.

        Raises:
            ShapeError: An axis does not fit.
        """
        expect(video, "b c t h w", "video", c=self.config.in_channels)
        if part is not None:
            return DiagonalGaussian(self.encoder(video, None, part.chunked(video.shape[2], ENCODE_CHUNK))[0])
        if tiling is None or not tiling.exceeded(video.shape[3], video.shape[4]):
            return DiagonalGaussian(_in_chunks(self.encoder, video, ENCODE_CHUNK))
        moments = run_tiled(
            lambda tile: _in_chunks(self.encoder, tile, ENCODE_CHUNK),
            video,
            tile=(tiling.height, tiling.width),
            output_tile=self._latent_tile(tiling),
            tiling=tiling,
        )
        return DiagonalGaussian(moments)

    def decode(self, latents: Tensor, *, tiling: Tiling | None = None, part: Part | None = None) -> Tensor:
        """Decode latents to a clip.

        Args:
            latents: (b c t h w), times the scaling factor; t odd is what the model was made for.
            tiling: Decode in tiles where the frames are larger than one.
            part: Decode all chunks in one pass, untiled; the latents are those of this rank's part of the clip.

        Returns:
            Video (b 3 4t-3 8h 8w) about [-1, 1], not clamped.

        Raises:
            ShapeError: An axis does not fit.
        """
        expect(latents, "b c t h w", "latents", c=self.config.latent_channels)
        z = self.unscale(latents)
        if part is not None:
            return self.decoder(z, None, part.chunked(z.shape[2], DECODE_CHUNK))[0]
        ratio = self.config.spatial_ratio
        if tiling is None or not tiling.exceeded(z.shape[3] * ratio, z.shape[4] * ratio):
            return _in_chunks(self.decoder, z, DECODE_CHUNK)
        return run_tiled(
            lambda tile: _in_chunks(self.decoder, tile, DECODE_CHUNK),
            z,
            tile=self._latent_tile(tiling),
            output_tile=(tiling.height, tiling.width),
            tiling=tiling,
        )

    def scale(self, z: Tensor) -> Tensor:
        """Return latents (any shape) as the transformer sees them."""
        return z * self.config.scaling_factor

    def unscale(self, latents: Tensor) -> Tensor:
        """Return latents (any shape) as the decoder sees them."""
        return latents * (1 / self.config.scaling_factor)

    def _latent_tile(self, tiling: Tiling) -> tuple[int, int]:
        ratio = self.config.spatial_ratio
        return int(tiling.height / ratio), int(tiling.width / ratio)


def chunk_bounds(num_frames: int, chunk: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each chunk: equal ones, the first longer by the remainder."""
    rest = num_frames % chunk
    for i in range(max(num_frames // chunk, 1)):
        yield (chunk * i + rest if i else 0), min(chunk * (i + 1) + rest, num_frames)


def _in_chunks(network: Callable[[Tensor, Past | None], tuple[Tensor, Past]], x: Tensor, chunk: int) -> Tensor:
    past: Past | None = None
    outputs = []
    for start, end in chunk_bounds(x.shape[2], chunk):
        y, past = network(x[:, :, start:end], past)
        outputs.append(y)
    return torch.cat(outputs, dim=2)
