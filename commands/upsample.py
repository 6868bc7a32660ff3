"""`cogvx upsample`: short prompts to long ones."""

from typing import Annotated

import typer

from ._language import UpsampleFlags
from ._options import Json, Overwrite, Quiet, with_flags


@with_flags(UpsampleFlags)
def upsample(
    prompt: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", help="What to rewrite; - reads prompts from stdin.", show_default=False),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="Prompts, one a line (.txt), or rows with prompt and, for i2v, image (.jsonl); - for stdin.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            metavar="FILE",
            help="The picture that the clips begin with, for models that see.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            "--model-path",
            metavar="NAME|DIR|REPO",
            show_default=False,
            help="The video model that the prompts are for: its tokenizer measures them. Default: words are counted.",
        ),
    ] = None,
    print_preset: Annotated[
        bool, typer.Option("--print-preset", help="Print the TOML of --preset to be edited; ask nothing.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            "--output-path",
            metavar="FILE.jsonl",
            rich_help_panel="Output",
            show_default=False,
            help="A file of rows for `cogvx sample --prompts`; one that exists is added to. Default: stdout.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    *,
    flags: UpsampleFlags,
) -> None:
    r"""Rewrite prompts as the long descriptions that video models are trained on.

    A language model is asked, with examples; its answer must be one English paragraph of the right length, else it is
    asked again, and then the prompt has failed. Lines give lines, rows give rows that keep their other keys.

    \b
    Examples:
      cogvx upsample "a boat on the sea" --lm-url http://localhost:8000/v1
      cogvx upsample --prompts prompts.jsonl -o long.jsonl --lm transformers --lm-model smollm2 --preset small
      cogvx upsample - < prompts.txt > long.txt
      cogvx upsample "it sails away" --image boat.png
      cogvx upsample "a huge golden ball" --lm storyboard
      cogvx upsample --print-preset > mine.toml
    """
    from ._upsample import Sources, print_a_preset, upsample_prompts

    if print_preset:
        print_a_preset(flags.preset or "t2v")
        return
    upsample_prompts(
        Sources(prompt or [], prompts, image),
        flags,
        model=model,
        output=output,
        overwrite=overwrite,
        as_json=json,
        quiet=quiet,
    )
