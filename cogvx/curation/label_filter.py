"""Labels by a trained filter: scores of a clip and features of its frames -> the probability of each label."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from cogvx.checkpoints.clip_features import ClipFeatures, no_features
from cogvx.checkpoints.clip_filter import filter_sha256, load_filter
from cogvx.checkpoints.frame_networks import open_frame_network
from cogvx.curation.label_lm import is_labelled, with_labels
from cogvx.data.manifest import Entry
from cogvx.data.stages.stage import Item
from cogvx.errors import InputError
from cogvx.models.clip_filter import ClipFilter, ClipFilterConfig

VERSION = 1


@dataclass
class FilterLabels:
    """The stage `label` with a filter that `cogvx train filter` made.

    Attributes:
        folder: The filter, or the run folder of its training.
        cache: Folder where features of frames are kept; None: nowhere.
        device: Where the network for frames computes.
        labels: Labels to give; empty: all that the filter knows.
        name: Of the stage.
    """

    folder: Path
    cache: Path | None = None
    device: str = "cpu"
    labels: tuple[str, ...] = ()
    name: str = "label"
    _filter: ClipFilter | None = field(default=None, repr=False)
    _maker: ClipFeatures | None = field(default=None, repr=False)

    def columns(self) -> tuple[str, ...]:
        """Return the names of all that the stage adds."""
        labels = [f"labels.{label}" for label in self._given]
        return (*labels, *(f"made.{label}" for label in labels))

    def settings(self) -> dict[str, Any]:
        """Return what decides the labels."""
        return self._settings

    def wanted(self, entry: Entry) -> bool:
        """Whether an entry lacks a label that was made by this filter."""
        return not is_labelled(entry, self._given, self._settings)

    def open(self) -> None:
        """Load the filter and the network for frames.

        Raises:
            InputError: The filter is damaged, or was trained with another network for frames than is here.
            MissingError: The network is not here.
        """
        self._filter = load_filter(self.folder)
        if self._filter.config.feature_size:
            how = self._filter.config.frames
            network = open_frame_network(how["network"], device=self.device)
            if network.sha256 != how["sha256"]:
                raise InputError(f"{self.folder}: trained with other weights of {network.name} than those here")
            self._maker = ClipFeatures(network, how["num_frames"], self.cache)

    def process(self, item: Item) -> list[Entry]:
        """Return the entry with its labels.

        Raises:
            InputError: The clip cannot be read, or lacks a score that the filter needs.
        """
        if self._filter is None:
            self.open()
        assert self._filter is not None
        scores = scores_of(item.entry, self._filter.config)
        features = no_features()
        if self._maker is not None:
            if item.path is None:
                raise InputError(f"{item.place}: an entry names neither 'video' nor 'image'")
            features = self._maker.of(item.path, start=item.entry.get("start"), end=item.entry.get("end"))
        chances = self._filter(scores[None], features[None])[0].tolist()
        found = dict(zip(self._filter.config.labels, chances, strict=True))
        return [with_labels(item.entry, {label: found[label] for label in self._given}, self._settings)]

    def close(self) -> None:
        """Let go of the networks."""
        self._filter = self._maker = None

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return {"version": VERSION, "labeller": "filter", "sha256": filter_sha256(self.folder)}

    @cached_property
    def _given(self) -> tuple[str, ...]:
        """Return the labels that are given.

        Raises:
            InputError: The filter does not know one that was asked for.
        """
        known = load_filter(self.folder).config.labels
        unknown = [label for label in self.labels if label not in known]
        if unknown:
            raise InputError(
                f"{self.folder}: the filter does not know the label {unknown[0]}; it has {', '.join(known)}"
            )
        return tuple(label for label in known if not self.labels or label in self.labels)


def scores_of(entry: Entry, config: ClipFilterConfig) -> torch.Tensor:
    """Return the scores of an entry that a filter takes, (s,); NaN where a clip may lack one.

    Raises:
        InputError: It lacks a score that all clips of the filter's training had, or one was made in another way.
    """
    scores, made = entry.get("scores", {}), entry.get("made", {})
    made = made if isinstance(made, dict) else {}
    # A score that was looked for and does not exist (motion, of a still) is known to be missing.
    missing = [name for name in config.scores if name not in scores and name not in config.gaps and name not in made]
    if missing or (config.scores and not any(name in scores for name in config.scores)):
        few = ", ".join(missing[:4] or config.scores[:4])
        raise InputError(f"the filter needs scores that the entry has not ({few}): run `cogvx data score` first")
    for name in config.scores:
        if name in scores and config.made.get(name) != made.get(name):
            raise InputError(
                f"the score {name} was made in another way than for the filter's training: "
                "run `cogvx data score` with the same settings"
            )
    return torch.tensor([float(scores.get(name, float("nan"))) for name in config.scores])
