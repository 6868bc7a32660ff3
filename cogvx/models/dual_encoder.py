"""A small pair of encoders, of clips and of captions, into one space: the embedded network of `eval clip` and `fvd`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cogvx.models.latent_frames import ClipTextConfig, LatentFrames
from cogvx.models.words import PAD
from cogvx.shapes import expect

_LARGEST_SCALE = 100.0


@dataclass(frozen=True, kw_only=True)
class DualEncoderConfig(ClipTextConfig):
    """Sizes of the dual encoder (see ClipTextConfig).

    Attributes:
        output_size: Width d of the space that clips and captions share.
    """

    output_size: int


class DualEncoder(nn.Module):
    """Encodes clips and captions so that those of a pair are near.

    Clips: a feature vector a latent frame, a BiLSTM over them, the mean over frames. Captions: embedded words, a
    BiLSTM, the mean over words. A linear map each leads to the shared space.

    Source: "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020): one space, a
        symmetric cross entropy, a learned temperature that starts at 0.07 and stays above 0.01. Its networks are
        others; no number made with this one compares with one of CLIP.
    """

    def __init__(self, config: DualEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = config.vocabulary
        size, half = config.hidden_size, config.hidden_size // 2
        self.frames = LatentFrames(config)
        self.clip_lstm = nn.LSTM(size, half, batch_first=True, bidirectional=True)
        self.clip_out = nn.Linear(size, config.output_size)
        self.embedding = nn.Embedding(len(self.vocabulary), config.embed_size, padding_idx=PAD)
        self.text_lstm = nn.LSTM(config.embed_size, half, batch_first=True, bidirectional=True)
        self.text_out = nn.Linear(size, config.output_size)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def scale(self) -> Tensor:
        """One over the temperature, at most 100."""
        return self.log_scale.exp().clamp(max=_LARGEST_SCALE)

    def clip_features(self, latents: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Return vectors (b d) of any length, as a Fréchet distance wants them.

        Args:
            latents: (b c t h w), times the scaling factor, of any size and length.
            generators: One a clip, of its dropout; none: nothing is dropped.

        Raises:
            ShapeError: The latents have other axes or channels.
        """
        return self.clip_out(self.clip_lstm(self.frames(latents, generators))[0].mean(dim=1))

    def encode_clips(self, latents: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Return vectors (b d) of length 1 of latents (b c t h w); see clip_features."""
        return F.normalize(self.clip_features(latents, generators), dim=1)

    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Return vectors (b d) of length 1; a word that is not in the vocabulary is one of the unknown ones."""
        tokens = self.vocabulary.batch(captions, marks=False).to(self.log_scale.device)
        return self.encode_tokens(tokens)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Return vectors (b d) of length 1 of tokens (b l) int64, padded at the end.

        Raises:
            ShapeError: The tokens have other axes.
        """
        expect(tokens, "b l", "tokens")
        kept = tokens != PAD
        # A caption without words is one of a single padding.
        lengths = kept.sum(dim=1).clamp(min=1)
        packed = pack_padded_sequence(self.embedding(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False)
        states = pad_packed_sequence(self.text_lstm(packed)[0], batch_first=True)[0]
        return F.normalize(self.text_out(states.sum(dim=1) / lengths[:, None]), dim=1)


def contrastive_losses(clips: Tensor, texts: Tensor, scale: Tensor, *, same: Tensor) -> Tensor:
    """Return the loss (b,) of each pair: the mean cross entropy of finding the text of a clip and the clip of a text.

    Args:
        clips: (b d) of length 1.
        texts: (b d) of length 1, in the order of the clips.
        scale: One over the temperature.
        same: (b b) bool: whether two clips have the same caption, so that neither is a wrong answer for the other.

    Source: InfoNCE, in the symmetric form of CLIP (arXiv 2103.00020).
    """
    b = expect(clips, "b d", "clips")["b"]
    answers = torch.arange(b, device=clips.device)
    apart = ~(same & ~torch.eye(b, dtype=torch.bool, device=same.device))
    scores = (scale * clips @ texts.T).masked_fill(~apart, -torch.inf)
    found_text = F.cross_entropy(scores, answers, reduction="none")
    found_clip = F.cross_entropy(scores.T, answers, reduction="none")
    return (found_text + found_clip) / 2
