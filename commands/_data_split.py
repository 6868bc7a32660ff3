"""`cogvx data split`: films into their shots."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from ._options import _OUTPUT, with_flags
from ._stages import SOURCE_HELP, StageFlags, run_command

_SHOTS = "Shots"


@dataclass(frozen=True, kw_only=True)
class SplitFlags(StageFlags):
    """The flags of split beside its manifest."""

    detector: Annotated[
        Literal["adaptive", "content", "transnet"],
        typer.Option(
            "--detector",
            rich_help_panel=_SHOTS,
            help="What finds cuts: frames that differ from the one before more than their neighbours do (adaptive), or "
            "more than a fixed measure (content), both by PySceneDetect; or the network TransNetV2, which finds "
            "dissolves and fades too.",
        ),
    ] = "adaptive"
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="X",
            rich_help_panel=_SHOTS,
            show_default=False,
            help="From where on there is a cut. Default: 3 (adaptive), 27 (content), 0.4 (transnet).",
        ),
    ] = None
    min_gap: Annotated[
        int,
        typer.Option(
            "--min-gap",
            "--min-scene-len",
            metavar="FRAMES",
            min=0,
            rich_help_panel=_SHOTS,
            help="Cuts that are closer to the one before are passed over (adaptive, content).",
        ),
    ] = 15
    min_seconds: Annotated[
        float,
        typer.Option("--min-seconds", metavar="X", min=0.0, rich_help_panel=_SHOTS, help="Shorter shots are rejected."),
    ] = 2.0
    max_seconds: Annotated[
        float,
        typer.Option(
            "--max-seconds",
            metavar="X",
            min=0.0,
            rich_help_panel=_SHOTS,
            help="Longer shots are cut into equal parts, as few as possible; 0: shots of any length.",
        ),
    ] = 60.0
    trim: Annotated[
        float,
        typer.Option(
            "--trim",
            metavar="X",
            min=0.0,
            rich_help_panel=_SHOTS,
            help="Seconds to leave out on both sides of each cut, where encoders may have mixed the two shots.",
        ),
    ] = 0.0
    cut: Annotated[
        str | None,
        typer.Option(
            "--cut",
            metavar="DIR",
            rich_help_panel=_OUTPUT,
            show_default=False,
            help="Write a file for each shot there, without sound. Default: entries name their part by start and end.",
        ),
    ] = None
    cut_format: Annotated[
        Literal["mkv", "mp4", "mp4-lossless"],
        typer.Option(
            "--cut-format",
            rich_help_panel=_OUTPUT,
            help="Of these files: lossless FFV1, H.264 of high quality, or lossless H.264.",
        ),
    ] = "mkv"


@with_flags(SplitFlags)
def split(source: Annotated[str, typer.Argument(metavar="MANIFEST", help=SOURCE_HELP)], *, flags: SplitFlags) -> None:
    r"""Split videos into their shots: an entry becomes one for each shot, of the same file or of a file of its own.

    Frames of a dissolve or fade that transnet finds belong to no shot; adaptive and content see cuts, and of a fade one
    place at most. Shots that are too short stay in the manifest, rejected. An entry that is part of a file is split
    within that part. Captions are kept; scores, labels and latents are not, as they were made of the whole. Images and
    rejected entries pass unchanged. Nothing is trimmed at the ends of a file, nor between the parts of a long shot.

    \b
    Examples:
      cogvx data split clips.jsonl -o shots.jsonl
      cogvx data split films.jsonl -o shots.jsonl --detector transnet --trim 0.1 --max-seconds 20 --workers 8
      cogvx data split films.jsonl -o shots/shots.jsonl --cut shots/files --cut-format mp4
    """
    from pathlib import Path

    from cogvx.curation.split import SplitStage
    from cogvx.data.shots import ShotRules

    rules = ShotRules(flags.min_seconds, flags.max_seconds or None, flags.trim)
    stage = SplitStage(
        detector=flags.detector,
        threshold=flags.threshold,
        min_gap=flags.min_gap,
        rules=rules,
        cut=None if flags.cut is None else Path(flags.cut).absolute(),
        form=flags.cut_format,
        overwrite=flags.overwrite,
    )
    stage.check()
    run_command(stage, source, flags)
