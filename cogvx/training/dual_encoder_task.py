"""Training of the dual encoder: which caption of a pack belongs to which clip."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cogvx.checkpoints.clip_text import DUAL_ENCODER, write_clip_text
from cogvx.distributed import World
from cogvx.files import write_text
from cogvx.models.dual_encoder import DualEncoder, DualEncoderConfig, contrastive_losses
from cogvx.models.words import clean_words
from cogvx.training.clip_text import (
    ClipTextTask,
    Example,
    Opened,
    clip_text_config,
    dropout_sources,
    open_clip_text,
    same_shapes,
    stacked,
)
from cogvx.training.draws import seeded
from cogvx.training.export import write_vae
from cogvx.training.recipe import Recipe
from cogvx.training.task import Loss


class DualEncoderTask(ClipTextTask):
    """Training of a dual encoder (see Task and ClipTextTask).

    The clips and captions of one pack are told from each other; clips of one pack with the same words are not.
    """

    def __init__(self, recipe: Recipe, opened: Opened, *, world: World) -> None:
        """Make the dual encoder from nothing.

        Raises:
            UsageError: The recipe asks for what does not go together.
        """
        config = clip_text_config(recipe, opened.model.vae_config, opened.vocabulary.words)
        assert isinstance(config, DualEncoderConfig)
        with seeded(recipe.seed, DUAL_ENCODER):
            self.network = DualEncoder(config)
        super().__init__(recipe, opened, self.network, name=DUAL_ENCODER, world=world)

    def loss(self, step: int, micro: int) -> Loss:
        """Return the contrastive loss of one pack, as its share of the mean over the step's clips."""
        value, share = self.nothing(), self.share(step)
        groups = list(same_shapes(self.examples(step, micro)))
        metrics = {"rank1": 0.0, "temperature": 1 / self.num_micro_batches(step) / self.world.size}
        with self.full_precision():
            if groups:
                clips, texts, same = self._encoded(groups, train=True)
                losses = contrastive_losses(clips, texts, self.network.scale, same=same)
                value = value + share * losses.sum()
                metrics["rank1"] = share * len(losses) * _rank1(clips @ texts.T, same)
            metrics["temperature"] /= float(self.network.scale.detach())
        count = sum(map(len, groups))
        words = sum(len(clean_words(example.caption)) for group in groups for example in group)
        return Loss(value=value, metrics={"loss": float(value.detach()), **metrics}, tokens=words, clips=count)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return numbers of the held-out clips, all against all.

        "val_loss": the contrastive loss, in nats; "val_text_rank1": share of clips whose nearest caption is theirs;
        "val_clip_rank1": share of captions whose nearest clip is theirs. By chance: one over the number of clips.
        """
        groups = list(self.held_out(range(self.num_held_out)))
        if not groups:
            return {}
        with self.full_precision():
            clips, texts, same = self._encoded(groups, train=False)
            losses = contrastive_losses(clips, texts, self.network.scale, same=same)
        near = clips @ texts.T
        return {
            "val_loss": float(losses.mean()),
            "val_text_rank1": _rank1(near, same),
            "val_clip_rank1": _rank1(near.T, same),
        }

    @torch.no_grad()
    def preview(self, folder: Path) -> None:
        """Write for each held-out clip the caption that is nearest, `retrieval.jsonl`."""
        groups = list(self.held_out(range(self.num_held_out)))
        captions = [example.caption for group in groups for example in group]
        lines = []
        if groups:
            with self.full_precision():
                clips, texts, _ = self._encoded(groups, train=False)
            for caption, place in zip(captions, (clips @ texts.T).argmax(dim=1).tolist(), strict=True):
                lines.append(json.dumps({"caption": caption, "nearest": captions[place]}, ensure_ascii=False))
        if self.world.rank == 0:
            write_text(folder / "retrieval.jsonl", "".join(f"{line}\n" for line in lines))

    def export(self, folder: Path) -> None:
        """Write the dual encoder and the VAE that it was trained with."""
        write_clip_text(self.network, folder)
        write_vae(folder / "vae", self.model)

    def _encoded(self, groups: Sequence[list[Example]], *, train: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return the vectors of clips (b d) and captions (b d), and which have the same words (b b)."""
        sources = [dropout_sources(self.recipe, group) if train else None for group in groups]
        clips = [self.network.encode_clips(stacked(group), one) for group, one in zip(groups, sources, strict=True)]
        captions = [example.caption for group in groups for example in group]
        words = [clean_words(caption) for caption in captions]
        same = torch.tensor([[one == other for other in words] for one in words], device=self.world.device)
        return torch.cat(clips), self.network.encode_captions(captions), same


def _rank1(near: Tensor, same: Tensor) -> float:
    """Return the share of rows whose nearest column is theirs, or one with the same words."""
    return float(same.gather(1, near.argmax(dim=1, keepdim=True)).float().mean())


def make_task(
    recipe: Recipe, folder: Path, *, world: World, announce: Callable[[str], None] | None = None
) -> DualEncoderTask:
    """Open what a recipe of kind "dual-encoder" names.

    Args:
        recipe: The run.
        folder: The run folder; entries that cannot be used are listed in its `bad.jsonl`.
        world: The ranks.
        announce: Called with what a user should know.

    Raises:
        CogvxError: Something in the recipe does not go together, or cannot be read.
    """
    opened = open_clip_text(recipe, folder, world=world, announce=announce or (lambda text: None))
    return DualEncoderTask(recipe, opened, world=world)
