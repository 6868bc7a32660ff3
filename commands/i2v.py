"""`cogvx i2v`: an image and a prompt to a clip."""

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ._options import GenerateFlags, with_flags

if TYPE_CHECKING:
    import numpy as np

    from cogvx.generate.provenance import UsedFile

    from ._generate import Start
    from ._plan import Planned, Session


@with_flags(GenerateFlags)
def i2v(
    image: Annotated[
        str | None, typer.Argument(metavar="IMAGE", help="The first frame; - reads it from stdin.", show_default=False)
    ] = None,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What happens in the clip.", show_default=False)
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="FILE.jsonl",
            help="Rows with image (relative to the file) and prompt, for many clips.",
            show_default=False,
        ),
    ] = None,
    image_latent_scale: Annotated[
        Literal["auto", "scaled", "inverse", "raw"] | None,
        typer.Option(
            "--image-latent-scale",
            help="What the image's latents are multiplied by: the VAE's scaling factor, its reciprocal, or one. "
            "Default: auto, as the VAE's configuration says and diffusers does; SAT samples 1.5 with raw.",
            show_default=False,
            rich_help_panel="Diffusion",
        ),
    ] = None,
    *,
    flags: GenerateFlags,
) -> None:
    r"""Make a clip that starts with an image.

    The image is resized to the clip's size, whatever that does to its proportions: give --height and --width to keep
    them.

    \b
    Examples:
      cogvx i2v photo.png "the boat sails away to the right"
      cogvx i2v photo.png "the boat sails away" -m 5b-i2v -o boat.mp4
      cogvx i2v --prompts images.jsonl -o clips/
      cogvx i2v photo.png "the boat sails away" -m 5b-i2v --upsample --lm-url http://localhost:8000/v1
    """
    from cogvx.errors import UsageError

    from ._console import quiet_libraries
    from ._generate import make_clips
    from ._jobs import Job, read_jobs
    from ._plan import open_session, plan_clips

    quiet_libraries(flags.verbose)
    if prompts is None and image is None:
        raise UsageError("an IMAGE and a PROMPT are needed, or --prompts FILE.jsonl (see `cogvx i2v --help`)")
    if prompts is not None and image is not None:
        raise UsageError("give either IMAGE and PROMPT, or --prompts")
    settings: dict[str, Any] = {"image_latent_scale": image_latent_scale} if image_latent_scale else {}
    if prompts is not None:
        jobs = read_jobs([], prompts, with_image=True)
        jobs = [replace(job, settings=settings | job.settings) for job in jobs]
    else:
        jobs = [Job(prompt or str(image), prompt, settings, image)]
    session = open_session("i2v", flags, default_model="tiny-i2v", many=prompts is not None)
    read = lru_cache(maxsize=1)(_read)  # stdin can be read once, and --upsample looks at the image too
    make_clips(
        session,
        plan_clips(session, jobs),
        lambda item: _start(item, session, *read(str(item.job.image))),
        look=lambda item: read(str(item.job.image))[0],
    )


def _read(source: str) -> "tuple[np.ndarray, UsedFile]":
    from cogvx.data.video import read_image

    from ._generate import used

    return used(source, read_image, "image")


def _start(item: "Planned", session: "Session", pixels: "np.ndarray", about: "UsedFile") -> "Start":
    from cogvx.data.video import resize_exact, to_video

    from ._generate import Start, note_stretch
    from ._plan import compare_input

    compare_input(session, "image", about)
    note_stretch(session, about.name, pixels.shape[:2], item.options)
    video = to_video(resize_exact(pixels[None], item.options.height, item.options.width))
    return Start(image=video[:, 0], inputs={"image": about})
