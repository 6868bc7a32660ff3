"""Training of the 3D causal VAE: short clips, then long ones that several ranks share."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from cogvx.checkpoints.perceptual import load_distance
from cogvx.checkpoints.saving import save_component
from cogvx.data.video import to_frames, to_video, write_clip
from cogvx.distributed import World, all_sum, alone
from cogvx.errors import InputError, UsageError
from cogvx.files import sha256_file
from cogvx.metrics.flicker import flicker_excess, flicker_x1000
from cogvx.metrics.reconstruction import WINDOW, psnr, ssim
from cogvx.models.vae import CausalVAE, DiagonalGaussian, Norms, Part, check_frames, cut
from cogvx.models.vae.blocks import ResStack
from cogvx.models.vae.causal_conv import CausalConv3d
from cogvx.models.vae.discriminator import Discriminator, DiscriminatorConfig
from cogvx.models.vae.rescale import measure_visibility, rescale_latents
from cogvx.training.draws import number, seeded, source
from cogvx.training.engine import arithmetic_dtype
from cogvx.training.frame_convs import use_frame_convs
from cogvx.training.fused_norms import fuse_norms
from cogvx.training.optim import optimizers_of
from cogvx.training.recipe import Recipe
from cogvx.training.run_folder import list_bad
from cogvx.training.start import find_model
from cogvx.training.task import Loss
from cogvx.training.vae_data import Clips, VAEBatches, VAEStage, open_clips, rates
from cogvx.training.vae_loss import Rebuilt, VAELoss, mean_psnr, watched

GAN_FRAMES = 17  # that the discriminator looks at: a clip of the first stage, a window of a longer one
NUM_PREVIEWS = 4
DISCRIMINATOR = "discriminator"  # folder beside the VAE, for a later stage that is a run of its own
_SCALING_CLIPS = 32  # that the spread of latents is measured on
_VISIBLE_CLIPS = 8  # whose first frames are decoded with noise in each channel
_LEAST_VARIANCE = 1e-12  # of latents that never change


class VAETask:
    """Training of a VAE, with a discriminator if the recipe has one.

    Both networks learn from one backward pass and step together. In this pass the networks see a clip whole: with norms
    over chunks they then compute what encode and decode compute, with norms over the clip what the official code
    trains. Ranks that share a clip compute the same; images are not cut but counted once by each of them.

    Attributes:
        parts: The VAE, and the discriminator.
        identity: What a run must not change when it goes on.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        vae: CausalVAE,
        stages: Sequence[VAEStage],
        held_out: Clips | None = None,
        world: World,
    ) -> None:
        """Take a VAE.

        Args:
            recipe: The run.
            vae: On the world's device, float32.
            stages: The clips of each stage.
            held_out: Clips of the validation, the previews and, for a new VAE, of its scaling factor.
            world: The ranks.

        Raises:
            UsageError: The recipe asks for what does not go together.
            MissingError: The perceptual network's package is not installed.
        """
        self.recipe, self.world, self.vae = recipe, world, vae.train().requires_grad_(True)
        self.norms: Norms = recipe.vae.norms
        self.identity: dict[str, str] = {}
        self.dtype = arithmetic_dtype(recipe, world.device)
        self._ratio = vae.config.temporal_compression_ratio
        self._check()
        if recipe.vae.freeze == "encoder":
            vae.encoder.requires_grad_(False)
        self._stages = stages
        self.batches = VAEBatches(
            recipe, stages, ranks=(world.data_rank, world.data_size), num_workers=recipe.data.workers
        )
        self._held_out = held_out if held_out is not None and len(held_out) else None
        self._kept: dict[int, np.ndarray] = {}
        self.discriminator = self._make_discriminator() if recipe.vae.gan_weight else None
        self.parts = nn.ModuleDict({"vae": self.vae})
        if self.discriminator is not None:
            self.parts["discriminator"] = self.discriminator
        self._loss = VAELoss(
            recipe.vae,
            world=world,
            distance=load_distance(recipe.vae.perceptual, world.device),
            discriminator=self.discriminator,
            dtype=self.dtype,
        )
        if self.dtype == torch.bfloat16 and world.device.type == "cpu":
            use_frame_convs(self.parts)
            fuse_norms(self.vae, compiled=recipe.run.compile)
        for module in self.vae.modules():
            if isinstance(module, ResStack):
                module.recompute = recipe.run.activation_checkpointing

    def optimizers(self) -> list[Optimizer]:
        """Return the optimizers of the VAE, then those of the discriminator."""
        options = self.recipe.optim
        return optimizers_of(self.parts, options, {"discriminator": self.recipe.vae.gan_lr or options.lr})

    def num_micro_batches(self, step: int) -> int:
        """Return how many micro batches this rank cuts its clips of a step into."""
        return self.recipe.run.accumulate

    def loss(self, step: int, micro: int) -> Loss:
        """Return the loss of one micro batch, as this rank's share of the mean over the step's clips."""
        places = self.batches.places(step, micro)
        clips = self.batches.read(step, micro)
        video = torch.stack([to_video(frames) for frames in clips]).to(self.world.device)
        num_frames = video.shape[2]
        # An image cannot be cut: the ranks of a group all train on it, and each counts its part.
        sharing = self.world if num_frames > 1 else alone(self.world.device)
        counted = self.recipe.vae.gan_weight > 0 and step >= self.recipe.vae.gan_start
        own, part = cut(video, sharing), Part(sharing, self.norms)
        with watched(self.vae.decoder.conv_out.conv) as last:
            posterior, rebuilt = self._rebuild(own, part, step, places)
        start = number(self.recipe.seed, "window", step) % max(1, num_frames - GAN_FRAMES + 1)
        seen = [number(self.recipe.seed, "frame", step, place) % num_frames for place in places]
        made = Rebuilt(
            video=video,
            own=own,
            rebuilt=rebuilt,
            posterior=posterior,
            sharing=sharing,
            seen_frame=torch.tensor(seen, device=video.device),
            window=(start, min(start + GAN_FRAMES, num_frames)),
        )
        with torch.autocast(own.device.type, enabled=False):  # the engine's; losses are computed in float32
            value, metrics = self._loss(made, last if counted else None)
        stage, _ = self.recipe.stage_at(step)
        share = len(places) / self._stages[stage].batch_size * sharing.context_size / self.world.context_size
        metrics["psnr"] = float(mean_psnr(made))
        latents = (num_frames - 1) // self._ratio + 1
        tokens = latents * video.shape[3] * video.shape[4] // self.vae.config.spatial_ratio**2
        return Loss(
            value=value * share,
            metrics={name: metric * share for name, metric in metrics.items()},
            tokens=tokens * len(places),
            clips=len(places),
        )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return PSNR, SSIM and flicker of held-out clips through the mean of their latents, in chunks.

        "flicker" is what the paper's tables seem to have (see metrics), of the rebuilt clips; "flicker_original" of the
        originals.
        """
        names = ("psnr", "ssim", "flicker", "flicker_original", "flicker_excess")
        sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=self.world.device)
        for frames, counts in self._own_held_out():
            found = self._measure(frames)
            if counts:
                sums += torch.tensor([1.0, *found], dtype=torch.float64, device=self.world.device)
        count, *totals = all_sum(sums, world=self.world).tolist()
        means = {name: total / count for name, total in zip(names, totals, strict=True)} if count else {}
        return {name: value for name, value in means.items() if value == value}

    @torch.no_grad()
    def preview(self, folder: Path) -> None:
        """Write a few held-out clips, the original on the left and the rebuilt one on the right."""
        clips = self._held_out or self._stages[-1].clips[0]
        for index in range(min(NUM_PREVIEWS, len(clips))):
            frames = clips.frames(index)
            if frames is None:
                continue
            rebuilt = to_frames(self._round_trip(frames)[0])
            if self.world.rank == 0:
                both = np.concatenate([frames, rebuilt], axis=2)
                write_clip(folder / f"{index:02d}.mp4", both, rates(self.recipe, -1)[0], overwrite=True)

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        """Write the VAE in the diffusers layout; a new one with the scaling factor that its latents need."""
        vae, config = self.vae, self.vae.config
        if self.recipe.vae.channels != "learned":
            vae, config = deepcopy(vae), replace(config, scaling_factor=1.0)
            rescale_latents(vae, self._spreads() / self.measure_channels())
        elif self.recipe.model.vae and "scaling_factor" not in self.recipe.model.vae:
            config = replace(config, scaling_factor=self.measure_scaling())
        save_component(vae.state_dict(), config.to_dict(), folder / "vae")
        if self.discriminator is not None:
            sizes = asdict(self.discriminator.config)
            save_component(self.discriminator.state_dict(), sizes, folder / DISCRIMINATOR, stem=DISCRIMINATOR)

    def load_discriminator(self, folder: Path) -> str:
        """Go on with the discriminator that an earlier run left beside its VAE, if it fits; return what was done."""
        assert self.discriminator is not None
        path = folder / f"{DISCRIMINATOR}.safetensors"
        if not path.exists():
            return "the discriminator starts anew: there is none beside the VAE"
        if json.loads((folder / "config.json").read_text(encoding="utf-8")) != asdict(self.discriminator.config):
            return f"the discriminator starts anew: that of {folder} has other sizes"
        self.discriminator.load_state_dict(load_file(path))
        return f"the discriminator goes on from {folder}"

    def measure_scaling(self) -> float:
        """Return the factor that gives the latents of some clips a standard deviation of 1."""
        means, squares = self._moments()
        return float((squares.mean() - means.mean() ** 2).clamp_min(_LEAST_VARIANCE) ** -0.5)

    def measure_channels(self) -> Tensor:
        """Return the standard deviation (c) of each channel of some clips' latents."""
        means, squares = self._moments()
        return (squares - means.square()).clamp_min(_LEAST_VARIANCE).sqrt()

    @torch.no_grad()
    def _spreads(self) -> Tensor:
        """Return the standard deviations (c), float64, that the recipe wants of the channels."""
        learned = self.measure_channels()
        if self.recipe.vae.channels == "equal":
            return torch.ones_like(learned)
        pictures = [
            self.vae.encode(to_video(frames[:1])[None].to(self.world.device)).mean
            for frames in islice(self._measured_clips(), _VISIBLE_CLIPS)
        ]
        spreads = measure_visibility(self.vae, pictures, learned).sqrt()
        return spreads / spreads.square().mean().sqrt()

    def _measured_clips(self) -> Iterator[np.ndarray]:
        """Yield the clips that the latents' spread is measured on."""
        clips = self._held_out or self._stages[-1].clips[0]
        for index in range(min(_SCALING_CLIPS, len(clips))):
            frames = clips.frames(index)
            if frames is not None:
                yield frames

    @torch.no_grad()
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and mean square (c), float64, of the latents of some clips, before the scaling factor.

        Raises:
            InputError: None of them can be read.
        """
        device = next(self.vae.parameters()).device
        count, sums, squares = 0, torch.zeros(()), torch.zeros(())
        for frames in self._measured_clips():
            posterior = self.vae.encode(to_video(frames)[None].to(device))
            mean = posterior.mean.double().cpu().transpose(0, 1).flatten(1)
            variance = posterior.logvar.double().cpu().exp().transpose(0, 1).flatten(1)
            count += mean.shape[1]
            sums = sums + mean.sum(dim=1)
            squares = squares + (mean.square() + variance).sum(dim=1)
        if not count:
            raise InputError("none of the clips that the latents' spread is measured on can be read")
        return sums / count, squares / count

    def _rebuild(self, own: Tensor, part: Part, step: int, places: range) -> tuple[DiagonalGaussian, Tensor]:
        """Return the posterior of this rank's frames, and the frames rebuilt from a sample of it, in float32."""
        with torch.autocast(own.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            posterior = self.vae.encode(own, part=part)
        posterior.mean, posterior.logvar = posterior.mean.float(), posterior.logvar.float()
        channels, frames, height, width = posterior.mean.shape[1:]
        whole = 1 + (frames - part.first) * part.world.context_size
        # The noise is that of the whole clip, however it is cut.
        noise = torch.stack(
            [
                torch.randn(channels, whole, height, width, generator=source(self.recipe.seed, "latents", step, place))
                for place in places
            ]
        )
        noise = cut(noise, part.world).to(own.device)
        latents = posterior.mean + torch.exp(0.5 * posterior.logvar) * noise
        with torch.autocast(own.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            rebuilt = self.vae.decode(self.vae.scale(latents), part=part)
        return posterior, rebuilt.float()

    def _round_trip(self, frames: np.ndarray) -> Tensor:
        """Return a clip (1 3 t h w), about [-1, 1], rebuilt from the mean of its latents."""
        device = self.world.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            latents = self.vae.scale(self.vae.encode(to_video(frames)[None].to(device)).mean)
            return self.vae.decode(latents).float()

    def _measure(self, frames: np.ndarray) -> list[float]:
        rebuilt = (self._round_trip(frames).clamp(-1, 1) + 1) / 2
        original = rearrange(torch.from_numpy(np.array(frames)), "t h w c -> 1 c t h w").to(rebuilt.device) / 255
        found = [float(psnr(original, rebuilt))]
        found.append(float(ssim(original, rebuilt)) if min(original.shape[3:]) >= WINDOW else float("nan"))
        if len(frames) < 2:
            return found + [float("nan")] * 3
        return [
            *found,
            float(flicker_x1000(rebuilt)),
            float(flicker_x1000(original)),
            float(flicker_excess(original, rebuilt)),
        ]

    def _own_held_out(self) -> Iterator[tuple[np.ndarray, bool]]:
        """Yield this rank's held-out clips, as many as any other's, and whether each counts."""
        clips = self._held_out
        count = 0 if clips is None else min(self.recipe.validation.clips, len(clips))
        for turn in range(-(-count // self.world.size)):
            place = self.world.rank + turn * self.world.size
            index = place % count * len(clips) // count  # type: ignore[arg-type]
            if index not in self._kept:
                frames = clips.frames(index)  # type: ignore[union-attr]
                if frames is None:
                    raise InputError(f"held-out clip {index} cannot be read")
                self._kept[index] = frames
            yield self._kept[index], place < count

    def _make_discriminator(self) -> Discriminator:
        sides = [min(size) for stage in self.recipe.stages for size in ((stage.crop,) if stage.crop else stage.sizes)]
        config = DiscriminatorConfig(width=self.recipe.vae.gan_width, image_size=min(sides), num_frames=GAN_FRAMES)
        with seeded(self.recipe.seed, "discriminator"):
            return Discriminator(config).to(self.world.device)

    def _check(self) -> None:
        part, ratio = Part(self.world, self.norms), self.vae.config.spatial_ratio
        options = self.recipe.vae
        for name, changes in (("channels", options.channels != "learned"), ("inflate", options.inflate != "none")):
            if options.freeze == "encoder" and changes:
                raise UsageError(f'vae.{name} changes the latents that vae.freeze = "encoder" keeps: choose one')
        for i, stage in enumerate(self.recipe.stages):
            if stage.max_frames > 1:
                check_frames(stage.max_frames, self._ratio, part)
            wrong = [size for size in (*stage.sizes, stage.crop) if any(side % ratio for side in size)]
            if wrong:
                raise UsageError(f"stages.{i}: {list(wrong[0])} are no multiples of this VAE's {ratio} pixels")
            if stage.crop and len(stage.crop) != 2:
                raise UsageError(f"stages.{i}.crop: {list(stage.crop)} is no height and width")
            if stage.crop and any(a > b for size in stage.sizes for a, b in zip(stage.crop, size, strict=True)):
                raise UsageError(f"stages.{i}.crop: {list(stage.crop)} is larger than one of its sizes")


@torch.no_grad()
def inflate(vae: CausalVAE) -> None:
    """Put the weight of each kernel on its last frame; nothing changes for images."""
    for module in vae.modules():
        if isinstance(module, CausalConv3d):
            weight = module.conv.weight
            total = weight.sum(dim=2)
            weight.zero_()
            weight[:, :, -1] = total


def make_task(recipe: Recipe, folder: Path, *, world: World, announce: Callable[[str], None] | None = None) -> VAETask:
    """Open what a recipe of kind "vae" names.

    Args:
        recipe: The run.
        folder: The run folder; entries that cannot be used are listed in its `bad.jsonl`.
        world: The ranks.
        announce: Called with what a user should know.

    Raises:
        CogvxError: Something in the recipe does not go together, or cannot be read.
    """
    announce = announce or (lambda text: None)

    stages, held_out = open_clips(recipe, on_bad=partial(list_bad, folder))
    model = find_model(recipe, announce=announce)
    vae = model.vae(world.device)
    if recipe.vae.inflate == "last":
        inflate(vae)
    task = VAETask(recipe, vae=vae, stages=stages, held_out=held_out, world=world)
    hashes = [sha256_file(Path(path)) for path in (*recipe.data.train, *recipe.data.validation)]
    task.identity["data"] = hashlib.sha256(" ".join(hashes).encode()).hexdigest()
    if "vae" in model.folders and task.discriminator is not None:
        announce(task.load_discriminator(model.folders["vae"].path / DISCRIMINATOR))
    return task
