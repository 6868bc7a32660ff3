"""`cogvx eval human`: blind studies in which people judge clips."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cogvx.errors import CogvxError, UsageError

from ._console import Console
from ._eval_clips import ResultFile, check_free
from ._options import Json, Overwrite, Quiet, Root
from ._rater_page import names_of, serve_until_closed, warner

app = typer.Typer(no_args_is_help=True)
_PAGE = "Page"
_OUTPUT = "Output"

StudyFolder = Annotated[str, typer.Argument(metavar="STUDY", help="A folder that `cogvx eval human make` made.")]
Votes = Annotated[
    Path | None,
    typer.Option(
        "--db",
        "--database",
        metavar="FILE",
        show_default=False,
        help="SQLite file of the votes. Default: votes.sqlite in STUDY.",
    ),
]


@app.callback()
def human() -> None:
    r"""Let people judge clips blindly: rate each as in the CogVideoX paper's Table 4, or choose between two.

    \b
    Examples:
      cogvx eval human make ours=ours/ theirs=theirs/manifest.jsonl -o study
      cogvx eval human serve study --raters anna,ben
      cogvx eval human report study -o result.json --markdown result.md
    """


@app.command()
def make(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=MANIFEST|DIR...", help="Each system's name, and its clips: a manifest (JSONL) or a folder."
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", "--output-path", metavar="DIR", rich_help_panel=_OUTPUT, help="Folder of the study."
        ),
    ] = "study",
    mode: Annotated[
        Literal["rating", "pairwise"], typer.Option("--mode", help="Rate each clip, or choose between two.")
    ] = "rating",
    num_prompts: Annotated[
        int,
        typer.Option("--num-prompts", metavar="N", min=1, help="Prompts drawn from those that all systems have."),
    ] = 100,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of the prompts, the seats and the order.")
    ] = 0,
    both_seats: Annotated[
        bool,
        typer.Option("--both-seats", show_default=False, help="Pairwise: show each pair twice, the sides exchanged."),
    ] = False,
    root: Root = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    r"""Make a blind study of clips that several systems made to the same prompts.

    The clips are encoded anew (H.264, CRF 14), without their tags, under mixed names, so that nothing that a rater's
    browser gets tells the systems apart; study.json in the folder does, so keep it from raters. A prompt is an entry's
    `prompt`, else its `caption`; in a folder without manifest.jsonl, that of a clip's comment tag, else the file's
    name. Of several clips to one prompt the first is taken.

    \b
    Examples:
      cogvx eval human make ours=ours/ theirs=theirs/manifest.jsonl -o study
      cogvx eval human make a=a.jsonl b=b.jsonl c=c.jsonl -o study --mode pairwise --num-prompts 50
    """
    from cogvx.evaluation.human import make_study, read_system

    console = Console(quiet=quiet, json=json)
    if both_seats and mode != "pairwise":
        raise UsageError("--both-seats is for --mode pairwise")
    failed: list[str] = []

    def fail(place: str, error: CogvxError) -> None:
        failed.append(place)
        console.failure(place, error, str(error))

    systems = []
    for source in sources:
        name, equals, path = source.partition("=")
        if not equals or not name.strip() or not path:
            raise UsageError(f"{source}: write NAME=MANIFEST or NAME=DIR")
        systems.append(read_system(name.strip(), path, root=root, on_error=fail))
        if systems[-1].num_more:
            console.note(f"{name}: {systems[-1].num_more} further clips to the same prompts are left out")
    with console.progress("eval human make") as progress:
        study = make_study(
            systems,
            output,
            mode=mode,
            num_prompts=num_prompts,
            seed=seed,
            both_seats=both_seats,
            overwrite=overwrite,
            report=lambda done, total: progress("clip", done, total),
        )
    common = study.details["common_prompts"]
    console.note(
        f"{len(study.prompts)} of {common} common prompts, {len(study.systems)} systems, {len(study.items)} items"
    )
    record = {"output": output, "mode": mode, "prompts": len(study.prompts), "items": len(study.items)}
    console.result(output, record | {"systems": list(study.systems), "failed": len(failed)})
    if failed:
        raise typer.Exit(3)


@app.command()
def serve(
    study: StudyFolder,
    raters: Annotated[
        str,
        typer.Option(
            "--raters",
            metavar="LIST",
            rich_help_panel=_PAGE,
            help="Names of those who judge, a,b; each gets an address of their own.",
        ),
    ] = "rater",
    database: Votes = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            rich_help_panel=_PAGE,
            help="Where to listen; 0.0.0.0 lets other machines in, unencrypted.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, rich_help_panel=_PAGE, help="0 takes a free one.")
    ] = 8430,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    r"""Serve the page on which people judge a study, until Ctrl-C; the same command goes on where it ended.

    \b
    Examples:
      cogvx eval human serve study
      cogvx eval human serve study --raters anna,ben --port 0
    """
    from cogvx.evaluation.human import open_study_page

    console = Console(quiet=quiet, json=json)
    page = open_study_page(
        study, database=database, raters=names_of(raters), host=host, port=port, on_error=warner(console)
    )
    serve_until_closed(
        page, console, done_word="judged", after=f"`cogvx eval human report {study}` shows what was found"
    )


@app.command()
def report(
    study: StudyFolder,
    database: Votes = None,
    anchor: Annotated[
        str | None,
        typer.Option(
            "--anchor",
            metavar="NAME",
            show_default=False,
            help="The system whose rating is 1000. Default: the mean over systems is.",
        ),
    ] = None,
    num_resamples: Annotated[
        int, typer.Option("--num-resamples", metavar="N", min=100, max=100_000, help="Resamples of the intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the resamples.")] = 0,
    output: ResultFile = None,
    markdown: Annotated[
        str | None,
        typer.Option(
            "--markdown", metavar="FILE", rich_help_panel=_OUTPUT, show_default=False, help="Write the tables there."
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    r"""Evaluate the votes of a study: the paper's Table 4, a ranking with intervals, and how far raters agree.

    The ranking is Bradley and Terry's, not Elo's, so the order of the votes does not matter. There is none where no
    chain of votes connects two systems, or a system won or lost all; the report then says so. Intervals are those of
    prompts drawn again, 95 %. Agreement is Krippendorff's alpha: 1 is full agreement, 0 chance.

    \b
    Examples:
      cogvx eval human report study
      cogvx eval human report study -o result.json --markdown result.md
    """
    import json as json_format
    import sys

    from cogvx.evaluation.human import report_study
    from cogvx.files import write_text

    from ._outputs import write_stdout

    console = Console(quiet=quiet, json=json, silent_stdout=output == "-")
    for path in (output, markdown):
        check_free(path, overwrite)
    found = report_study(study, database=database, num_resamples=num_resamples, seed=seed, anchor=anchor)
    text = json_format.dumps(found.result, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    if found.result["value"]["ranking_refused"]:
        console.warn(found.result["value"]["ranking_refused"])
    if output == "-":
        write_stdout(text.encode())
    elif json:
        console.result("", {key: value for key, value in found.result.items() if key != "per_video"})
    else:
        sys.stdout.write(found.markdown)
    for path, content in ((output, text), (markdown, found.markdown)):
        if path not in (None, "-"):
            write_text(str(path), content, overwrite=overwrite)
            console.note(f"written to {path}")
