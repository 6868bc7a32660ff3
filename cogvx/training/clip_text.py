"""What trainings of networks that know clips and captions share: their sizes, their examples, what they start from."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cogvx.data.cache import EncodedCache
from cogvx.distributed import World
from cogvx.errors import InputError, UsageError
from cogvx.files import sha256_file
from cogvx.models.captioner import CaptionerConfig
from cogvx.models.dual_encoder import DualEncoderConfig
from cogvx.models.vae import VAEConfig
from cogvx.models.words import Vocabulary, clean_words
from cogvx.training.encoders import open_cache
from cogvx.training.engine import arithmetic_dtype
from cogvx.training.examples import Encoder, Place
from cogvx.training.optim import optimizers_of
from cogvx.training.order import Item
from cogvx.training.packs import Packs
from cogvx.training.recipe import Recipe
from cogvx.training.run_folder import list_bad
from cogvx.training.stages import StageData, open_held_out, open_stages, opener
from cogvx.training.start import StartingModel, find_model
from cogvx.training.validation import HeldOut

_BATCH = 32  # held-out clips at a time


def clip_text_config(recipe: Recipe, vae: VAEConfig, words: Sequence[str]) -> CaptionerConfig | DualEncoderConfig:
    """Return the sizes of the network that a recipe of kind "captioner" or "dual-encoder" trains.

    Args:
        recipe: The run.
        vae: The VAE whose latents it sees.
        words: Its vocabulary.

    Raises:
        UsageError: Sizes of the recipe do not go together.
    """
    options = recipe.captioner if recipe.kind == "captioner" else recipe.dual_encoder
    stage = recipe.stages[-1]
    shared: dict[str, Any] = {
        "latent_channels": vae.latent_channels,
        "grid": options.grid,
        "convolutions": options.convolutions,
        "coarse": options.coarse,
        "hidden_size": options.hidden_size,
        "embed_size": options.embed_size,
        "dropout": options.dropout,
        "words": tuple(words),
        "sizes": stage.sizes,
        "num_frames": stage.max_frames,
        "fps": (stage.fps or (recipe.data.fps,))[0],
    }
    try:
        if recipe.kind == "captioner":
            return CaptionerConfig(**shared, joined_states=recipe.captioner.joined_states)
        return DualEncoderConfig(**shared, output_size=recipe.dual_encoder.output_size)
    except ValueError as error:
        raise UsageError(f"the recipe's {recipe.kind}: {error}") from error


def placeholders(recipe: Recipe) -> list[str]:
    """Return as many words as a recipe's network may get, for plans that are made before captions are read."""
    options = recipe.captioner if recipe.kind == "captioner" else recipe.dual_encoder
    return [f"word{i}" for i in range(options.max_words)]


@dataclass(frozen=True, eq=False)
class Example:
    """A clip with its caption.

    Attributes:
        latents: (c t h w), times the scaling factor, on the device.
        caption: With at least one word.
        place: Where it stands in the run; None for one that is held out.
    """

    latents: Tensor
    caption: str
    place: Place | None = None


def same_shapes(examples: Iterable[Example], *, limit: int | None = None) -> Iterator[list[Example]]:
    """Yield the examples in groups whose latents have one shape, in a fixed order; at most limit in each."""
    ordered = sorted(examples, key=lambda example: tuple(example.latents.shape))
    for _, group in groupby(ordered, key=lambda example: example.latents.shape):
        found = list(group)
        size = limit or len(found)
        yield from (found[i : i + size] for i in range(0, len(found), size))


@dataclass(frozen=True)
class Opened:
    """What a run starts from.

    Attributes:
        model: Where the VAE comes from.
        stages: The clips of each stage.
        held_out: Clips of the validation.
        vocabulary: Words of the training's captions.
        data_sha256: Hash of the manifests.
    """

    model: StartingModel
    stages: Sequence[StageData]
    held_out: Sequence[tuple[StageData, Item]]
    vocabulary: Vocabulary
    data_sha256: str


def open_clip_text(recipe: Recipe, folder: Path, *, world: World, announce: Callable[[str], None]) -> Opened:
    """Open what a recipe of kind "captioner" or "dual-encoder" names, its data first.

    Args:
        recipe: The run.
        folder: The run folder; entries that cannot be used are listed in its `bad.jsonl`.
        world: The ranks.
        announce: Called with what a user should know.

    Raises:
        CogvxError: Something in the recipe does not go together, or cannot be read.
    """
    model = find_model(recipe, announce=announce)
    cache = None
    if recipe.data.cache:
        dtype = arithmetic_dtype(recipe, world.device)
        known = {"vae": model.folders["vae"]} if "vae" in model.folders else {}
        vae = {part: open_cache(Path(recipe.data.cache), one, dtype=dtype).vae for part, one in known.items()}
        cache = EncodedCache(Path(recipe.data.cache), vae.get("vae", ""), "")
    opened = opener(recipe, cache=cache, with_image=False, on_bad=partial(list_bad, folder))
    stages = open_stages(recipe, opened, vae=model.vae_config, transformer=None)
    held_out = open_held_out(recipe, opened, vae=model.vae_config, transformer=None)
    if recipe.run.validate_every and not held_out:
        announce('no held-out numbers: data.validation is empty, and no entry of data.train has the split "validation"')
    options = recipe.captioner if recipe.kind == "captioner" else recipe.dual_encoder
    captions = (caption for stage in stages for caption in stage.captions())
    vocabulary = Vocabulary.of(captions, max_words=options.max_words)
    if not vocabulary.words:
        names = ", ".join(recipe.data.captions)
        raise InputError(f"no clip to train on has a caption with words under {names} (data.captions)")
    manifests = [sha256_file(Path(path)) for path in (*recipe.data.train, *recipe.data.validation)]
    digest = hashlib.sha256(" ".join(manifests).encode()).hexdigest()
    return Opened(model, stages, held_out, vocabulary, digest)


class ClipTextTask:
    """What the trainings of the captioner and of the dual encoder have in common (see Task).

    The networks compute in float32 whatever run.dtype says: they are small. It is the precision in which the VAE
    encodes clips that were not encoded ahead.

    Attributes:
        parts: The network, under the name of its folder.
        identity: What a run must not change when it goes on.
        fixed: What it cannot change: the words, in their order.
    """

    fixed = ("words",)

    def __init__(self, recipe: Recipe, opened: Opened, network: nn.Module, *, name: str, world: World) -> None:
        """Take a network that was made already.

        Raises:
            UsageError: The recipe asks for what does not go together.
        """
        if recipe.run.context > 1:
            raise UsageError(f"a {recipe.kind} sees whole clips: run.context must be 1")
        self.recipe, self.world, self.model = recipe, world, opened.model
        self.parts = nn.ModuleDict({name: network.to(world.device).train()})
        words = hashlib.sha256(" ".join(opened.vocabulary.words).encode()).hexdigest()
        self.identity = {"data": opened.data_sha256, "words": words}
        self._packs = Packs(recipe, opened.stages, world)
        self.encoder = Encoder(
            lambda: opened.model.vae(world.device),
            vae_config=opened.model.vae_config,
            transformer=None,
            options=recipe.diffusion,
            device=world.device,
            dtype=arithmetic_dtype(recipe, world.device),
        )
        self._held_out = HeldOut(opened.held_out, self.encoder, with_image=False)

    def optimizers(self) -> list[Optimizer]:
        """Return the optimizers of the network."""
        return optimizers_of(self.parts, self.recipe.optim, {})

    def num_micro_batches(self, step: int) -> int:
        """Return how many packs this data rank has in a step."""
        return self._packs.num_micro_batches(step)

    def examples(self, step: int, micro: int) -> list[Example]:
        """Return the clips of a pack that can be read and have a caption with words."""
        found = []
        items, samples = self._packs.items(step, micro), self._packs.samples(step, micro)
        for (_, place), sample in zip(items, samples, strict=True):
            if sample is not None and clean_words(sample.caption):
                found.append(Example(self.encoder.latents(sample, place), sample.caption, place))
        return found

    def share(self, step: int) -> float:
        """Return what one clip counts in the mean of a step."""
        return 1 / self._packs.num_clips(step)

    def nothing(self) -> Tensor:
        """Return a loss of zero that still has a way back, for a pack that holds nothing."""
        return torch.stack([weight.sum() for weight in self.parts.parameters()]).sum() * 0

    def held_out(self, clips: Iterable[int]) -> Iterator[list[Example]]:
        """Yield held-out clips by their numbers, in groups of one shape; those without a caption are left out."""
        texts = ((clip, self._held_out.sample(clip).caption) for clip in clips)
        named = [(clip, text) for clip, text in texts if clean_words(text)]
        device = self.world.device
        examples = (Example(self._held_out.latents(clip).to(device), text) for clip, text in named)
        yield from same_shapes(examples, limit=_BATCH)

    @property
    def num_held_out(self) -> int:
        """How many clips are held out."""
        return len(self._held_out)

    def full_precision(self) -> torch.autocast:
        """Return a context in which the network computes in float32, whatever the engine's says."""
        return torch.autocast(self.world.device.type, enabled=False)


def dropout_sources(recipe: Recipe, examples: Sequence[Example]) -> list[torch.Generator]:
    """Return the source of each example's dropout: of its place in the run, so that a resumed run draws the same."""
    return [
        (example.place or Place(recipe.seed, 0, number)).source("feature dropout")
        for number, example in enumerate(examples)
    ]


def stacked(examples: Sequence[Example]) -> Tensor:
    """Return the latents (b c t h w) of examples of one shape."""
    return torch.stack([example.latents for example in examples])
