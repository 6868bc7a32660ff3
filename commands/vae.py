"""`cogvx vae`: clips to latents and back, and how much is lost on the way."""

from typing import Annotated, Any

import typer

from ._options import CoderFlags, Seed, with_flags

app = typer.Typer(no_args_is_help=True)

Clips = Annotated[list[str], typer.Argument(metavar="CLIP", help="Clips; - reads one from stdin.")]
LatentFiles = Annotated[list[str], typer.Argument(metavar="LATENTS", help="Latents files; - reads one from stdin.")]
Frames = Annotated[
    int | None,
    typer.Option(
        "--frames", "--num-frames", metavar="N", min=1, help="Use the first N frames: 8k + 1.", show_default=False
    ),
]
Height = Annotated[
    int | None,
    typer.Option(
        "--height", metavar="N", min=1, help="Resize and crop to this height, a multiple of 8.", show_default=False
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        "--width", metavar="N", min=1, help="Resize and crop to this width, a multiple of 8.", show_default=False
    ),
]


@app.callback()
def vae() -> None:
    r"""Encode clips, decode latents, measure what is lost.

    \b
    Examples:
      cogvx vae encode clip.mp4 -o clip.safetensors
      cogvx vae decode clip.safetensors -o again.mp4
      cogvx vae encode clip.mp4 -o - | cogvx vae decode - -o again.mp4
      cogvx vae roundtrip clips/*.mp4 --height 96 --width 144
    """


@app.command()
@with_flags(CoderFlags)
def encode(
    clips: Clips,
    frames: Frames = None,
    height: Height = None,
    width: Width = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw from the posterior instead of writing its mean.", show_default=False)
    ] = False,
    seed: Seed = 0,
    *,
    flags: CoderFlags,
) -> None:
    r"""Encode clips to latents (*.safetensors), cut to the nearest frame count 8k + 1.

    \b
    Examples:
      cogvx vae encode clip.mp4
      cogvx vae encode clips/*.mp4 --height 480 --width 720 -o latents/
      cogvx vae encode clip.mp4 -o - | cogvx vae decode - -o again.mp4
    """
    from ._vae import encode_clip, open_coder, run_batch

    coder = open_coder(flags)
    generator_seed = seed if sample else None

    def one(source: str) -> None:
        encode_clip(
            coder,
            source,
            count=len(clips),
            frames=frames,
            size=(height, width),
            seed=generator_seed,
            overwrite=flags.overwrite,
        )

    run_batch(coder, clips, one)


@app.command()
@with_flags(CoderFlags)
def decode(
    latents: LatentFiles,
    fps: Annotated[
        float | None,
        typer.Option("--fps", metavar="X", help="Default: what the latents file says.", show_default=False),
    ] = None,
    *,
    flags: CoderFlags,
) -> None:
    r"""Decode latents to clips.

    \b
    Examples:
      cogvx vae decode clip.safetensors
      cogvx vae decode latents/*.safetensors -o clips/ -m 5b
      cogvx vae decode clip.safetensors -o frames
    """
    from ._vae import decode_latents, open_coder, run_batch

    coder = open_coder(flags)

    def one(source: str) -> None:
        decode_latents(coder, source, count=len(latents), fps=fps, overwrite=flags.overwrite)

    run_batch(coder, latents, one)


@app.command()
@with_flags(CoderFlags)
def roundtrip(
    clips: Clips,
    frames: Frames = None,
    height: Height = None,
    width: Width = None,
    *,
    flags: CoderFlags,
) -> None:
    r"""Encode and decode clips, and print PSNR, SSIM, LPIPS and flicker of what comes back.

    With -o the decoded clips are written too. LPIPS needs an extra package; without it the column shows "-".

    \b
    Examples:
      cogvx vae roundtrip clip.mp4
      cogvx vae roundtrip clips/*.mp4 --frames 17 --height 96 --width 144 --json
      cogvx vae roundtrip clip.mp4 -m 5b --height 480 --width 720 -o again.mp4
    """
    from ._vae import open_coder, print_table, roundtrip_clip, run_batch

    coder = open_coder(flags, tabular=True)
    rows: list[dict[str, Any]] = []

    def one(source: str) -> None:
        rows.append(
            roundtrip_clip(
                coder, source, count=len(clips), frames=frames, size=(height, width), overwrite=flags.overwrite
            )
        )

    try:
        run_batch(coder, clips, one)
    finally:
        print_table(coder, rows)
