"""Prompt, image and clip to latents, and latents to frames: one way for all forms of the model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor

from cogvx.diffusion.guidance import guidance_scale_at, guide
from cogvx.diffusion.samplers import sample_ddim, sample_dpm, visited_timesteps
from cogvx.errors import CogvxError, InputError, UsageError
from cogvx.generate.codec import Codec
from cogvx.generate.options import GenerateOptions, ImageScale, Runtime
from cogvx.generate.parts import Parts
from cogvx.generate.sizes import SizeRules
from cogvx.models.transformer import TransformerConfig
from cogvx.models.vae import VAEConfig
from cogvx.shapes import expect

if TYPE_CHECKING:
    import numpy as np

Report = Callable[[str, int, int], None]  # stage, done, total
OFS = 2.0  # the second scalar of the 1.5 image-to-video form, always this at sampling


class NumbersError(CogvxError):
    """The model's numbers overflowed."""


@dataclass(frozen=True)
class Generated:
    """What a Generator made.

    Attributes:
        latents: (c t h w) float32 on the CPU, times the scaling factor, without the frame that 1.5 models put in front.
        frames: (t h w 3) uint8, or None if only latents were asked for.
    """

    latents: Tensor
    frames: "np.ndarray | None"


class Generator:
    """Makes clips with one model."""

    def __init__(self, parts: Parts, *, vae: VAEConfig, transformer: TransformerConfig, runtime: Runtime) -> None:
        """Wrap a model.

        Args:
            parts: Its modules.
            vae: Configuration of its VAE.
            transformer: Configuration of its transformer.
            runtime: Device and precision.
        """
        self.parts = parts
        self.runtime = runtime
        self.vae_config = vae
        self.transformer_config = transformer
        self.rules = SizeRules.of(vae, transformer)
        self.codec = Codec(parts.vae, vae, runtime)
        self._embeds: dict[str, Tensor] = {}
        self.cut_prompts: dict[str, int] = {}  # prompts that were too long -> their tokens

    @property
    def takes_image(self) -> bool:
        """Whether the transformer wants a first frame beside the noise."""
        return self.transformer_config.in_channels > self.vae_config.latent_channels

    def embed(self, prompts: list[str]) -> list[Tensor]:
        """Return the embedding (1 l d) of each prompt, kept for the next time.

        Embedding all prompts of a batch at once lets the text encoder leave memory before the transformer comes.
        """
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._embeds]
        if missing:
            encoder = self.parts.text_encoder()
            for prompt in missing:  # one at a time: the same numbers whatever the batch
                if (tokens := encoder.num_tokens(prompt)) > encoder.max_length:
                    self.cut_prompts[prompt] = tokens
                self._embeds[prompt] = encoder.encode([prompt]).to("cpu", self.runtime.dtype)
        return [self._embeds[prompt] for prompt in prompts]

    @torch.no_grad()
    def generate(
        self,
        options: GenerateOptions,
        *,
        image: Tensor | None = None,
        clip: Tensor | None = None,
        noise: Tensor | None = None,
        decode: bool = True,
        report: Report = lambda stage, done, total: None,
    ) -> Generated:
        """Make one clip.

        Args:
            options: What to make.
            image: First frame (3 h w) in [-1, 1], of the options' size; for image-to-video models, and only for them.
            clip: (3 t h w) in [-1, 1], of the options' size: start from it, as far from noise as options.strength says.
            noise: (c t h w) to start from, instead of drawing it from the seed.
            decode: Whether frames are wanted, or only latents.
            report: Called with a stage's name, the steps done, and all steps.

        Raises:
            UsageError: The size is not possible, or the model needs or takes no image.
            ShapeError: The image, clip or noise has another size.
            NumbersError: The latents became infinite or not a number.
        """
        total = len(self._timesteps(options))
        latents = torch.empty(0)
        for step, x_t in enumerate(self.steps(options, image=image, clip=clip, noise=noise), start=1):
            latents = x_t
            report("denoising", step, total)
        latents = latents[:, self.rules.num_padded(options.num_frames) :]
        if not decode:
            return Generated(latents=latents.cpu(), frames=None)
        report("decoding", 0, 1)
        frames = self.codec.decode(latents, tiled=options.tiled)
        report("decoding", 1, 1)
        return Generated(latents=latents.cpu(), frames=frames)

    def steps(
        self,
        options: GenerateOptions,
        *,
        image: Tensor | None = None,
        clip: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield the latents (c t h w), float32, after each denoising step, with the frame that 1.5 models put in front.

        Arguments and errors as for generate. Noise is drawn on the CPU in float32 before anything else.
        """
        self._check(options, image=image, clip=clip)
        source = torch.Generator().manual_seed(options.seed)
        x_t = self._noise(options, source, noise)
        cond, uncond = self._conditions(options)
        image_latents = None if image is None else self._encode_image(image, options)
        if clip is not None:
            first = self._timesteps(options)[0]
            x_t = self.parts.schedule.add_noise(self._encode_clip(clip, options), x_t, first)
        x_t = x_t.to(self.runtime.device)
        denoise = self._denoiser(options, torch.cat([uncond, cond]) if options.guided else cond, image_latents)
        settings: dict[str, Any] = {"num_steps": options.num_steps, "strength": options.strength}
        if options.scheduler == "ddim":
            samples = sample_ddim(denoise, x_t, self.parts.schedule, **settings)
        else:
            samples = sample_dpm(denoise, x_t, self.parts.schedule, generator=source, **settings)
        for step, (x_t, _) in enumerate(samples):
            if not torch.isfinite(x_t).all():
                raise NumbersError(
                    f"the latents are not finite after step {step + 1}; try --dtype fp32 or bf16, and check the weights"
                )
            yield rearrange(x_t, "1 t c h w -> c t h w")

    def _timesteps(self, options: GenerateOptions) -> list[int]:
        return visited_timesteps(self.parts.schedule, num_steps=options.num_steps, strength=options.strength)

    def _check(self, options: GenerateOptions, *, image: Tensor | None, clip: Tensor | None) -> None:
        self.rules.check(height=options.height, width=options.width, num_frames=options.num_frames)
        if self.takes_image and image is None:
            raise UsageError("this is an image-to-video model: give it an image (`cogvx i2v IMAGE PROMPT`)")
        if image is not None and not self.takes_image:
            raise UsageError(
                "this model takes no image: use an image-to-video model, such as --model tiny-i2v or 5b-i2v"
            )
        size = {"h": options.height, "w": options.width}
        if image is not None:
            expect(image, "c h w", "image", c=3, **size)
        if clip is not None:
            expect(clip, "c t h w", "clip", c=3, t=options.num_frames, **size)

    def latent_shape(self, options: GenerateOptions) -> tuple[int, int, int, int]:
        """Return the shape (t c h w) of the noise that a clip starts from."""
        frames = self.rules.num_latents(options.num_frames) + self.rules.num_padded(options.num_frames)
        ratio = self.rules.spatial_ratio
        return frames, self.vae_config.latent_channels, options.height // ratio, options.width // ratio

    def _noise(self, options: GenerateOptions, source: torch.Generator, noise: Tensor | None) -> Tensor:
        shape = self.latent_shape(options)
        if noise is None:
            return torch.randn(shape, generator=source, dtype=torch.float32)[None]
        noise = rearrange(noise.float(), "c t h w -> t c h w")
        if tuple(noise.shape) != shape:
            raise InputError(
                f"the noise has shape {tuple(noise.shape)} (t c h w), this clip starts from {shape}; "
                "give a file of that shape, or other --frames, --height and --width"
            )
        return noise[None]

    def _conditions(self, options: GenerateOptions) -> tuple[Tensor, Tensor]:
        if not options.guided:
            cond = self.embed([options.prompt])[0].to(self.runtime.device)
            return cond, cond
        cond, uncond = self.embed([options.prompt, options.negative_prompt])
        return cond.to(self.runtime.device), uncond.to(self.runtime.device)

    def _encode_image(self, image: Tensor, options: GenerateOptions) -> Tensor:
        """Return the image's latents in the first frame, and zeros behind it: (1 t c h w)."""
        latents = self.codec.posterior(image[:, None], tiled=options.tiled) * self._image_factor(
            options.image_latent_scale
        )
        padded = torch.zeros(self.latent_shape(options))
        # For 1.5 models this first frame is the one put in front, which is dropped later; the weights were trained so.
        padded[0] = latents[:, 0]
        return padded[None]

    def _image_factor(self, scale: ImageScale) -> float:
        factor = self.vae_config.scaling_factor
        if scale == "auto":
            scale = "inverse" if self.vae_config.invert_scale_latents else "scaled"
        return {"scaled": factor, "inverse": 1 / factor, "raw": 1.0}[scale]

    def _encode_clip(self, clip: Tensor, options: GenerateOptions) -> Tensor:
        latents = rearrange(self.codec.encode(clip, tiled=options.tiled), "c t h w -> 1 t c h w")
        padding = self.rules.num_padded(options.num_frames)
        return torch.cat([latents[:, :1].expand(-1, padding, -1, -1, -1), latents], dim=1) if padding else latents

    def _denoiser(
        self, options: GenerateOptions, text_embeds: Tensor, image_latents: Tensor | None
    ) -> Callable[[Tensor, int, int], Tensor]:
        """Return the function (x_t (1 t c h w), timestep, step) -> guided velocity in float32."""
        runtime, copies = self.runtime, text_embeds.shape[0]
        transformer = self.parts.transformer()
        text_embeds = text_embeds.to(runtime.dtype)
        if image_latents is not None:
            image_latents = image_latents.to(runtime.device)
        ofs = torch.full((1,), OFS, device=runtime.device) if self.transformer_config.ofs_size else None
        # The official code shortens the count with the strength here, and nowhere else.
        num_steps = options.num_steps if options.strength == 1 else len(self._timesteps(options))

        def denoise(x_t: Tensor, timestep: int, step: int) -> Tensor:
            x = x_t if image_latents is None else torch.cat([x_t, image_latents], dim=2)
            x = rearrange(x, "1 t c h w -> 1 c t h w").to(runtime.dtype).expand(copies, -1, -1, -1, -1)
            times = torch.full((copies,), timestep, device=runtime.device)
            velocity = transformer(x, text_embeds, times, ofs=ofs).float()
            if copies == 2:
                mode, scale = options.dynamic_guidance, options.guidance_scale
                scale = guidance_scale_at(mode, scale, timestep=timestep, step=step, num_steps=num_steps)
                velocity = guide(velocity[:1], velocity[1:], scale)
            return rearrange(velocity, "1 c t h w -> 1 t c h w")

        return denoise
