"""The small captioner: BiLSTMs over latent frames and over the words so far, and attention between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cogvx.models.latent_frames import ClipTextConfig, LatentFrames
from cogvx.models.words import PAD
from cogvx.shapes import expect


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig(ClipTextConfig):
    """Sizes of the captioner (see ClipTextConfig).

    Attributes:
        joined_states: Whether the encoder's states join context and features in front of the dense layer. Without
            them, as in the paper, what happens over time reaches a word through the attention's weights alone.
    """

    joined_states: bool


@dataclass(frozen=True)
class EncodedClips:
    """Clips as the decoder sees them.

    Attributes:
        features: F, (b t h): of each latent frame alone.
        states: H_e, (b t h): of the BiLSTM over them.
    """

    features: Tensor
    states: Tensor

    def repeated(self, count: int) -> "EncodedClips":
        """Return every clip so many times, one beside the other: (b count) in place of b."""
        return EncodedClips(*(repeat(x, "b t h -> (b k) t h", k=count) for x in (self.features, self.states)))


class Captioner(nn.Module):
    """Predicts the next word of a caption from a clip's latents and the words so far.

    F = dropout(dense(pooled latents)), one vector a latent frame; H_e = BiLSTM(F). H_s = BiLSTM(embedded words so far).
    A = softmax(H_e H_s^T) says which words each frame attends to; the context is A H_s. Context and F are joined, pass
    a dense layer, are averaged over the frames, and a last dense layer gives the scores of the next word.

    A BiLSTM over a whole caption would show each position the words that it is to predict. So H_s is that of each
    prefix of its own: the forward direction of a prefix is the beginning of the caption's, and is computed once; the
    backward direction runs over each prefix anew, all of them as one packed batch, l(l + 1)/2 steps for l words.

    Source: the student paper on CogVideoX, "Model Architecture" (encoder, sequence features, attention, decoder). There
    F is one vector that is repeated; a clip has one for each latent frame. Where the paper is silent: the activation of
    the dense layer, the mean over frames; LSTMs know the order of words, so its positions are left out.
    """

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = config.vocabulary
        size, half = config.hidden_size, config.hidden_size // 2
        self.frames = LatentFrames(config)
        self.clip_lstm = nn.LSTM(size, half, batch_first=True, bidirectional=True)
        self.embedding = nn.Embedding(len(self.vocabulary), config.embed_size, padding_idx=PAD)
        self.forward_lstm = nn.LSTM(config.embed_size, half, batch_first=True)
        self.backward_lstm = nn.LSTM(config.embed_size, half, batch_first=True)
        self.joint = nn.Linear(size * (3 if config.joined_states else 2), size)
        self.out = nn.Linear(size, len(self.vocabulary))

    def encode(self, latents: Tensor, generators: Sequence[torch.Generator] | None = None) -> EncodedClips:
        """Return what the decoder sees of latents (b c t h w), times the scaling factor.

        Args:
            latents: Of any size and length.
            generators: One a clip, of its dropout; none: nothing is dropped.

        Raises:
            ShapeError: The latents have other axes or channels.
        """
        features = self.frames(latents, generators)
        return EncodedClips(features, self.clip_lstm(features)[0])

    def forward(self, clips: EncodedClips, tokens: Tensor) -> Tensor:
        """Return the scores (b l v) of the token behind each prefix: scores[:, n] sees tokens[:, : n + 1] only.

        Args:
            clips: From encode.
            tokens: (b l) int64, from the start mark on; scores behind padding mean nothing.

        Raises:
            ShapeError: The tokens have other axes.
        """
        length = expect(tokens, "b l", "tokens", b=len(clips.features))["l"]
        words = self.embedding(tokens)
        ahead = self.forward_lstm(words)[0]
        place = torch.arange(length, device=tokens.device)
        # Row n holds n, n - 1, ... 0: prefix n backwards, and also where each of its words has its state.
        mirrored = (place[:, None] - place[None]).clamp(min=0)
        backwards = rearrange(words[:, mirrored], "b n i e -> (b n) i e")
        # Of prefixes that end in padding nobody asks for more than a number.
        lengths = rearrange(torch.where(tokens != PAD, place + 1, 1), "b n -> (b n)").cpu()
        packed = pack_padded_sequence(backwards, lengths, batch_first=True, enforce_sorted=False)
        back = pad_packed_sequence(self.backward_lstm(packed)[0], batch_first=True, total_length=length)[0]
        back = rearrange(back, "(b n) i h -> b n i h", n=length)
        back = torch.take_along_dim(back, rearrange(mirrored, "n i -> 1 n i 1"), dim=2)
        states = torch.cat([repeat(ahead, "b i h -> b n i h", n=length), back], dim=3)
        return self._scores(clips, states, hidden=place[None] > place[:, None])

    def next_scores(self, clips: EncodedClips, tokens: Tensor) -> Tensor:
        """Return the scores (b v) of the token behind tokens (b l): the last of those that forward returns."""
        words = self.embedding(tokens)
        back = self.backward_lstm(words.flip(1))[0].flip(1)
        states = torch.cat([self.forward_lstm(words)[0], back], dim=2)
        return self._scores(clips, states[:, None], hidden=None)[:, 0]

    def log_probs(self, clips: EncodedClips, tokens: Tensor) -> Tensor:
        """Return the logarithms (b l-1) of the probabilities of tokens[:, 1:], each after those before it."""
        scores = self(clips, tokens[:, :-1]).log_softmax(dim=2)
        return torch.take_along_dim(scores, tokens[:, 1:, None], dim=2)[..., 0]

    def _scores(self, clips: EncodedClips, states: Tensor, *, hidden: Tensor | None) -> Tensor:
        """Return the scores (b n v) behind prefixes with states H_s (b n i h), of which some (n i) are hidden."""
        scores = torch.einsum("bth,bnih->bnti", clips.states, states)
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None], -torch.inf)
        context = torch.einsum("bnti,bnih->bnth", scores.softmax(dim=3), states)
        parts = [clips.features, clips.states] if self.config.joined_states else [clips.features]
        seen = [repeat(part, "b t h -> b n t h", n=context.shape[1]) for part in parts]
        return self.out(F.gelu(self.joint(torch.cat([context, *seen], dim=3))).mean(dim=2))
