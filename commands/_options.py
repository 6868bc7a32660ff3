"""Options that several commands share, each with all the names that the field uses for it."""

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from cogvx.errors import UsageError

from ._language import UpsampleFlags

_CLIP, _DIFFUSION, _MACHINE, _OUTPUT = "Clip", "Diffusion", "Machine", "Output"

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def _dtype(value: str | None) -> str | None:
    if value is None:
        return None
    value = DTYPES.get(value, value)
    if value not in ("auto", "bf16", "fp16", "fp32"):
        raise UsageError(f"--dtype {value}: expected auto, bf16, fp16 or fp32")
    return value


def _option(*names: str, panel: str | None = None, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, show_default=settings.pop("show_default", False), **settings)


Model = Annotated[
    str | None,
    _option(
        "--model",
        "-m",
        "--model-path",
        metavar="NAME|DIR|REPO",
        help="A name of `cogvx models list`, a folder in the diffusers or SAT layout, or a repository id. "
        "Default: $COGVX_MODEL, else the embedded model.",
    ),
]
Output = Annotated[
    str | None,
    _option(
        "--output",
        "-o",
        "--output-path",
        metavar="PATH",
        panel=_OUTPUT,
        help="A file (.mp4 .gif .webp .webm .mkv; no suffix: a folder of PNGs), a folder that exists or ends in / "
        "(clips are named after their prompts), or - for stdout.",
    ),
]
PlainOutput = Annotated[
    str | None,
    _option("--output", "-o", "--output-path", metavar="PATH", panel=_OUTPUT, help="A file, a folder, or -."),
]
Root = Annotated[
    str | None,
    _option("--root", metavar="DIR", help="What the manifest's paths must stay inside. Default: its folder."),
]
Sizes = Annotated[
    str | None,
    _option(
        "--sizes",
        metavar="HxW,...",
        panel=_CLIP,
        help="Heights and widths in pixels; a clip gets the one of nearest aspect that it can fill. "
        "Default: the model's own.",
    ),
]
MaxFrames = Annotated[
    int | None,
    _option(
        "--max-frames",
        "--frames",
        "--num-frames",
        metavar="N",
        min=1,
        panel=_CLIP,
        help="Longest length, 8k + 1; shorter clips get a shorter one. Default: the model's own.",
    ),
]
Rate = Annotated[
    float | None,
    _option(
        "--fps",
        metavar="X",
        min=0.01,
        max=1000.0,
        panel=_CLIP,
        help="Frames a second, taken by the clip's own timestamps. Default: the model's own.",
    ),
]
MaxUpscale = Annotated[
    float,
    _option(
        "--max-upscale",
        metavar="X",
        min=1.0,
        panel=_CLIP,
        help="Enlarge smaller clips, at most so much.",
        show_default=True,
    ),
]
Overwrite = Annotated[
    bool, _option("--overwrite", panel=_OUTPUT, help="Replace outputs that exist; else they are kept.")
]
Json = Annotated[bool, _option("--json", panel=_OUTPUT, help="Print one JSON object a line for each result.")]
Quiet = Annotated[bool, _option("--quiet", "-q", panel=_OUTPUT, help="Print warnings and errors only.")]
Verbose = Annotated[bool, _option("--verbose", "-v", panel=_OUTPUT, help="Print what is loaded and chosen.")]
Seed = Annotated[int, _option("--seed", metavar="N", min=0, help="Seed of the noise.", show_default=True)]
Dtype = Annotated[
    str | None,
    _option(
        "--dtype",
        metavar="auto|bf16|fp16|fp32",
        callback=_dtype,
        panel=_MACHINE,
        help="Precision of the weights. Default: fp32 on the CPU, the model's own elsewhere.",
    ),
]
Device = Annotated[
    str | None, _option("--device", metavar="auto|cpu|cuda[:n]|mps", panel=_MACHINE, help="Where to compute.")
]
VAETiling = Annotated[
    Literal["auto", "on", "off"] | None,
    _option(
        "--vae-tiling",
        panel=_MACHINE,
        help="Encode and decode in blended tiles: less memory, slightly other numbers. Default: on for large frames.",
    ),
]
AllowPickle = Annotated[
    bool,
    _option("--allow-pickle", panel=_MACHINE, help="Read weights from pickle files (.pt .bin .ckpt), weights only."),
]
DryRun = Annotated[
    bool,
    _option("--dry-run", panel=_OUTPUT, help="Check everything, print sizes, memory, time and disk; write nothing."),
]


def model_name(given: str | None, *, default: str = "tiny") -> str:
    """Return the model to take: the flag's, else that of the environment, else the default."""
    return given or os.environ.get("COGVX_MODEL") or default


@dataclass(frozen=True, kw_only=True)
class GenerateFlags(UpsampleFlags):
    """The flags of sample, i2v and v2v; None and empty mean "not given", so that --like and the model can decide."""

    model: Model = None
    output: Output = None
    frames: Annotated[
        int | None,
        _option("--frames", "--num-frames", metavar="N", min=1, panel=_CLIP, help="Frames of the clip: 8k + 1."),
    ] = None
    height: Annotated[
        int | None, _option("--height", metavar="N", min=1, panel=_CLIP, help="Pixels, a multiple of 16.")
    ] = None
    width: Annotated[
        int | None, _option("--width", metavar="N", min=1, panel=_CLIP, help="Pixels, a multiple of 16.")
    ] = None
    fps: Annotated[
        float | None,
        _option(
            "--fps", metavar="X", min=0.01, panel=_CLIP, help="Frames a second of the file; not seen by the model."
        ),
    ] = None
    num_videos: Annotated[
        int | None,
        _option(
            "--num-videos",
            "--num-videos-per-prompt",
            metavar="N",
            min=1,
            panel=_CLIP,
            help="Clips a prompt; clip i has seed + i.",
        ),
    ] = None
    upsample: Annotated[
        bool | None,
        _option(
            "--upsample/--no-upsample",
            panel=_DIFFUSION,
            help="Rewrite prompts before they are used, as `cogvx upsample` does; the clip records both.",
        ),
    ] = None
    negative_prompt: Annotated[
        str | None,
        _option("--negative-prompt", metavar="TEXT", panel=_DIFFUSION, help="What the clip should not show."),
    ] = None
    seed: Annotated[
        int | None, _option("--seed", metavar="N", min=0, panel=_DIFFUSION, help="Seed of the noise. Default: 0.")
    ] = None
    steps: Annotated[
        int | None,
        _option(
            "--steps", "--num-inference-steps", metavar="N", min=1, max=1000, panel=_DIFFUSION, help="Denoising steps."
        ),
    ] = None
    guidance: Annotated[
        float | None,
        _option(
            "--guidance",
            "--guidance-scale",
            metavar="X",
            min=0.0,
            panel=_DIFFUSION,
            help="How strongly to follow the prompt; 1: off.",
        ),
    ] = None
    dynamic_guidance: Annotated[
        Literal["off", "official", "smooth"] | None,
        _option(
            "--dynamic-guidance",
            panel=_DIFFUSION,
            help="Change guidance over the steps: as the official code does (it oscillates), or as a smooth ramp.",
        ),
    ] = None
    scheduler: Annotated[Literal["ddim", "dpm"] | None, _option("--scheduler", panel=_DIFFUSION, help="Sampler.")] = (
        None
    )
    latents: Annotated[
        Path | None,
        _option("--latents", metavar="FILE", panel=_DIFFUSION, help="Start from this noise (a latents file)."),
    ] = None
    lora: Annotated[
        list[str],
        _option("--lora", "--lora-path", metavar="FILE[:WEIGHT]", panel=_DIFFUSION, help="Add a LoRA; repeatable."),
    ] = field(default_factory=list)
    like: Annotated[
        str | None,
        _option("--like", metavar="CLIP", panel=_DIFFUSION, help="Repeat what made CLIP; other flags override."),
    ] = None
    dtype: Dtype = None
    device: Device = None
    attention: Annotated[
        Literal["auto", "sdpa", "flash", "reference"] | None,
        _option("--attention", panel=_MACHINE, help="Attention kernel."),
    ] = None
    memory: Annotated[
        Literal["auto", "none", "model", "layer"] | None,
        _option(
            "--memory",
            panel=_MACHINE,
            help="Where weights wait: all loaded (none), one part at a time (model), one layer at a time (layer).",
        ),
    ] = None
    vae_tiling: VAETiling = None
    allow_pickle: AllowPickle = False
    output_type: Annotated[
        Literal["video", "latents"] | None,
        _option("--output-type", panel=_OUTPUT, help="Write a clip, or its latents."),
    ] = None
    no_metadata: Annotated[
        bool, _option("--no-metadata", panel=_OUTPUT, help="Do not record in the clip how it was made.")
    ] = False
    overwrite: Overwrite = False
    dry_run: DryRun = False
    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class CoderFlags:
    """The flags of the vae commands."""

    model: Model = None
    device: Device = None
    dtype: Dtype = None
    vae_tiling: VAETiling = None
    allow_pickle: AllowPickle = False
    output: PlainOutput = None
    overwrite: Overwrite = False
    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False


Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def with_flags(kind: type) -> Decorator:
    """Give a command the fields of a dataclass as options; it receives an object of it as its argument `flags`."""
    return lambda command: _with_flags(command, kind)


def _with_flags(command: Callable[..., None], kind: Any) -> Callable[..., None]:
    hints = get_type_hints(kind, include_extras=True)
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "flags"]
    shared = [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=[] if item.name == "lora" else item.default,
            annotation=hints[item.name],
        )
        for item in fields(kind)
    ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        flags = kind(**{parameter.name: values.pop(parameter.name) for parameter in shared})
        command(**values, flags=flags)

    parameters = [*own, *shared]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what typer reads
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
