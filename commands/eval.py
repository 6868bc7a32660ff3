"""`cogvx eval`: how good clips are, in numbers that say how they were measured."""

from typing import Annotated

import typer

from ._options import Json, Overwrite, Quiet, Root, Verbose

app = typer.Typer(no_args_is_help=True)


@app.callback()
def evaluate() -> None:
    r"""Measure clips.

    \b
    Examples:
      cogvx eval storyboard world/manifest.jsonl
      cogvx eval storyboard clips/ -o result.json
    """


@app.command()
def storyboard(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST|DIR", help="A manifest (JSONL; - reads one from stdin), or a folder of generated clips."
        ),
    ],
    root: Root = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            "--output-path",
            metavar="FILE",
            rich_help_panel="Output",
            show_default=False,
            help="Write the result as JSON, with every clip's verdict; - for stdout.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    r"""Judge clips of Storyboard, the synthetic world: do they show what they were asked to?

    Scene, style, camera, the number of objects, and of each object its kind, colour, size and action are read off the
    pixels alone, by drawing everything that the world can show and keeping what explains the clip best. They are
    compared with the entry's `prompt`, else its `truth`, else its `caption`; in a folder without manifest.jsonl, with
    the prompt in each clip's comment tag. A prompt must be worded as the captions of `cogvx data synth` are; what it
    leaves open is not scored, but for the style (then flat) and the camera (then still).

    accuracy is the share of what was asked for that was right, with its 95 % interval. margin says how clearly: the
    score of what was asked for less the best other one's, as a share of the larger, from -1 to 1; it moves before the
    accuracy does. fit (in the JSON) is how much of the pixels agree with the object seen, 0 to 1. Clips that leave
    doubts are counted. Clips that cannot be judged are no part of the numbers, and end the command with 3.

    \b
    Examples:
      cogvx eval storyboard world/manifest.jsonl
      cogvx sample --prompts prompts.txt -o clips/ && cogvx eval storyboard clips/ -o result.json
      cogvx eval storyboard clips/ --json
    """
    from ._console import Console
    from ._eval_storyboard import judge_all

    console = Console(quiet, verbose, json, silent_stdout=output == "-")
    judge_all(source, console, root=root, output=output, overwrite=overwrite)
