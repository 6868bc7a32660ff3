"""`cogvx data`: making and preparing clips for training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cogvx.errors import UsageError

from ._console import Console
from ._data_encode import encode
from ._data_label import label
from ._data_preview import preview
from ._data_scan import scan
from ._data_score import score
from ._data_select import select
from ._data_split import split
from ._data_stats import stats
from ._options import DryRun, Json, Overwrite, Quiet, with_flags

if TYPE_CHECKING:
    from pathlib import Path

    from cogvx.data.storyboard import StoryboardOptions
    from cogvx.data.storyboard.synth import SynthOptions

app = typer.Typer(no_args_is_help=True)


@app.callback()
def data() -> None:
    r"""Make and prepare clips for training.

    \b
    Examples:
      cogvx data synth -o world --count 1000
      cogvx data encode world/manifest.jsonl -o cache --manifest encoded.jsonl
    """


_WORLD, _CLIP = "World", "Clip"


def _odds(what: str, *names: str) -> Any:
    return typer.Option(
        *names,
        metavar="LIST",
        rich_help_panel=_WORLD,
        show_default=False,
        help=f"{what} to take: a,b or with weights a:3,b:1.",
    )


@dataclass(frozen=True, kw_only=True)
class SynthFlags:
    """The flags of synth that say what the clips are like; None leaves the odds of the world as they are."""

    frames: Annotated[
        int,
        typer.Option("--frames", "--num-frames", metavar="N", min=1, rich_help_panel=_CLIP, help="Frames of a clip."),
    ] = 17
    height: Annotated[int, typer.Option("--height", metavar="N", min=16, rich_help_panel=_CLIP, help="Pixels.")] = 64
    width: Annotated[int, typer.Option("--width", metavar="N", min=16, rich_help_panel=_CLIP, help="Pixels.")] = 96
    fps: Annotated[
        float,
        typer.Option("--fps", metavar="X", min=0.01, max=1000.0, rich_help_panel=_CLIP, help="Frames a second."),
    ] = 8.0
    form: Annotated[
        Literal["mp4", "webm", "mkv", "gif", "webp", "png"],
        typer.Option(
            "--format",
            rich_help_panel=_CLIP,
            help="Form of the clips; mkv and png keep every pixel, png is a folder of frames a clip.",
        ),
    ] = "mp4"
    objects: Annotated[str | None, _odds("Kinds of object", "--objects")] = None
    colours: Annotated[str | None, _odds("Colours", "--colours", "--colors")] = None
    sizes: Annotated[str | None, _odds("Sizes", "--sizes")] = None
    actions: Annotated[str | None, _odds("Actions", "--actions")] = None
    scenes: Annotated[str | None, _odds("Scenes", "--scenes")] = None
    styles: Annotated[str | None, _odds("Styles", "--styles")] = None
    cameras: Annotated[str | None, _odds("Movements of the camera", "--cameras")] = None
    counts: Annotated[str | None, _odds("Numbers of objects", "--num-objects")] = None
    overwrite: Overwrite = False
    dry_run: DryRun = False
    json: Json = False
    quiet: Quiet = False


@app.command()
@with_flags(SynthFlags)
def synth(
    output: Annotated[
        str,
        typer.Option("--output", "-o", "--output-path", metavar="DIR", help="Folder of the clips and manifest.jsonl."),
    ],
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, help="How many clips.")] = 100,
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="N", min=0, help="Of the world; clip i depends on it and i, not on the count."),
    ] = 0,
    split: Annotated[
        Literal["train", "test", "any"],
        typer.Option("--split", help="train: no clip shows a held-out combination; test: every clip does."),
    ] = "any",
    *,
    flags: SynthFlags,
) -> None:
    r"""Make clips of Storyboard, the synthetic world, with captions and the exact truth in manifest.jsonl.

    One to three simple objects move over a scene. A tenth of the combinations of object, colour, action and scene is
    held out (split "test" in the manifest). An unknown name in a list is answered with those that are known. A run
    that was stopped goes on where it was.

    \b
    Examples:
      cogvx data synth -o world --count 1000
      cogvx data synth -o held-out --count 100 --split test --seed 1
      cogvx data synth -o big --count 50 --height 128 --width 192 --styles flat:3,pixel:1 --num-objects 1
    """
    from pathlib import Path

    from cogvx.data.storyboard.synth import SynthOptions, estimate, synthesise

    console = Console(quiet=flags.quiet, json=flags.json)
    if output == "-":
        raise UsageError("-o - cannot hold a folder of clips; name a folder")
    sizes = flags.frames, flags.height, flags.width, flags.fps
    options = SynthOptions(count, seed, *sizes, form=flags.form, story=_story(split, flags))
    folder = Path(output)
    if flags.dry_run:
        _print_plan(console, folder, options, *estimate(options))
        return
    with console.progress("synth") as report:
        result = synthesise(
            folder, options, overwrite=flags.overwrite, report=lambda done, total: report("clip", done, total)
        )
    parts = ", ".join(f"{number} {name}" for name, number in sorted(result.splits.items()))
    console.note(f"{result.written} clips written, {result.kept} kept ({parts})")
    record = {"output": str(result.manifest), "count": count, "written": result.written, "kept": result.kept}
    console.result(result.manifest, record | {"splits": result.splits, "seed": seed})


app.command()(scan)
app.command()(score)
app.command()(encode)
app.command()(label)
app.command()(preview)
app.command()(select)
app.command()(split)
app.command()(stats)


def _story(split: Literal["train", "test", "any"], flags: SynthFlags) -> "StoryboardOptions":
    """Return the odds of everything from the lists of the command line."""
    from cogvx.data.storyboard import StoryboardOptions

    odds: dict[str, dict[Any, float]] = {}
    for name in ("objects", "colours", "sizes", "actions", "scenes", "styles", "cameras", "counts"):
        text = getattr(flags, name)
        if text is None:
            continue
        flag = "--num-objects" if name == "counts" else f"--{name}"
        odds[name] = {}
        for item in text.split(","):
            word, _, weight = item.strip().partition(":")
            try:
                key = int(word) if name == "counts" else word.strip().lower().replace("-", "_").replace(" ", "_")
                odds[name][key] = float(weight or 1)
            except ValueError:
                raise UsageError(f"{flag} {text}: {item!r} is not a name, or a name and its weight (a:3)") from None
    return StoryboardOptions(split=split, **odds)


def _print_plan(console: Console, folder: "Path", options: "SynthOptions", num_bytes: int, seconds: float) -> None:
    from cogvx.files import free_bytes

    free = free_bytes(folder)
    text = (
        f"{folder}: {options.count} clips of {options.width}x{options.height}, {options.num_frames} frames at "
        f"{options.fps:g} fps, {options.form}, seed {options.seed}, split {options.story.split}; about "
        f"{num_bytes / 1e6:.1f} MB of {free / 1e6:.0f} MB free, about {max(seconds, 1):.0f} s"
    )
    record: dict[str, Any] = {
        "output": str(folder),
        "count": options.count,
        "num_frames": options.num_frames,
        "height": options.height,
    }
    record |= {"width": options.width, "fps": options.fps, "format": options.form, "seed": options.seed}
    record |= {
        "split": options.story.split,
        "disk_bytes": num_bytes,
        "free_disk_bytes": free,
        "seconds": round(seconds, 1),
    }
    console.result(text, record)
