"""Captions from a captioner: greedily, or with a beam."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cogvx.models.captioner import Captioner, EncodedClips
from cogvx.models.words import END, MAX_WORDS, PAD, START, UNKNOWN


@dataclass(frozen=True)
class FoundCaption:
    """A caption that a captioner has found.

    Attributes:
        text: Its words, in lower case.
        log_prob: Logarithm of its probability, the end included.
        num_tokens: How many tokens that is of.
    """

    text: str
    log_prob: float
    num_tokens: int

    @property
    def score(self) -> float:
        """The mean logarithm a token: what a beam compares captions of different lengths by."""
        return self.log_prob / self.num_tokens


@torch.no_grad()
def greedy_captions(captioner: Captioner, latents: Tensor, *, max_words: int = MAX_WORDS) -> list[FoundCaption]:
    """Return a caption of each clip: always the likeliest next word.

    Args:
        captioner: In evaluation or not, it draws nothing.
        latents: (b c t h w), times the scaling factor.
        max_words: Longest caption.
    """
    clips = captioner.encode(latents)
    b = len(latents)
    tokens = torch.full((b, 1), START, device=latents.device)
    totals = torch.zeros(b, device=latents.device)
    running = torch.ones(b, dtype=torch.bool, device=latents.device)
    while running.any():
        log_probs = _next(captioner, clips, tokens, end=tokens.shape[1] > max_words)
        best, token = log_probs.max(dim=1)
        totals += torch.where(running, best, 0.0)
        tokens = torch.cat([tokens, torch.where(running, token, PAD)[:, None]], dim=1)
        running &= token != END
    return [_found(captioner, row, total) for row, total in zip(tokens[:, 1:].tolist(), totals.tolist(), strict=True)]


@torch.no_grad()
def beam_captions(
    captioner: Captioner, latents: Tensor, *, num_beams: int, max_words: int = MAX_WORDS
) -> list[FoundCaption]:
    """Return a caption of each clip: the best that a beam finds, by the mean logarithm of its tokens' probabilities.

    The greedy caption is one of those that are compared, so that a beam never finds a worse one.

    Args:
        captioner: In evaluation or not, it draws nothing.
        latents: (b c t h w), times the scaling factor.
        num_beams: How many prefixes are followed at a time; 1: greedy.
        max_words: Longest caption.
    """
    greedy = greedy_captions(captioner, latents, max_words=max_words)
    if num_beams < 2:
        return greedy
    clips = captioner.encode(latents)
    found = []
    for i, first in enumerate(greedy):
        one = EncodedClips(clips.features[i : i + 1], clips.states[i : i + 1])
        found.append(max([first, *_beam(captioner, one, num_beams, max_words)], key=lambda caption: caption.score))
    return found


def _beam(captioner: Captioner, clip: EncodedClips, num_beams: int, max_words: int) -> list[FoundCaption]:
    """Return the captions that a beam finishes for one clip, at least as many as it has prefixes if there are some."""
    device = clip.features.device
    tokens = torch.full((1, 1), START, device=device)
    totals = torch.zeros(1, device=device)
    done: list[FoundCaption] = []
    while len(tokens) and len(done) < num_beams:
        log_probs = _next(captioner, clip.repeated(len(tokens)), tokens, end=tokens.shape[1] > max_words)
        every = (totals[:, None] + log_probs).flatten()
        # Each prefix ends at most once, so twice the beam holds enough that go on.
        best, index = every.topk(min(2 * num_beams, len(every)))
        rows: list[list[int]] = []
        kept: list[Tensor] = []
        for rank, (total, place) in enumerate(zip(best, index.tolist(), strict=True)):
            prefix, token = divmod(place, log_probs.shape[1])
            if not torch.isfinite(total) or len(rows) == num_beams:
                break
            row = [*tokens[prefix].tolist(), token]
            if token != END:
                rows.append(row)
                kept.append(total)
            elif rank < num_beams:
                done.append(_found(captioner, row[1:], float(total)))
        tokens = torch.tensor(rows, device=device).reshape(len(rows), tokens.shape[1] + 1)
        totals = torch.stack(kept) if kept else totals[:0]
    return done


def _next(captioner: Captioner, clips: EncodedClips, tokens: Tensor, *, end: bool) -> Tensor:
    """Return the logarithms (b v) of the probabilities of the next token; of words that can be said, or of the end.

    What cannot be said keeps its share, so that the numbers are those of training.
    """
    log_probs = captioner.next_scores(clips, tokens).log_softmax(dim=1)
    never = torch.zeros_like(log_probs, dtype=torch.bool)
    never[:, [PAD, START, UNKNOWN]] = True
    if end:
        never[:] = True
        never[:, END] = False
    return log_probs.masked_fill(never, -torch.inf)


def _found(captioner: Captioner, row: list[int], log_prob: float) -> FoundCaption:
    words = row[: row.index(END)]
    return FoundCaption(captioner.vocabulary.decode(words), log_prob, len(words) + 1)
