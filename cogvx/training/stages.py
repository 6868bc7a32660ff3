"""The clips of one stage of a run: which there are in an epoch, and how long each is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cogvx.checkpoints.model_folder import ModelFolder
from cogvx.data.buckets import Shape
from cogvx.data.cache import EncodedCache
from cogvx.data.dataset import ClipDataset, Sample
from cogvx.data.manifest import Entry
from cogvx.data.selection import Selection
from cogvx.errors import CogvxError, InputError
from cogvx.generate.options import dtype_name
from cogvx.models.transformer import TransformerConfig
from cogvx.models.vae import VAEConfig
from cogvx.training.draws import source
from cogvx.training.encoders import open_cache
from cogvx.training.examples import Place
from cogvx.training.order import Item, PackOrder
from cogvx.training.recipe import Recipe

OnBad = Callable[[str, CogvxError], None]
_HELD_OUT = ("validation", "test")
_LOOKED_AT = 32  # clips of a stage: each costs the hash of its file


class StageData:
    """The clips of one stage."""

    def __init__(
        self,
        clips: Sequence[ClipDataset],
        images: ClipDataset | None,
        *,
        recipe: Recipe,
        stage: int,
        vae: VAEConfig,
        transformer: TransformerConfig | None,
    ) -> None:
        """Take sets of the same entries.

        Args:
            clips: The entries as clips, once for each rate (frames a second).
            images: The entries as images, if some are taken so.
            recipe: The run.
            stage: Number of the stage.
            vae: Sizes of the VAE, which make tokens of pixels.
            transformer: Sizes of the transformer; None: every clip counts as one, and a pack has a number of them.

        Raises:
            InputError: The sets differ in what they could use.
        """
        self._sources = [*clips, *([images] if images is not None else [])]
        self._num_rates = len(clips)
        if len({len(one) for one in self._sources}) > 1:
            raise InputError(
                "some entries can be used at one rate, or as images, and not at another; take them out of the manifest"
            )
        self._recipe, self._stage = recipe, stage
        self._vae, self._transformer = vae, transformer
        options = recipe.stages[stage]
        budget = options.tokens if transformer is not None else options.batch_size // options.packs
        self.order = PackOrder(self.items, budget=budget, packs=options.packs, seed=recipe.seed, stage=stage)

    def items(self, epoch: int) -> list[tuple[Item, int]]:
        """Return every entry once, with its tokens: some as images, the others as clips of a rate drawn for them."""
        count = len(self._sources[0])
        images = set()
        if len(self._sources) > self._num_rates:
            order = torch.randperm(count, generator=source(self._recipe.seed, "images", self._stage, epoch)).tolist()
            images = set(order[: round(self._recipe.stages[self._stage].images * count)])
        rates = torch.randint(
            self._num_rates, (count,), generator=source(self._recipe.seed, "rates", self._stage, epoch)
        ).tolist()
        items = [Item(self._num_rates if i in images else rates[i], i) for i in range(count)]
        return [(item, self.num_tokens(item)) for item in items]

    def num_tokens(self, item: Item) -> int:
        """Return the tokens of an item, those of its text included; without a transformer an item counts as one."""
        config = self._transformer
        if config is None:
            return 1
        return config.max_text_length + self._shape(item).num_tokens(
            temporal_ratio=self._vae.temporal_compression_ratio,
            spatial_ratio=self._vae.spatial_ratio,
            patch_size=config.patch_size,
            temporal_patch_size=config.temporal_patch_size or 1,
        )

    def latent_shape(self, item: Item) -> tuple[int, int, int, int]:
        """Return the shape (c t h w) of an item's latents, before it is read and without a frame put in front."""
        shape, ratio = self._shape(item), self._vae.spatial_ratio
        frames = (shape.num_frames - 1) // self._vae.temporal_compression_ratio + 1
        return self._vae.latent_channels, frames, shape.height // ratio, shape.width // ratio

    def read(self, item: Item, place: Place | None) -> Sample | None:
        """Read a clip, None if it cannot be read; its place in the run chooses among its captions."""
        data = self._sources[item.source]
        if place is None:
            return data.read(item.index)
        captions, images = place.number("caption"), place.number("image")
        return data.read(item.index, caption_choice=captions, image_choice=images)

    def captions(self) -> Iterator[str]:
        """Yield every caption that a clip of this stage can have."""
        data = self._sources[0]
        for index in range(len(data)):
            yield from data.captions(index)

    def count_encoded(self, most: int) -> tuple[int, int]:
        """Return how many of up to `most` clips, evenly spread, have latents now, and how many were looked at."""
        indices = evenly(len(self._sources[0]), most)
        found = sum(data.is_encoded(index) for data in self._sources for index in indices)
        return found, len(indices) * len(self._sources)

    def text(self, prompt: str) -> Tensor | None:
        """Return the embeddings (l d) of a prompt, if they were made ahead."""
        return self._sources[0].text(prompt)

    def _shape(self, item: Item) -> Shape:
        return self._sources[item.source].shape(item.index)


Tell = Callable[[str], None]
Open = Callable[[Selection, bool], ClipDataset]  # which entries, and whether the held-out ones


def open_stages(
    recipe: Recipe, opened: Open, *, vae: VAEConfig, transformer: TransformerConfig | None
) -> list[StageData]:
    """Return the clips of every stage of a recipe.

    Raises:
        InputError: A manifest is missing or damaged.
    """
    stages = []
    for number, stage in enumerate(recipe.stages):
        rates = stage.fps or (recipe.data.fps,)
        clips = [opened(stage_selection(recipe, number, max_frames=stage.max_frames, fps=fps), False) for fps in rates]
        images = None
        if stage.images > 0:
            images = opened(stage_selection(recipe, number, max_frames=1, fps=rates[0]), False)
        stages.append(StageData(clips, images, recipe=recipe, stage=number, vae=vae, transformer=transformer))
    return stages


def open_held_out(
    recipe: Recipe, opened: Open, *, vae: VAEConfig, transformer: TransformerConfig | None
) -> list[tuple[StageData, Item]]:
    """Return the held-out clips, evenly spread over those that there are, at the sizes of the last stage.

    One size for the whole run: the curve would jump from stage to stage otherwise.
    """
    last = len(recipe.stages) - 1
    stage = recipe.stages[last]
    rate = (stage.fps or (recipe.data.fps,))[0]
    clips = opened(stage_selection(recipe, last, max_frames=stage.max_frames, fps=rate, every_score=True), True)
    data = StageData([clips], None, recipe=recipe, stage=last, vae=vae, transformer=transformer)
    return [(data, Item(0, index)) for index in evenly(len(clips), recipe.validation.clips)]


def opener(recipe: Recipe, *, cache: EncodedCache | None, with_image: bool, on_bad: OnBad | None = None) -> Open:
    """Return what opens a recipe's manifests."""
    options = recipe.data

    def is_held_out(entry: Entry) -> bool:
        return entry.get("split") in _HELD_OUT

    def opened(selection: Selection, held_out: bool) -> ClipDataset:
        keep = None
        if not options.validation:
            keep = is_held_out if held_out else lambda entry: not is_held_out(entry)
        return ClipDataset(
            list(options.validation if held_out and options.validation else options.train),
            selection,
            captions=options.captions,
            root=options.root or None,
            cache=cache,
            first_frame=with_image,
            max_bad=options.max_bad,
            on_bad=on_bad,
            keep=keep,
        )

    return opened


def open_encoded(recipe: Recipe, folders: Mapping[str, ModelFolder], *, dtype: torch.dtype) -> EncodedCache | None:
    """Return what `data encode` has made with the models and in the precision of a run; None without a cache.

    Args:
        recipe: The run.
        folders: Part -> the model that it is read from; a part that is made from nothing has encoded nothing.
        dtype: Of the arithmetic.
    """
    if not recipe.data.cache:
        return None
    made = {
        part: open_cache(Path(recipe.data.cache), folders[part], dtype=dtype)
        for part in ("vae", "text_encoder")
        if part in folders
    }
    vae = made["vae"].vae if "vae" in made else ""
    text_encoder = made["text_encoder"].text_encoder if "text_encoder" in made else ""
    return EncodedCache(Path(recipe.data.cache), vae, text_encoder)


def tell_missing(recipe: Recipe, stages: Sequence[StageData], *, dtype: torch.dtype, tell: Tell) -> None:
    """Say for each stage if the run encodes clips itself although it names a cache.

    A cache of other weights, sizes or precision holds nothing for a run, which is slower then and otherwise the same.

    Args:
        recipe: The run.
        stages: The clips of its stages.
        dtype: Of the arithmetic.
        tell: Called with a sentence.
    """
    if not recipe.data.cache:
        return
    for options, data in zip(recipe.stages, stages, strict=True):
        found, looked = data.count_encoded(_LOOKED_AT)
        if found < looked:
            tell(
                f"stage {options.name!r}: {looked - found} of {looked} clips looked at are not in data.cache as these "
                f"weights give them in {dtype_name(dtype)} at this size, length and rate; they are encoded on the way "
                "(`cogvx data encode` makes them ahead: -m, --dtype, --sizes, --max-frames, --fps)"
            )


def evenly(count: int, wanted: int) -> list[int]:
    """Return up to `wanted` of the numbers 0...count-1, evenly spread."""
    wanted = min(count, wanted)
    return [i * count // wanted for i in range(wanted)]


def stage_selection(
    recipe: Recipe, number: int, *, max_frames: int, fps: float, every_score: bool = False
) -> Selection:
    """Return which entries a stage is trained on, at which shapes; with every_score whatever their scores are."""
    stage = recipe.stages[number]
    scores, where = stage.min_scores or recipe.data.min_scores, stage.where or recipe.data.where
    return Selection(
        sizes=stage.sizes,
        max_frames=max_frames,
        fps=fps,
        min_scores={} if every_score else scores,
        where="" if every_score else where,
        rejected=recipe.data.rejected,
    )
