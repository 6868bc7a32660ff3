"""Training of the captioner: the next word of each clip's caption."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from cogvx.checkpoints.clip_text import CAPTIONER, write_clip_text
from cogvx.distributed import World, all_sum
from cogvx.files import write_text
from cogvx.models.caption_search import greedy_captions
from cogvx.models.captioner import Captioner, CaptionerConfig
from cogvx.models.latent_frames import temporal_consistency
from cogvx.models.words import PAD, clean_words
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
from cogvx.training.validation import shares

NUM_PREVIEWS = 16


@dataclass(frozen=True)
class _Errors:
    """Numbers (b,) of some clips.

    Attributes:
        cross_entropy: Mean over a caption's words, its end included, in nats.
        right: Share of them that the captioner puts first.
        counts: How many there are.
        temporal: Temporal consistency of the clip's features.
    """

    cross_entropy: Tensor
    right: Tensor
    counts: Tensor
    temporal: Tensor


class CaptionerTask(ClipTextTask):
    """Training of a captioner (see Task and ClipTextTask)."""

    def __init__(self, recipe: Recipe, opened: Opened, *, world: World) -> None:
        """Make the captioner from nothing.

        Raises:
            UsageError: The recipe asks for what does not go together.
        """
        config = clip_text_config(recipe, opened.model.vae_config, opened.vocabulary.words)
        assert isinstance(config, CaptionerConfig)
        with seeded(recipe.seed, CAPTIONER):
            self.captioner = Captioner(config)
        super().__init__(recipe, opened, self.captioner, name=CAPTIONER, world=world)

    def loss(self, step: int, micro: int) -> Loss:
        """Return the cross entropy of one pack's words, a mean over the words of each clip, then over clips."""
        share, tokens, clips = self.share(step), 0, 0
        value = self.nothing()
        sums = {"cross_entropy": 0.0, "temporal": 0.0, "word_accuracy": 0.0}
        examples = self.examples(step, micro)
        with self.full_precision():
            for group in same_shapes(examples):
                found = self._errors(group, train=True)
                losses = found.cross_entropy + self.recipe.captioner.temporal * found.temporal
                value = value + share * losses.sum()
                sums["cross_entropy"] += share * float(found.cross_entropy.detach().sum())
                sums["temporal"] += share * float(found.temporal.detach().sum())
                sums["word_accuracy"] += share * float(found.right.sum())
                tokens, clips = tokens + int(found.counts.sum()), clips + len(group)
        if not self.recipe.captioner.temporal:  # the loss is the cross entropy then
            del sums["temporal"], sums["cross_entropy"]
        return Loss(value=value, metrics={"loss": float(value.detach()), **sums}, tokens=tokens, clips=clips)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return numbers of held-out clips.

        "val_loss": cross entropy a word, in nats, the caption's own words in front of each; "val_word_accuracy": share
        of the words, ends included, that come first then; "val_exact_match": share of clips whose greedy caption is the
        reference, word for word.
        """
        sums = torch.zeros(5, dtype=torch.float64, device=self.world.device)
        own = [clip for clip, counts in shares(self.num_held_out, self.world) if counts] if self.num_held_out else []
        with self.full_precision():
            for group in self.held_out(own):
                errors = self._errors(group, train=False)
                captions = greedy_captions(self.captioner, stacked(group))
                exact = [
                    one.text.split() == clean_words(example.caption)
                    for one, example in zip(captions, group, strict=True)
                ]
                counts = errors.counts.double()
                sums[0] += (errors.cross_entropy * counts).sum()
                sums[1] += (errors.right * counts).sum()
                sums[2] += counts.sum()
                sums[3] += sum(exact)
                sums[4] += len(group)
        nats, right, num_words, num_exact, num_clips = all_sum(sums, world=self.world).tolist()
        if not num_clips:
            return {}
        return {
            "val_loss": nats / num_words,
            "val_word_accuracy": right / num_words,
            "val_exact_match": num_exact / num_clips,
        }

    @torch.no_grad()
    def preview(self, folder: Path) -> None:
        """Write the captions of a few held-out clips beside what they should be, `captions.jsonl`."""
        lines = []
        with self.full_precision():
            for group in self.held_out(range(min(NUM_PREVIEWS, self.num_held_out))):
                found = greedy_captions(self.captioner, stacked(group))
                for one, example in zip(found, group, strict=True):
                    record = {"caption": one.text, "reference": " ".join(clean_words(example.caption))}
                    lines.append(json.dumps(record, ensure_ascii=False))
        if self.world.rank == 0:
            write_text(folder / "captions.jsonl", "".join(f"{line}\n" for line in lines))

    def export(self, folder: Path) -> None:
        """Write the captioner and the VAE that it was trained with, so that the folder captions clips."""
        write_clip_text(self.captioner, folder)
        write_vae(folder / "vae", self.model)

    def _errors(self, group: list[Example], *, train: bool) -> _Errors:
        """Return the errors of clips of one shape, with dropout in training."""
        device = self.world.device
        tokens = self.captioner.vocabulary.batch([example.caption for example in group], marks=True).to(device)
        clips = self.captioner.encode(stacked(group), dropout_sources(self.recipe, group) if train else None)
        scores, targets = self.captioner(clips, tokens[:, :-1]), tokens[:, 1:]
        nats = F.cross_entropy(rearrange(scores, "b l v -> b v l"), targets, ignore_index=PAD, reduction="none")
        counts = (targets != PAD).sum(dim=1)
        right = ((scores.argmax(dim=2) == targets) & (targets != PAD)).sum(dim=1) / counts
        return _Errors(nats.sum(dim=1) / counts, right, counts, temporal_consistency(clips.features))


def make_task(
    recipe: Recipe, folder: Path, *, world: World, announce: Callable[[str], None] | None = None
) -> CaptionerTask:
    """Open what a recipe of kind "captioner" names.

    Args:
        recipe: The run.
        folder: The run folder; entries that cannot be used are listed in its `bad.jsonl`.
        world: The ranks.
        announce: Called with what a user should know.

    Raises:
        CogvxError: Something in the recipe does not go together, or cannot be read.
    """
    opened = open_clip_text(recipe, folder, world=world, announce=announce or (lambda text: None))
    return CaptionerTask(recipe, opened, world=world)
