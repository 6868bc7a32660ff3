"""`cogvx data scan`: from folders and files of clips to a manifest."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cogvx.errors import CogvxError, UsageError

from ._console import Console
from ._options import with_flags
from ._stages import StageFlags, show_run

if TYPE_CHECKING:
    from cogvx.data.stages.run import RunResult


@dataclass(frozen=True, kw_only=True)
class ScanFlags(StageFlags):
    """The flags of scan."""

    form: Annotated[
        Literal["plain", "manifest", "metadata", "lists", "labels"] | None,
        typer.Option("--form", show_default=False, help="The form of the sources. Default: found out."),
    ] = None
    hash: Annotated[
        bool, typer.Option("--hash/--no-hash", help="Add the sha256 of each file's bytes.", show_default=False)
    ] = True
    root: Annotated[
        str | None,
        typer.Option(
            "--root",
            metavar="DIR",
            show_default=False,
            help="What paths and links must stay inside. Default: each source's own folder.",
        ),
    ] = None


@with_flags(ScanFlags)
def scan(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Folders, tables, clips; - reads their paths from stdin.")
    ],
    *,
    flags: ScanFlags,
) -> None:
    r"""Write a manifest of clips and images: path, caption, sha256, num_frames, height, width, fps, duration.

    Each file is opened in a process of its own, which a malicious one may crash. A file that cannot be used stays in
    the manifest, with `errors`. Run again, only what is new, has changed or has failed is looked at.

    \b
    Forms that are found out by looking:
      plain     clips and images in folders and subfolders, each perhaps with a .txt of its name beside it
      manifest  manifest.jsonl, or any .jsonl whose lines have video or image
      metadata  metadata.csv, .json or .jsonl with file_name, file_path, video_path or path,
                and text, caption, prompt or cap
      lists     videos.txt with a path a line, and prompts.txt or prompt.txt with the caption of each
      labels    videos/ with clips, labels/ with a .txt of the same name for each

    \b
    Examples:
      cogvx data scan clips -o clips/manifest.jsonl --workers 4
      cogvx data scan a.mp4 b.webm dataset/metadata.csv --no-hash > manifest.jsonl
      find /films -name '*.mkv' | cogvx data scan - -o films.jsonl --root /films
    """
    from cogvx.data.scan.run import ProbeStage, make_work
    from cogvx.data.scan.run import scan as run_scan

    if "-" in sources and sys.stdin.isatty():
        raise UsageError("- reads paths from stdin, which is a terminal; pipe them in, or name them")
    options = flags.options()
    stage = ProbeStage(flags.hash)
    if flags.dry_run:
        _print_plan(flags, make_work(sources, flags.output, form=flags.form, root=flags.root, shard=options.shard))
        return

    def run(report: Callable[[int, int], None], failures: Any, on_stop: Callable[[], None]) -> "RunResult":
        return run_scan(
            sources,
            flags.output,
            stage=stage,
            options=options,
            form=flags.form,
            root=flags.root,
            report=report,
            on_failure=failures,
            on_stop=on_stop,
        )

    show_run(stage.name, flags, run)


def _print_plan(flags: ScanFlags, work: Any) -> None:
    """Say how many clips are listed, without opening one."""
    console = Console(quiet=flags.quiet, json=flags.json)
    codes: list[int] = []

    def on_bad(place: str, error: CogvxError) -> None:
        codes.append(error.exit_code)
        console.failure(place, error, str(error))

    kinds = {"video": 0, "image": 0}
    for item in work.items(on_bad):
        kinds["video" if "video" in item.entry else "image"] += 1
    record = {"output": flags.output, "videos": kinds["video"], "images": kinds["image"], "failed": len(codes)}
    console.result(f"{flags.output}: {kinds['video']} videos, {kinds['image']} images", record)
    if codes:
        raise typer.Exit(5 if 5 in codes else 3)
