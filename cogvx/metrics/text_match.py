"""How well clips and texts fit, from their vectors in one space: similarities, and finding one by the other."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cogvx.errors import ShapeError
from cogvx.shapes import expect


def mean_pool(frames: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the vector (b d) of length 1 of each clip: the mean of its frames' vectors, each brought to length 1.

    The "parameter-free" similarity, meanP, of CLIP4Clip is the cosine of it with the text's vector.

    Args:
        frames: (b t d).
        mask: (b t) bool, which frames there are; None: all.

    Raises:
        ShapeError: The shapes do not fit, or a clip has no frame.

    Source: Luo et al., "CLIP4Clip" (arXiv 2104.08860).
    """
    sizes = expect(frames, "b t d", "frames")
    unit = F.normalize(frames.float(), dim=-1)
    kept = torch.ones(unit.shape[:2], dtype=torch.bool, device=unit.device) if mask is None else mask
    expect(kept, "b t", "mask", b=sizes["b"], t=sizes["t"])
    counts = kept.sum(dim=1, keepdim=True)
    if not sizes["t"] or not bool((counts > 0).all()):
        raise ShapeError("a clip without frames has no vector")
    return F.normalize((unit * kept[..., None]).sum(dim=1) / counts, dim=-1)


def similarities(texts: Tensor, clips: Tensor) -> Tensor:
    """Return the cosines (n m) of texts (n d) and clips (m d), float64."""
    width = expect(texts, "n d", "texts")["d"]
    expect(clips, "m d", "clips", d=width)
    return F.normalize(texts.double(), dim=1) @ F.normalize(clips.double(), dim=1).T


def centred(scores: Tensor) -> Tensor:
    """Return similarities (n m) less the means of their row and column, plus the mean of all.

    It takes out that some clips are near every text, and some texts near every clip.
    """
    expect(scores, "n m", "scores")
    rows, columns = scores.mean(dim=1, keepdim=True), scores.mean(dim=0, keepdim=True)
    return scores - rows - columns + scores.mean()


def ranks(scores: Tensor, *, same: Tensor | None = None) -> Tensor:
    """Return the place (n,) int64 of each row's own column among all columns; 1 is the first.

    A tie counts against the own one, so that scores that tell nothing rank last.

    Args:
        scores: (n n); the pair of row i is column i.
        same: (n n) bool: columns that would be as right for a row, such as clips of the same caption; not counted.

    Raises:
        ShapeError: The shapes do not fit.
    """
    n = expect(scores, "n m", "scores", m=scores.shape[0] if scores.ndim else 0)["n"]
    others = ~torch.eye(n, dtype=torch.bool, device=scores.device)
    if same is not None:
        expect(same, "n m", "same", n=n, m=n)
        others &= ~same
    return 1 + ((scores >= scores.diagonal()[:, None]) & others).sum(dim=1)


@dataclass(frozen=True)
class Retrieval:
    """How well the right one of n is found.

    Attributes:
        n: Candidates.
        median_rank: 1 is best; (n + 1) / 2 by chance.
        mean_rank: Likewise.
        recall_1: Share found in the first place.
        recall_5: Share among the first 5.
        recall_10: Share among the first 10.
    """

    n: int
    median_rank: float
    mean_rank: float
    recall_1: float
    recall_5: float
    recall_10: float

    def to_dict(self) -> dict[str, float]:
        """Return the fields as JSON takes them."""
        return asdict(self)


def retrieval(places: Tensor) -> Retrieval:
    """Return what ranks (n,) come to.

    Raises:
        ShapeError: There are none.
    """
    n = expect(places, "n", "places")["n"]
    if not n:
        raise ShapeError("no ranks")
    found = places.double()
    recall = [(found <= k).double().mean().item() for k in (1, 5, 10)]
    # The middle of the two for an even count; torch's own median takes the lower one.
    return Retrieval(n, found.quantile(0.5).item(), found.mean().item(), *recall)


def find_both_ways(
    scores: Tensor, captions: Sequence[str]
) -> dict[Literal["text_to_video", "video_to_text"], Retrieval]:
    """Return how well clips are found by their text and texts by their clip, from similarities (n n) of texts to clips.

    Equal captions are never wrong for each other.
    """
    same = torch.tensor([[one == other for other in captions] for one in captions], device=scores.device)
    same = same.reshape(scores.shape)
    return {
        "text_to_video": retrieval(ranks(scores, same=same)),
        "video_to_text": retrieval(ranks(scores.T, same=same)),
    }
