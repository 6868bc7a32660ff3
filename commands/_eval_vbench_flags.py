"""What the commands of `cogvx eval vbench` share: their flags, and how a result is shown."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cogvx.evaluation.result import Result

    from ._console import Console

FullInfo = Annotated[
    Path | None,
    typer.Option(
        "--full-info",
        metavar="FILE",
        show_default=False,
        help="VBench_full_info.json of VBench's repository. Default: that of the installed package vbench.",
    ),
]
Dimensions = Annotated[
    str,
    typer.Option(
        "--dimensions",
        "--dimension",
        metavar="paper|all|NAME,...",
        help="VBench's dimensions; paper: the five that CogVideoX reports.",
    ),
]
Videos = Annotated[int, typer.Option("--videos", metavar="N", min=1, max=100, help="Videos a prompt.")]
FlickerVideos = Annotated[
    int,
    typer.Option("--flicker-videos", metavar="N", min=1, max=100, help="Videos a prompt of temporal_flickering."),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Score what is there where videos are missing, and report the coverage.")
]


def show(
    result: "Result",
    console: "Console",
    output: str | None,
    *,
    overwrite: bool,
    rows: list[list[str]],
    header: list[str] | None = None,
) -> None:
    """Print a result as a table, or with --json as an object without its clips, and write its file."""
    from cogvx.evaluation.result import write_result

    from ._outputs import write_stdout

    if output == "-":
        write_stdout(result.to_json().encode())
        return
    if output is not None:
        write_result(output, result, overwrite=overwrite)
    if console.json:
        console.result("", {key: value for key, value in result.to_dict().items() if key != "per_video"})
    else:
        console.table(rows, header=header or ["metric", "score", "videos", "coverage", "network"])
    if output is not None:
        console.note(f"written to {output}")
