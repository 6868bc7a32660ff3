"""`cogvx sample`: prompts to clips."""

from typing import Annotated

import typer

from ._options import GenerateFlags, with_flags


@with_flags(GenerateFlags)
def sample(
    prompt: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", help="What to show; - reads prompts from stdin.", show_default=False),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="Prompts, one a line (.txt), or rows with prompt, seed, frames, height, width, steps, guidance, "
            "negative_prompt, output (.jsonl).",
            show_default=False,
        ),
    ] = None,
    *,
    flags: GenerateFlags,
) -> None:
    r"""Make a clip from each prompt.

    The defaults are the model's own. A seed gives the same clip whatever else is made in the same call, and a batch
    that runs again makes only what is missing.

    \b
    Examples:
      cogvx sample "a red star moves to the right over a green field"
      cogvx sample "a boat on the sea" -m 5b --seed 7 -o boat.mp4
      cogvx sample --prompts prompts.jsonl -o clips/ --json
      cogvx sample --like boat.mp4 --seed 8 -o boat-8.mp4
      cogvx sample "a boat on the sea" -m 5b --upsample --lm-url http://localhost:8000/v1
      cogvx sample "a boat on the sea" -m 1.5-5b --dry-run
    """
    from ._console import quiet_libraries
    from ._generate import Start, make_clips
    from ._jobs import Job, read_jobs
    from ._plan import open_session, plan_clips

    quiet_libraries(flags.verbose)
    jobs = read_jobs(prompt or [], prompts)
    session = open_session("sample", flags, default_model="tiny", many=prompts is not None or prompt == ["-"])
    if not jobs:
        jobs = [Job(session.like.get("prompt") or "", None)]
    make_clips(session, plan_clips(session, jobs), lambda item: Start())
