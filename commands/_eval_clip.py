"""The work of `cogvx eval clip`: how well clips fit their texts, and whether one is found by the other."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cogvx.errors import InputError

from ._eval_clips import ClipFile, NetworkFlags, cell, find_clips, quiet_bars, start, text_of

if TYPE_CHECKING:
    from torch import Tensor

    from cogvx.evaluation.features.text_video import TextVideoSpec
    from cogvx.metrics.text_match import Retrieval


@dataclass(frozen=True, kw_only=True)
class ClipFlags(NetworkFlags):
    """The flags of eval clip."""

    backend: Annotated[
        Literal["clip", "embedded", "conse"],
        typer.Option(
            "--backend",
            show_default=True,
            help="clip: any CLIP through transformers. embedded: the dual encoder of a model's folder. conse: names of "
            "what a classifier sees, through a network for sentences.",
        ),
    ] = "conse"
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="DIR|REPO",
            show_default=False,
            help="clip: a folder or repository. embedded: a model's name or folder.",
        ),
    ] = None
    max_frames: Annotated[
        int, typer.Option("--max-frames", metavar="N", min=1, show_default=True, help="Of a clip, one a second (clip).")
    ] = 12
    max_words: Annotated[
        int, typer.Option("--max-words", metavar="N", min=3, show_default=True, help="Tokens of a text (clip).")
    ] = 32
    class_names: Annotated[
        Path | None,
        typer.Option("--class-names", metavar="FILE", show_default=False, help="The 1000 names of classes (conse)."),
    ] = None


def measure(source: str, flags: ClipFlags) -> None:
    """Measure the clips of a manifest or folder; errors are those of find_clips and open_text_video."""
    import torch

    from cogvx.evaluation.features.text_video import open_text_video
    from cogvx.evaluation.result import Result
    from cogvx.metrics.text_match import similarities

    session = start(flags)
    quiet_bars()
    network = open_text_video(network_spec(flags))

    def work(clip: ClipFile) -> "tuple[str, str, Tensor]":
        text = text_of(clip)
        return clip.name, text, network.clip(network.read(clip.path, **clip.span))

    found = list(session.each("eval clip", find_clips(source, session), work))
    if not found:
        raise InputError(f"{source}: no clip could be measured")
    names, texts, vectors = (list(column) for column in zip(*found, strict=True))
    scores = similarities(network.texts(texts), torch.stack(vectors))
    cut = sum(map(network.cut, texts))
    if cut:
        session.console.warn(f"{cut} of {len(texts)} texts are longer than the network reads; their ends do not count")
    tables, places = _retrieval(scores, texts)
    own = scores.diagonal().tolist()
    result = Result(
        metric=network.metric,
        value=sum(own) / len(own),
        n=len(own),
        per_video=[
            {"input": name, "value": value, "text": text, "rank": rank}
            for name, value, text, rank in zip(names, own, texts, places, strict=True)
        ],
        protocol=network.protocol(),
        backend=network.backend(),
        failed=session.failed,
        more={"retrieval": {name: one.to_dict() for name, one in tables.items()}, "texts_cut": cut},
    )
    session.finish(result, _rows(result, tables), ["", "value", "median rank", "R@1", "R@5", "R@10"])


def network_spec(flags: ClipFlags) -> "TextVideoSpec":
    """Return which network the flags ask for, and how it reads."""
    from cogvx.evaluation.features.text_video import TextVideoSpec
    from cogvx.generate.options import choose_device

    return TextVideoSpec(
        name=flags.backend,
        source=flags.weights,
        max_frames=flags.max_frames,
        max_words=flags.max_words,
        class_names=flags.class_names,
        device=str(choose_device(flags.device)),
    )


def _retrieval(scores: "Tensor", texts: list[str]) -> "tuple[dict[str, Retrieval], list[int]]":
    """Return how well clips and texts find each other, as scores are and centred; and the rank of each clip."""
    import torch

    from cogvx.metrics.text_match import centred, find_both_ways, ranks

    tables: dict[str, Any] = {}
    for suffix, matrix in (("", scores), ("_centred", centred(scores))):
        tables |= {f"{way}{suffix}": one for way, one in find_both_ways(matrix, texts).items()}
    same = torch.tensor([[one == other for other in texts] for one in texts])
    return tables, ranks(scores, same=same).tolist()


def _rows(result: Any, tables: "dict[str, Retrieval]") -> list[list[str]]:
    rows = [[result.metric, cell(result.value), "", "", "", ""]]
    for name, one in tables.items():
        shares = [f"{share:.2f}" for share in (one.recall_1, one.recall_5, one.recall_10)]
        rows.append([name.replace("_", " "), f"n={one.n}", f"{one.median_rank:g}", *shares])
    by_chance = [f"{min(1.0, k / result.n):.2f}" for k in (1, 5, 10)]
    return [*rows, ["by chance", "", f"{(result.n + 1) / 2:g}", *by_chance]]
