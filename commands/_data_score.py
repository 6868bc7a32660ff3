"""`cogvx data score`: numbers about clips, as columns of their manifest."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cogvx.errors import MissingError, UsageError

from ._console import Console
from ._options import with_flags
from ._stages import SOURCE_HELP, StageFlags, run_command, show_run

if TYPE_CHECKING:
    from cogvx.data.signals.stage import ScoreStage
    from cogvx.data.stages import RunResult

_AESTHETIC = "Aesthetic"


@dataclass(frozen=True, kw_only=True)
class ScoreFlags(StageFlags):
    """The flags of score beside its manifest."""

    signals: Annotated[
        str,
        typer.Option(
            "--signals",
            metavar="LIST|all",
            help="What to measure: flow, continuity, sharpness, exposure, quality, text, bars, frozen, watermark, "
            "phash, aesthetic, duplicates.",
        ),
    ] = "all"
    flow_engine: Annotated[
        Literal["dis", "raft", "mv"],
        typer.Option(
            "--flow-engine",
            help="Optical flow by OpenCV's DIS, by RAFT (extra), or the motion vectors of the codec (columns of their "
            "own).",
        ),
    ] = "dis"
    most_bits: Annotated[
        int,
        typer.Option(
            "--duplicate-bits",
            metavar="N",
            min=0,
            max=24,
            help="How many of 64 bits the hashes of duplicates may differ by.",
        ),
    ] = 8
    aesthetic_model: Annotated[
        str | None,
        typer.Option(
            "--aesthetic-model",
            metavar="DIR|REPO",
            show_default=False,
            help="A CLIP ViT-L/14: a folder, or a repository that has been downloaded.",
        ),
    ] = None
    aesthetic_head: Annotated[
        str | None,
        typer.Option(
            "--aesthetic-head",
            metavar="FILE",
            show_default=False,
            help="A head of LAION's aesthetic predictors, safetensors.",
        ),
    ] = None


@with_flags(ScoreFlags)
def score(
    source: Annotated[str, typer.Argument(metavar="MANIFEST", help=SOURCE_HELP)],
    *,
    flags: ScoreFlags,
) -> None:
    r"""Measure clips, each number a column under `scores`, with how it was made under `made`.

    A clip is decoded once for all signals of a run, and only for those that are missing in its entry. Nothing is
    thrown away: `cogvx data select` decides. A number that a clip cannot have (the motion of an image) is left out.

    \b
    flow        flow, flow_top5: pixels a 1/8 s at a short side of 256 (mv: flow_mv, flow_mv_patch)
    continuity  continuity, continuity_min: does each frame follow from the last, 0 to 1; judder
    sharpness   variance of the Laplacian at 480 pixels
    exposure    exposure, contrast, clipped_dark, clipped_bright
    quality     brisque: 0 clean to 100 ruined
    text        text_area, text_tracks, text_corner; the words under `ocr`
    bars        share of the picture that is black bars
    frozen      share of frames that only repeat the one before
    watermark   a badge in a corner, 0 to 1
    aesthetic   aesthetic, aesthetic_min; needs --aesthetic-model and --aesthetic-head
    phash       perceptual hashes under `phash`
    duplicates  duplicate: 1 for a clip that came before, which `duplicate_of` names; looks at all clips together

    \b
    Examples:
      cogvx data score clips.jsonl -o scored.jsonl
      cogvx data score clips.jsonl -o scored.jsonl --signals flow,sharpness,duplicates --workers 8
      cogvx data score shards/ -o scored/ --signals flow --flow-engine mv --engine ray
    """
    from cogvx.data.signals.registry import DUPLICATES

    console = Console(quiet=flags.quiet, json=flags.json)
    names = _names(console, flags)
    stage = _stage(names, flags)
    if DUPLICATES not in names or flags.dry_run:
        run_command(stage, source, flags)
        return
    if source == "-" and sys.stdin.isatty():
        raise UsageError("- reads a manifest from stdin, which is a terminal; pipe it in, or name a file")

    def run(report: Callable[[int, int], None], failures: Any, on_stop: Callable[[], None]) -> "RunResult":
        return _run_and_mark(stage, source, flags, console, report=report, on_failure=failures, on_stop=on_stop)

    show_run(stage.name, flags, run)


def _names(console: Console, flags: ScoreFlags) -> tuple[str, ...]:
    """Return the signals that are wanted and possible; of "all", what is not possible is left out and said."""
    from cogvx.data.signals.registry import AESTHETIC, ALL, DUPLICATES, names_of

    names = names_of(flags.signals)
    every = ALL in [name.strip().lower() for name in flags.signals.split(",")]
    weights = [flags.aesthetic_model, flags.aesthetic_head]
    if any(weights) and (None in weights or AESTHETIC not in names):
        raise UsageError("--aesthetic-model and --aesthetic-head go together, and with the signal aesthetic")
    if AESTHETIC in names and None in weights:
        if not every:
            from cogvx.curation.aesthetic import HOW

            raise MissingError(HOW)
        console.note("the signal aesthetic is left out: it needs --aesthetic-model and --aesthetic-head")
        names = tuple(name for name in names if name != AESTHETIC)
    if DUPLICATES in names and (flags.output == "-" or flags.shard is not None):
        why = "to look at all clips together, it needs an -o FILE and no --shard; run it over the finished manifest"
        if not every:
            raise UsageError(f"--signals {DUPLICATES}: {why}")
        console.note(f"the signal {DUPLICATES} is left out: {why}")
        names = tuple(name for name in names if name != DUPLICATES)
    return names


def _stage(names: tuple[str, ...], flags: ScoreFlags) -> "ScoreStage":
    from cogvx.data.signals.registry import AESTHETIC, signals_of
    from cogvx.data.signals.stage import ScoreStage

    signals = signals_of(names, flow_engine=flags.flow_engine)
    if AESTHETIC in names:
        from cogvx.curation.aesthetic import Aesthetic

        assert flags.aesthetic_model is not None and flags.aesthetic_head is not None
        signals = (*signals, Aesthetic(flags.aesthetic_model, flags.aesthetic_head))
    return ScoreStage(signals)


def _run_and_mark(stage: "ScoreStage", source: str, flags: ScoreFlags, console: Console, **shown: Any) -> "RunResult":
    """Score all clips, then mark the duplicates among them."""
    from pathlib import Path

    from cogvx.data.signals.marking import mark_duplicates
    from cogvx.data.stages import run_stage
    from cogvx.data.stages.source import parts_of

    result = run_stage(stage, source, flags.output, options=flags.options(), root=flags.root, **shown)
    targets = [Path(part.target) for part in parts_of(source, flags.output, None)]
    marked = mark_duplicates(targets, most_bits=flags.most_bits)
    console.note(f"{marked.duplicates} of {marked.compared} clips are near duplicates of an earlier one")
    return result
