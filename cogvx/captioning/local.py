"""The small captioner that lies in a model's folder, with the VAE that it was trained with."""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from cogvx.checkpoints.clip_text import CAPTIONER, has_captioner, load_captioner
from cogvx.checkpoints.diffusers import open_model
from cogvx.checkpoints.hashes import combined
from cogvx.checkpoints.weights import weight_files
from cogvx.data.clips import read_fitting
from cogvx.data.latents import load_latents
from cogvx.data.video import to_video
from cogvx.errors import InputError, MissingError, UsageError
from cogvx.files import clean
from cogvx.generate.codec import Codec
from cogvx.generate.options import Runtime
from cogvx.models.caption_search import FoundCaption, beam_captions
from cogvx.models.captioner import Captioner
from cogvx.presets import PRESETS, ResolvedModel, resolve

Source = Path | str | bytes


@dataclass(frozen=True)
class LocalCaptioner:
    """A captioner and its VAE, ready to caption clips one by one.

    Attributes:
        name: What the model is called.
        captioner: The network.
        codec: The VAE.
    """

    name: str
    captioner: Captioner
    codec: Codec

    def caption(
        self, source: Source, *, start: float | None = None, end: float | None = None, num_beams: int = 1
    ) -> FoundCaption:
        """Return the caption of a clip, read at the rate, size and length of the captioner's training.

        Args:
            source: A path, or the bytes of a file; an image is a clip of one frame.
            start: Seconds; frames before it are not used.
            end: Seconds; frames from there on are not used.
            num_beams: Prefixes that the search follows; 1: greedy.

        Raises:
            InputError: The clip cannot be read, or has nothing in the span.
            UsageError: The span is impossible.
        """
        config = self.captioner.config
        frames = read_fitting(
            source, sizes=config.sizes, max_frames=config.num_frames, fps=config.fps, start=start, end=end
        )
        return self._found(self.codec.encode(to_video(frames)), num_beams)

    def caption_latents(self, path: Path, *, num_beams: int = 1) -> FoundCaption:
        """Return the caption of a latents file; see caption.

        Raises:
            InputError: It cannot be read, or another kind of VAE made it.
        """
        latents, _ = load_latents(path)
        wanted = self.captioner.config.latent_channels
        if latents.shape[0] != wanted:
            raise InputError(f"{_name(path)}: latents of {latents.shape[0]} channels; {self.name} has {wanted}")
        return self._found(latents.float(), num_beams)

    def _found(self, latents: Tensor, num_beams: int) -> FoundCaption:
        batch = latents[None].to(self.codec.runtime.device)
        return beam_captions(self.captioner, batch, num_beams=num_beams)[0]


def find_captioner(model: str) -> ResolvedModel:
    """Find the model that captions clips; nothing is downloaded.

    Args:
        model: The name of an embedded model, or a folder with `captioner/`.

    Raises:
        UsageError: An official model, which has no captioner, or no model is called so.
        InputError: The folder has no captioner.
        MissingError: The embedded model of this build has none.
    """
    known = PRESETS.get(model.lower())
    if not Path(model).expanduser().is_dir() and (known.repo is not None if known is not None else "/" in model):
        raise UsageError(f"{model} has no captioner; name a folder that has one, such as the model/ of a training run")
    resolved = resolve(model)
    if has_captioner(resolved.path):
        return resolved
    advice = "name a folder that has one with --model; `cogvx train captioner` makes it"
    if resolved.preset is not None:
        raise MissingError(f"the embedded model {resolved.name} of this build of cogvx has no captioner; {advice}")
    raise InputError(f"{clean(str(resolved.path))}: no captioner in this model; {advice}")


def open_captioner(resolved: ResolvedModel, *, device: torch.device) -> LocalCaptioner:
    """Load a model's captioner, and open its VAE, which is read with the first clip; both compute in float32.

    Args:
        resolved: A model that has a captioner.
        device: Where they compute.

    Raises:
        InputError: Their files are damaged, or they do not fit each other.
    """
    folder = open_model(resolved.path, shared=dict(resolved.shared))
    captioner = load_captioner(resolved.path, device=device)
    config = folder.vae_config
    if config.latent_channels != captioner.config.latent_channels:
        raise InputError(
            f"{clean(str(resolved.path))}: the captioner takes latents of {captioner.config.latent_channels} channels, "
            f"the VAE makes {config.latent_channels}"
        )
    vae = cache(partial(folder.load_vae, device=device))
    codec = Codec(vae, config, Runtime(device=device, dtype=torch.float32))
    return LocalCaptioner(resolved.name, captioner, codec)


def captioner_sha256(resolved: ResolvedModel) -> str:
    """Return one hash of the weights that decide a model's captions: those of its captioner and of its VAE.

    Raises:
        InputError: The model has no VAE, or a file cannot be read.
    """
    folder = open_model(resolved.path, shared=dict(resolved.shared))
    if "vae" not in folder.components:
        raise InputError(f"{clean(str(resolved.path))}: no VAE beside the captioner")
    return combined([*weight_files(resolved.path / CAPTIONER), *weight_files(folder.components["vae"])])


def _name(source: Source) -> str:
    return "standard input" if isinstance(source, bytes) or str(source) == "-" else clean(str(source))
