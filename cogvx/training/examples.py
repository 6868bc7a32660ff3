"""A clip of the data to what the transformer is trained on: latents, and the condition of a first frame."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cogvx.data.dataset import Sample, draw
from cogvx.data.video import to_video
from cogvx.errors import InputError
from cogvx.models.transformer import TransformerConfig
from cogvx.models.vae import CausalVAE, VAEConfig
from cogvx.training.conditioning import fill_front, image_condition, image_factor, noise_image
from cogvx.training.draws import source
from cogvx.training.recipe import DiffusionOptions


@dataclass(frozen=True)
class Place:
    """Where a clip stands in a run: everything that is drawn for it comes from here.

    Attributes:
        seed: Of the run.
        step: Of the run.
        clip: Number of the clip in the step, over all ranks.
    """

    seed: int
    step: int
    clip: int

    def source(self, what: str) -> torch.Generator:
        """Return a source of random numbers for one thing of this clip."""
        return source(self.seed, what, self.step, self.clip)

    def number(self, what: str) -> float:
        """Return a number in [0, 1)."""
        return float(torch.rand((), generator=self.source(what), dtype=torch.float64))


class Encoder:
    """Encodes clips that were not encoded ahead, and prepares all of them for the transformer."""

    def __init__(
        self,
        vae: Callable[[], CausalVAE],
        *,
        vae_config: VAEConfig,
        transformer: TransformerConfig | None,
        options: DiffusionOptions,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Take a VAE.

        Args:
            vae: Returns it, on the device; called when the first clip is to be encoded.
            vae_config: Its sizes.
            transformer: Sizes of the transformer; None: latents are not filled in front.
            options: How first frames are treated.
            device: Where latents go.
            dtype: Of the arithmetic.
        """
        self._load = vae
        self._loaded: CausalVAE | None = None
        self.config = vae_config
        self.options = options
        self.device, self.dtype = device, dtype
        self._temporal_patch = 1 if transformer is None else transformer.temporal_patch_size or 1

    @property
    def vae(self) -> CausalVAE:
        """The VAE."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def latents(self, sample: Sample, place: Place | None) -> Tensor:
        """Return the latents (c t h w) of a clip, float32, times the scaling factor, filled to whole tokens in front.

        Args:
            sample: The clip.
            place: Where a sample of the posterior is drawn; None: its mean.
        """
        if sample.latents is not None:
            mean, std = sample.latents, sample.std
        else:
            mean, std = self._encode(self._video(sample))
        return fill_front(self._drawn(mean, std, place, "posterior"), self._temporal_patch)

    def image(self, sample: Sample, num_frames: int, place: Place | None) -> Tensor:
        """Return the condition (c t h w) of a clip's first frame.

        Args:
            sample: The clip; an image that was encoded ahead has its noise already.
            num_frames: Of the clip's latents, filled.
            place: Where noise and a sample of the posterior are drawn; None: the mean of noise of the median strength,
                the same each time.
        """
        if sample.image_latents is not None:
            mean, std = sample.image_latents, sample.image_std
        else:
            noisy = noise_image(
                self._video(sample)[:, :1],
                mean=self.options.image_noise_mean,
                std=self.options.image_noise_std if place is not None else 0.0,
                generator=(place or Place(0, 0, sample.index)).source("image noise"),
            )
            mean, std = self._encode(noisy)
        scaled = self._drawn(mean, std, place, "image posterior")
        factor = image_factor(self.config, self.options.image_latent) / self.config.scaling_factor
        return image_condition(scaled * factor, num_frames)

    def _drawn(self, mean: Tensor, std: Tensor | None, place: Place | None, what: str) -> Tensor:
        """Return a sample of a posterior, or its mean where no place is given, on the device."""
        latents = mean.float() if place is None else draw(mean, std, place.source(what))
        return latents.to(self.device)

    def _video(self, sample: Sample) -> Tensor:
        if sample.frames is None:
            raise InputError(
                f"entry {sample.index} has latents but neither frames nor latents of its first frame; "
                "make those with `cogvx data encode`, or train from clips"
            )
        return to_video(sample.frames).to(self.device)

    @torch.no_grad()
    def _encode(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and deviation (c t h w), times the scaling factor, of pixels (3 t h w)."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            posterior = self.vae.encode(video[None])
        mean, std = posterior.mean[0].float(), torch.exp(0.5 * posterior.logvar[0].float())
        return (mean * self.config.scaling_factor).cpu(), (std * self.config.scaling_factor).cpu()
