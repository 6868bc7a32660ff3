"""The work of `cogvx eval reconstruction`: clips through a VAE, or beside what became of them, and every measure."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cogvx.errors import InputError, UsageError

from ._eval_clips import ClipFile, NetworkFlags, cell, find_clips, shapes_of, start
from ._options import Dtype, Model, VAETiling

if TYPE_CHECKING:
    import numpy as np

Coded = Callable[["np.ndarray", ClipFile], "np.ndarray"]

_PAPER = (256, 17)  # CogVideoX, Table 2
_SHOWN = (
    *("psnr", "psnr_global", "ssim", "ms_ssim", "st_lpips", "lpips", "vmaf", "flicker", "flicker_source"),
    *("flicker_excess", "flicker_ratio", "flicker_reading_x1000", "flicker_reading_wrapped"),
)
_MEANING = {
    "psnr": "dB, mean over frames",
    "psnr_global": "dB, of the whole clip",
    "vmaf": "0 to 100",
    "flicker": "grey levels of 255",
    "flicker_source": "of the originals",
    "flicker_excess": "grey levels apart from the originals' changes",
    "flicker_ratio": "to the originals; 1 is right",
    "flicker_reading_x1000": "for the eye: 1000 x mean change on [-1, 1]",
    "flicker_reading_wrapped": "for the eye: changes of uint8 that wrap around",
}


@dataclass(frozen=True, kw_only=True)
class ReconstructionFlags(NetworkFlags):
    """The flags of eval reconstruction."""

    model: Model = None
    dtype: Dtype = None
    vae_tiling: VAETiling = None
    preset: Annotated[
        Literal["paper", "native"],
        typer.Option(
            "--preset",
            show_default=True,
            help="paper: the first 17 frames, cropped to 256x256 (CogVideoX, Table 2). native: as they are.",
        ),
    ] = "paper"
    size: Annotated[
        int | None, typer.Option("--size", metavar="N", min=16, show_default=False, help="Cover and crop to NxN.")
    ] = None
    frames: Annotated[
        int | None,
        typer.Option("--frames", "--num-frames", metavar="N", min=1, show_default=False, help="The first N frames."),
    ] = None
    lpips: Annotated[
        bool, typer.Option("--lpips", help="Measure LPIPS too; its package fetches a network on first use.")
    ] = False
    vmaf: Annotated[bool, typer.Option("--vmaf", help="Measure VMAF too (extra vmaf); it needs 128x128 pixels.")] = (
        False
    )
    st_lpips: Annotated[
        bool, typer.Option("--st-lpips/--no-st-lpips", help="Measure ST-LPIPS, if its package is here.")
    ] = True
    sample_posterior: Annotated[
        int | None,
        typer.Option(
            "--sample-posterior",
            metavar="SEED",
            min=0,
            show_default=False,
            help="Decode a sample of the posterior instead of its mean.",
        ),
    ] = None


def measure(source: str, decoded: str | None, flags: ReconstructionFlags) -> None:
    """Measure clips that go through a VAE, or beside what became of them; errors are those of find_clips.

    Raises:
        UsageError: Flags that exclude each other, or a size that the VAE cannot do.
    """
    from cogvx.evaluation.reconstruction import HOW, open_measures
    from cogvx.evaluation.result import Result
    from cogvx.metrics.reconstruction import from_frames

    session = start(flags)
    given = (flags.model, flags.dtype, flags.vae_tiling, flags.sample_posterior)
    if decoded is not None and any(value is not None for value in given):
        raise UsageError("DECODED is there already: --model and what belongs to it go not with it")
    size, count = _PAPER if flags.preset == "paper" else (None, None)
    size, count = flags.size or size, flags.frames or count
    clips = find_clips(source, session)
    code, system = _coder(flags) if decoded is None else _pairs(clips, find_clips(decoded, session), size, count)
    measures = open_measures(with_st_lpips=flags.st_lpips, with_lpips=flags.lpips, with_vmaf=flags.vmaf)
    for name, reason in measures.missing.items():
        session.console.note(f"{name} is not measured: {reason}")
    shapes: Counter[str] = Counter()

    def work(clip: ClipFile) -> dict[str, Any]:
        before = _read(clip, size, count, period=system.get("frame_period"))
        found = measures.of(from_frames(before), from_frames(code(before, clip)))
        t, h, w, _ = before.shape
        shapes[f"{t}x{h}x{w}"] += 1
        record = {"input": clip.name, "value": found["psnr"], **found}
        if session.console.json:
            session.console.result("", record)
        return record

    per_video = list(session.each("eval reconstruction", clips, work))
    if not per_video:
        raise InputError(f"{source}: no clip could be measured")
    means, counts = _means(per_video)
    result = Result(
        metric="reconstruction",
        value=means,
        n=len(per_video),
        per_video=per_video,
        protocol={
            **{key: how for key, how in HOW.items() if key in means or key == "values"},
            "preset": flags.preset,
            "from": "first frame, stride 1",
            "crop": "none" if size is None else f"Lanczos to cover {size}x{size}, centre",
            "frames": count or "all that fit",
            "set": {"system": system, "clips": shapes_of(shapes)},
        },
        backend=measures.backend(),
        failed=session.failed,
        more={"measured": counts},
    )
    rows = [[name, cell(means[name]), str(counts[name]), _MEANING.get(name, "")] for name in _SHOWN if name in means]
    session.finish(result, rows, ["measure", "mean", "clips", ""])


def _read(clip: ClipFile, size: int | None, count: int | None, *, period: int | None) -> "np.ndarray":
    """Return the frames of a clip that are measured; with a VAE's period a legal number of them.

    Raises:
        InputError: It cannot be read, or is too short.
    """
    from cogvx.data.video import read_clip, resize_crop

    span = clip.span
    frames = read_clip(clip.path, max_frames=count, start=span["start"], end=span["end"]).frames
    if count is not None and len(frames) < count:
        raise InputError(f"{clip.name}: has {len(frames)} frames, fewer than {count}")
    if period is not None:
        frames = frames[: (len(frames) - 1) // period * period + 1]
    return frames if size is None else resize_crop(frames, size, size)


def _coder(flags: ReconstructionFlags) -> tuple[Coded, dict[str, Any]]:
    """Return what sends frames through a model's VAE, and which it is.

    Raises:
        UsageError: The model is not known.
    """
    from cogvx.data.video import to_video
    from cogvx.presets import resolve

    from ._options import CoderFlags, model_name
    from ._vae import open_coder

    about = CoderFlags(
        model=flags.model, device=flags.device, dtype=flags.dtype, vae_tiling=flags.vae_tiling, quiet=flags.quiet
    )
    coder = open_coder(about, tabular=True)
    seed = flags.sample_posterior

    def code(frames: "np.ndarray", clip: ClipFile) -> "np.ndarray":
        import torch

        t, height, width, _ = frames.shape
        if height % coder.rules.multiple or width % coder.rules.multiple:
            raise InputError(f"{clip.name}: frames of {width}x{height} are not multiples of {coder.rules.multiple}")
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        tiled = coder.tiled(height, width, t)
        latents = coder.codec.encode(to_video(frames), sample=generator, tiled=tiled)
        return coder.codec.decode(latents, tiled=tiled)[:t]

    backend = {
        "name": f"VAE of {coder.model}",
        "sha256": _vae_sha256(resolve(model_name(flags.model))),
        "dtype": str(coder.codec.runtime.dtype).removeprefix("torch."),
        "tiling": flags.vae_tiling or "auto",
        "posterior": "mean" if seed is None else f"sample, seed {seed}",
        "frame_period": coder.rules.frame_period,
    }
    return code, backend


def _vae_sha256(resolved: Any) -> str:
    from cogvx.checkpoints.diffusers import open_model
    from cogvx.checkpoints.hashes import weights_sha256

    return weights_sha256(open_model(resolved.path, shared=dict(resolved.shared)).components["vae"])


def _pairs(
    clips: list[ClipFile], decoded: list[ClipFile], size: int | None, count: int | None
) -> tuple[Coded, dict[str, Any]]:
    """Return what finds the clip that became of one: of the same file name without suffix.

    Raises:
        UsageError: Two have one name.
    """
    by_name = {Path(clip.name).stem: clip for clip in decoded}
    for group in (clips, decoded):
        twice = [name for name, times in Counter(Path(clip.name).stem for clip in group).items() if times > 1]
        if twice:
            raise UsageError(f"several clips are called {twice[0]}: originals and decoded ones are paired by name")

    def find(frames: "np.ndarray", clip: ClipFile) -> "np.ndarray":
        other = by_name.get(Path(clip.name).stem)
        if other is None:
            raise InputError(f"{clip.name}: no decoded clip of that name")
        return _read(other, size, count, period=None)  # without a count, another length is an error of the measures

    return find, {"name": "clips that were decoded elsewhere"}


def _means(per_video: list[dict[str, Any]]) -> tuple[dict[str, float], dict[str, int]]:
    """Return the mean of each measure over the clips that have it, and how many do."""
    means, counts = {}, {}
    for name in _SHOWN:
        values = [record[name] for record in per_video if name in record]
        if values:
            means[name], counts[name] = sum(values) / len(values), len(values)
    return means, counts
