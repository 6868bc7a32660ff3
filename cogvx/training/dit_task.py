"""Training of the expert transformer: text to video, image to video, and LoRA."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cogvx.checkpoints.lora import FILE_NAME, save_lora
from cogvx.data.dataset import Sample
from cogvx.diffusion.losses import mean_squared_errors, noised
from cogvx.diffusion.timesteps import independent_timesteps, stratified_timesteps
from cogvx.distributed import World
from cogvx.errors import UsageError
from cogvx.files import sha256_file
from cogvx.models.text_encoder import TextEncoder
from cogvx.models.transformer import ExpertTransformer
from cogvx.training.conditioning import fill_front
from cogvx.training.draws import source
from cogvx.training.engine import arithmetic_dtype
from cogvx.training.examples import Encoder, Place
from cogvx.training.export import export_model
from cogvx.training.lora import put_in, relative_change, starting_lora, take_out
from cogvx.training.optim import optimizers_of
from cogvx.training.order import Item
from cogvx.training.packs import Packs
from cogvx.training.preview import make_previews
from cogvx.training.recipe import Recipe
from cogvx.training.run_folder import list_bad
from cogvx.training.stages import StageData, open_encoded, open_held_out, open_stages, opener, tell_missing
from cogvx.training.start import StartingModel, find_model, takes_image
from cogvx.training.task import Loss
from cogvx.training.texts import Texts
from cogvx.training.validation import HeldOut, held_out_loss
from cogvx.training.velocity import predict_velocities


@dataclass(frozen=True)
class Batch:
    """The clips of one pack, ready for the network.

    Attributes:
        inputs: Noised latents (c t h w) of each, with the image's channels behind them.
        targets: Velocities (c t h w).
        timesteps: (n,).
        text_embeds: (n l d).
        weights: (n,) share of each clip in the mean of the step; 0 for one that could not be read.
        tokens: Of all clips, text included.
    """

    inputs: list[Tensor]
    targets: list[Tensor]
    timesteps: Tensor
    text_embeds: Tensor
    weights: list[float]
    tokens: int


class DiTTask:
    """Training of a transformer, of its LoRA, or of both it and its text encoder.

    Attributes:
        parts: What is trained (see Task).
        blocks: What is spread over ranks one by one.
        identity: What a run must not change when it goes on.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        model: StartingModel,
        stages: Sequence[StageData],
        held_out: Sequence[tuple[StageData, Item]] = (),
        world: World,
        announce: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Load what is trained, on the world's device.

        Args:
            recipe: The run.
            model: What it starts from.
            stages: The clips of each stage.
            held_out: Clips of the validation.
            world: The ranks.
            announce: Called with what a user should know.

        Raises:
            UsageError: The recipe asks for what does not go together.
            InputError: A model or a LoRA is damaged.
        """
        self.recipe, self.model, self.world = recipe, model, world
        self.dtype = arithmetic_dtype(recipe, world.device)
        self.identity: dict[str, str] = {}
        self._stages = stages
        self._packs = Packs(recipe, stages, world)
        self._check()
        self.schedule = model.schedule
        self.transformer = self._make_transformer(announce)
        config, options = self.transformer.config, recipe.model
        self._with_image = takes_image(config, model.vae_config)
        self.parts = nn.ModuleDict({"transformer": self.transformer})
        self.blocks: list[nn.Module] = list(self.transformer.transformer_blocks)
        self.texts = Texts(
            self._make_text_encoder,
            trained=options.train_text,
            dropped=recipe.diffusion.dropped_caption,
            size=(config.max_text_length, config.text_size),
            empty=next((text for stage in stages if (text := stage.text("")) is not None), None),
        )
        if options.train_text:
            self.parts["text_encoder"] = self.texts.encoder.encoder
        self.encoder = Encoder(
            lambda: model.vae(world.device),
            vae_config=model.vae_config,
            transformer=config,
            options=recipe.diffusion,
            device=world.device,
            dtype=self.dtype,
        )
        self._held_out = HeldOut(held_out, self.encoder, with_image=self._with_image)
        self._current_stage = 0
        if recipe.preview.prompts and self._with_image and len(recipe.preview.images) != len(recipe.preview.prompts):
            raise UsageError("previews of an image-to-video model need an image for each prompt: preview.images")

    def optimizers(self) -> list[Optimizer]:
        """Return the optimizers of all trained parameters."""
        options = self.recipe.optim
        return optimizers_of(self.parts, options, {"text_encoder": options.lr * options.text_share})

    def num_micro_batches(self, step: int) -> int:
        """Return how many packs this data rank has in a step."""
        return self._packs.num_micro_batches(step)

    def loss(self, step: int, micro: int) -> Loss:
        """Return the mean squared error of one pack's velocities, as its share of the mean over the step's clips."""
        batch = self.batch(step, micro)
        velocities = self._predict(batch.inputs, batch.text_embeds, batch.timesteps)
        errors = [
            weight * mean_squared_errors(velocity[None], target[None])[0]
            for velocity, target, weight in zip(velocities, batch.targets, batch.weights, strict=True)
        ]
        # Ranks that share a clip all come to the same loss of the whole clip.
        value = torch.stack(errors).sum() / self.world.context_size
        return Loss(value=value, metrics={"loss": float(value.detach())}, tokens=batch.tokens, clips=len(batch.inputs))

    def batch(self, step: int, micro: int) -> Batch:
        """Return what the network is shown in one micro batch of this rank, and what it should answer."""
        self._current_stage, _ = self.recipe.stage_at(step)
        data, total = self._packs.data(step), self._packs.num_clips(step)
        items, places = zip(*self._packs.items(step, micro), strict=True)
        samples = self._packs.samples(step, micro)
        times = self.timesteps(step, total)[[where.clip for where in places]]
        inputs, targets = [], []
        for item, sample, where, timestep in zip(items, samples, places, times, strict=True):
            x_t, target = self._noised(data, item, sample, where, timestep)
            inputs.append(x_t)
            targets.append(target)
        captions = [self._caption(sample, where) for sample, where in zip(samples, places, strict=True)]
        ready = [None if sample is None else sample.text for sample in samples]
        with self._autocast():
            text_embeds = self.texts.embed(captions, ready, self.world.device)
        weights = [0.0 if sample is None else 1 / total for sample in samples]
        tokens = sum(data.num_tokens(item) for item in items)
        return Batch(inputs, targets, times, text_embeds, weights, tokens)

    def timesteps(self, step: int, num_clips: int) -> Tensor:
        """Return the diffusion times (n,) of all clips of a step, over all ranks and packs."""
        draw = stratified_timesteps if self.recipe.diffusion.explicit_uniform else independent_timesteps
        return draw(
            num_clips,
            generator=source(self.recipe.seed, "times", step),
            num_timesteps=self.schedule.num_timesteps,
            power=self.recipe.diffusion.time_power,
        )

    def validate(self) -> dict[str, float]:
        """Return the held-out loss of the weights as they are, and for a LoRA how much it changes them."""
        found: dict[str, float] = {}
        if len(self._held_out):
            found = held_out_loss(
                self._predict_held_out,
                self._held_out.latents,
                self.schedule,
                num_clips=len(self._held_out),
                timesteps=self.recipe.validation.timesteps,
                world=self.world,
            )
        if self.recipe.kind == "lora":
            found["lora_change"] = relative_change(self.transformer)
        return found

    def preview(self, folder: Path) -> None:
        """Write a clip for each of the recipe's prompts, of the size of the stage that is trained."""
        with self._autocast():
            make_previews(
                folder,
                self.model,
                self.recipe,
                stage=self.recipe.stages[self._current_stage],
                transformer=self.transformer,
                text_encoder=self.texts.encoder,
                vae=self.encoder.vae,
                device=self.world.device,
                write=self.world.rank == 0,
            )

    def export(self, folder: Path) -> None:
        """Write the LoRA's file, or the whole model, into a folder."""
        if self.recipe.kind == "lora":
            save_lora(folder / FILE_NAME, take_out(self.transformer))
            return
        text_encoder = self.parts["text_encoder"] if "text_encoder" in self.parts else None
        export_model(
            folder,
            self.model,
            self.recipe,
            transformer=self.transformer,
            text_encoder=text_encoder,
            dtype=self.dtype,
        )

    def _noised(
        self, data: StageData, item: Item, sample: Sample | None, place: Place, timestep: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the network's input and its target for one clip; zeros stand for one that could not be read."""
        if sample is None:
            x0 = fill_front(
                torch.zeros(data.latent_shape(item), device=self.world.device),
                self.transformer.config.temporal_patch_size or 1,
            )
        else:
            x0 = self.encoder.latents(sample, place)
        noise = torch.randn(x0.shape, generator=place.source("noise")).to(x0.device)
        x_t, velocity = noised(self.schedule, x0, noise, timestep)
        if not self._with_image:
            return x_t, velocity
        image = torch.zeros_like(x_t)
        if sample is not None and place.number("image dropout") >= self.recipe.data.image_dropout:
            image = self.encoder.image(sample, x_t.shape[1], place)
        return torch.cat([x_t, image]), velocity

    def _caption(self, sample: Sample | None, place: Place) -> str | None:
        if sample is None or place.number("caption dropout") < self.recipe.data.caption_dropout:
            return None
        return sample.caption

    def _predict(self, inputs: Sequence[Tensor], text_embeds: Tensor, timesteps: Tensor) -> list[Tensor]:
        return predict_velocities(
            self.transformer,
            inputs,
            text_embeds,
            timesteps,
            ofs=self.recipe.diffusion.ofs,
            world=self.world,
            dtype=self.dtype,
        )

    def _predict_held_out(self, clip: int, x_t: Tensor, timestep: int) -> Tensor:
        sample, image = self._held_out.sample(clip), self._held_out.image(clip)
        inputs = x_t if image is None else torch.cat([x_t, image.to(x_t)])
        with self._autocast():
            text_embeds = self.texts.embed([sample.caption], [sample.text], self.world.device)
        return self._predict([inputs], text_embeds, torch.tensor([timestep]))[0]

    def _make_transformer(self, announce: Callable[[str], None]) -> ExpertTransformer:
        recipe, model, device = self.recipe, self.model, self.world.device
        if recipe.kind == "lora":
            # Frozen weights are kept in the type of the arithmetic; a CPU's kernels want one type only.
            frozen = self.dtype if device.type == "cuda" else torch.float32
            transformer = model.transformer(device, frozen)
            put_in(transformer, starting_lora(recipe.lora, transformer, seed=recipe.seed, announce=announce))
        else:
            transformer = model.transformer(device, with_image=recipe.kind == "i2v").requires_grad_(True)
        if recipe.kind == "dit" and takes_image(transformer.config, model.vae_config):
            raise UsageError('the model takes a first frame: kind = "i2v" trains it')
        if recipe.diffusion.positions != "fit":
            # In the config, so that previews and the result have them too.
            transformer.config = replace(transformer.config, positions=recipe.diffusion.positions)
        transformer.attention_backend = recipe.run.attention
        transformer.activation_checkpointing = recipe.run.activation_checkpointing
        return transformer

    def _make_text_encoder(self) -> TextEncoder:
        trained = self.recipe.model.train_text
        dtype = self.dtype if self.world.device.type == "cuda" and not trained else torch.float32
        text_encoder = self.model.text_encoder(self.world.device, dtype)
        if trained:
            for part in text_encoder.encoder.modules():
                if isinstance(part, nn.Dropout):
                    part.p = 0.0  # it would draw from the global state
            text_encoder.encoder.requires_grad_(True)
        return text_encoder

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.world.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _check(self) -> None:
        recipe = self.recipe
        if recipe.kind == "lora" and recipe.model.train_text:
            raise UsageError("a LoRA is of the transformer alone: model.train_text must be false")


def make_task(recipe: Recipe, folder: Path, *, world: World, announce: Callable[[str], None] | None = None) -> DiTTask:
    """Open what a recipe names, its data first: a wrong path is told before weights are loaded.

    Args:
        recipe: The run, of kind "dit", "i2v" or "lora".
        folder: The run folder; entries that cannot be used are listed in its `bad.jsonl`.
        world: The ranks.
        announce: Called with what a user should know (default: a line on stderr, from the first rank).

    Raises:
        CogvxError: Something in the recipe does not go together, or cannot be read.
    """

    def tell(text: str) -> None:
        if world.rank == 0:
            print(text, file=sys.stderr)

    announce = announce or tell
    model = find_model(recipe, announce=announce)
    with_image = recipe.kind == "i2v" or takes_image(model.transformer_config, model.vae_config)
    dtype = arithmetic_dtype(recipe, world.device)
    cache = open_encoded(recipe, model.folders, dtype=dtype)
    opened = opener(recipe, cache=cache, with_image=with_image, on_bad=partial(list_bad, folder))
    stages = open_stages(recipe, opened, vae=model.vae_config, transformer=model.transformer_config)
    tell_missing(recipe, stages, dtype=dtype, tell=announce)
    held_out = open_held_out(recipe, opened, vae=model.vae_config, transformer=model.transformer_config)
    if recipe.run.validate_every and not held_out:
        announce('no held-out loss: data.validation is empty, and no entry of data.train has the split "validation"')
    task = DiTTask(recipe, model=model, stages=stages, held_out=held_out, world=world, announce=announce)
    manifests = [sha256_file(path) for path in (*recipe.data.train, *recipe.data.validation)]
    task.identity["data"] = hashlib.sha256(" ".join(manifests).encode()).hexdigest()
    return task
