"""The work of `cogvx eval prompts`: rows that `cogvx sample --prompts` reads, and that then are the clips' manifest."""

from dataclasses import dataclass
from typing import Annotated

import typer

from ._options import Json, Overwrite, Quiet

_OUTPUT = "Output"


@dataclass(frozen=True, kw_only=True)
class PromptsFlags:
    """The flags of eval prompts."""

    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            "--output-path",
            metavar="FILE.jsonl",
            rich_help_panel=_OUTPUT,
            show_default=False,
            help="The rows; in the folder that the clips will be in, it is their manifest. Default: stdout.",
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="N", min=0, help="Clip i of prompt k gets N + 100 k + i; a row's own wins."),
    ] = 0
    videos: Annotated[int, typer.Option("--videos", metavar="N", min=1, max=100, help="Clips a prompt.")] = 1
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, show_default=False, help="Take the first prompts only."),
    ] = None
    caption: Annotated[
        str | None,
        typer.Option(
            "--caption",
            metavar="STAGE",
            show_default=False,
            help="Of a manifest's captions, the one that is the prompt. Default: `prompt`, else `caption`.",
        ),
    ] = None
    suffix: Annotated[str, typer.Option("--suffix", metavar=".mp4|.mkv|...", help="Of the clips' names.")] = ".mp4"
    overwrite: Overwrite = False
    json: Json = False
    quiet: Quiet = False


def write_rows(source: str, flags: PromptsFlags) -> None:
    """Write the rows of a list of prompts; errors are those of prompt_rows.

    Raises:
        UsageError: The output exists, or the suffix is not one of a clip.
    """
    from cogvx.data.manifest import format_entry
    from cogvx.errors import UsageError
    from cogvx.evaluation.suites.prompts import RowOptions, prompt_rows
    from cogvx.evaluation.suites.suite import SUFFIXES
    from cogvx.files import write_bytes

    from ._console import Console
    from ._outputs import write_stdout

    if flags.suffix not in SUFFIXES:
        raise UsageError(f"--suffix {flags.suffix}: expected {', '.join(SUFFIXES)}")
    options = RowOptions(
        seed=flags.seed, videos=flags.videos, limit=flags.limit or 0, caption=flags.caption or "", suffix=flags.suffix
    )
    rows = list(prompt_rows(source, options))
    data = b"".join(map(format_entry, rows))
    console = Console(flags.quiet, json=flags.json, silent_stdout=flags.output in (None, "-"))
    if flags.output is None or flags.output == "-":
        write_stdout(data)
    else:
        write_bytes(flags.output, data, overwrite=flags.overwrite)
    console.note(f"{len(rows)} clips of {len({row['prompt'] for row in rows})} prompts")
    console.result(flags.output, {"output": flags.output, "clips": len(rows)})
