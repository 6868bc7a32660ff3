"""The work of `cogvx vae`: one clip or latents file at a time."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cogvx.errors import InputError, UsageError

from . import _errors
from ._console import Console, quiet_libraries
from ._options import CoderFlags, model_name
from ._outputs import CLIP_SUFFIXES, LATENT_SUFFIXES, Place, place, write_stdout

if TYPE_CHECKING:
    import numpy as np

    from cogvx.data.video import Clip
    from cogvx.generate.codec import Codec
    from cogvx.generate.sizes import SizeRules


@dataclass(frozen=True)
class Coder:
    """What all files of one call share.

    Attributes:
        console: Where words go.
        codec: The VAE.
        rules: Sizes that it can do.
        model: What the model is called.
        output: The value of --output.
        tiling: "on", "off" or None for automatic.
    """

    console: Console
    codec: "Codec"
    rules: "SizeRules"
    model: str
    output: str | None
    tiling: str | None

    def tiled(self, height: int, width: int, num_frames: int) -> bool:
        """Whether frames of this size are coded in tiles."""
        from cogvx.generate.estimate import needs_tiles
        from cogvx.generate.options import GenerateOptions

        if self.tiling in ("on", "off"):
            return self.tiling == "on"
        options = GenerateOptions(prompt="", height=height, width=width, num_frames=num_frames)
        return needs_tiles(options, vae=self.codec.config)


def open_coder(flags: CoderFlags, *, tabular: bool = False) -> Coder:
    """Find a model and prepare its VAE; its weights are read when the first file needs them.

    Args:
        flags: As given.
        tabular: Whether the command prints a table, so that -o - does not silence it.
    """
    from cogvx.checkpoints.diffusers import open_model
    from cogvx.generate.codec import Codec
    from cogvx.generate.options import Runtime, choose_device, choose_dtype
    from cogvx.generate.sizes import SizeRules
    from cogvx.models.vae import CausalVAE
    from cogvx.presets import read_defaults, resolve

    quiet_libraries(flags.verbose)
    console = Console(flags.quiet, flags.verbose, flags.json, silent_stdout=flags.output == "-" and not tabular)
    resolved = resolve(model_name(flags.model), announce=console.note)
    folder = open_model(resolved.path, shared=dict(resolved.shared), allow_pickle=flags.allow_pickle)
    chosen = choose_device(flags.device)
    precision = choose_dtype(flags.dtype, device=chosen, native=read_defaults(folder.configs).dtype)
    kept: list[CausalVAE] = []

    def load() -> CausalVAE:
        if not kept:
            kept.append(folder.load_vae(dtype=precision, device=chosen))
        return kept[0]

    codec = Codec(load, folder.vae_config, Runtime(device=chosen, dtype=precision))
    return Coder(console, codec, SizeRules.of(folder.vae_config), resolved.name, flags.output, flags.vae_tiling)


def run_batch(coder: Coder, sources: list[str], one: Callable[[str], None]) -> None:
    """Do one file after another; a bad one does not stop the others.

    Raises:
        typer.Exit: With 3, when some of several failed.
    """
    failed = 0
    for source in sources:
        try:
            one(source)
        except Exception as error:
            _, message = _errors.describe(error)
            if len(sources) == 1 or message is None or _errors.is_disk_full(error):
                raise
            coder.console.failure(source, error, message)
            failed += 1
    if failed:
        raise typer.Exit(3)


def encode_clip(
    coder: Coder,
    source: str,
    *,
    count: int,
    frames: int | None,
    size: tuple[int | None, int | None],
    seed: int | None,
    overwrite: bool,
) -> None:
    """Encode one clip and write its latents."""
    import torch

    from cogvx.data.latents import latents_bytes, save_latents
    from cogvx.data.video import to_video

    where = place(
        _beside(coder.output, source),
        Path(source).stem,
        count=count,
        many=count > 1,
        suffixes=LATENT_SUFFIXES,
        plain=False,
    )
    if _kept(coder, where, source, overwrite):
        return
    clip, pixels = read_fitting(coder, source, frames=frames, size=size)
    t, height, width, _ = pixels.shape
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    latents = coder.codec.encode(to_video(pixels), sample=generator, tiled=coder.tiled(height, width, t))
    name = "stdin" if source == "-" else Path(source).name
    about: dict[str, Any] = {"model": coder.model, "fps": clip.fps, "num_frames": t, "height": height, "width": width}
    if where.path is None:
        write_stdout(latents_bytes(latents, **about, source=name))
    else:
        save_latents(where.path, latents, **about, source=name, overwrite=overwrite)
    coder.console.result(
        where.path, {"output": str(where.path), "input": source, "shape": list(latents.shape), **about}
    )


def decode_latents(coder: Coder, source: str, *, count: int, fps: float | None, overwrite: bool) -> None:
    """Decode one latents file and write its clip."""
    from cogvx.data.latents import load_latents
    from cogvx.data.video import frames_sha256

    where = place(_beside(coder.output, source), Path(source).stem, count=count, many=count > 1, suffixes=CLIP_SUFFIXES)
    if _kept(coder, where, source, overwrite):
        return
    latents, info = load_latents(sys.stdin.buffer.read() if source == "-" else source)
    channels = coder.codec.config.latent_channels
    if latents.shape[0] != channels:
        raise InputError(f"{source}: latents of {latents.shape[0]} channels; {coder.model} has {channels}")
    ratio = coder.rules.spatial_ratio
    height, width = latents.shape[2] * ratio, latents.shape[3] * ratio
    frames = coder.codec.decode(latents, tiled=coder.tiled(height, width, info.num_frames))
    if len(frames) != info.num_frames:
        coder.console.note(
            f"{source}: {latents.shape[1]} latent frames decode to {len(frames)} frames, not {info.num_frames}"
        )
    rate = fps or info.fps
    _write_clip(coder, where, frames, rate, overwrite=overwrite)
    record = {"output": str(where.path), "input": source, "num_frames": len(frames), "height": height, "width": width}
    coder.console.result(where.path, {**record, "fps": rate, "frames_sha256": frames_sha256(frames)})


def roundtrip_clip(
    coder: Coder, source: str, *, count: int, frames: int | None, size: tuple[int | None, int | None], overwrite: bool
) -> dict[str, Any]:
    """Encode and decode one clip, write it if asked, and return what was lost."""
    from cogvx.data.video import to_video

    from ._measure import measure

    clip, pixels = read_fitting(coder, source, frames=frames, size=size)
    t, height, width, _ = pixels.shape
    tiled = coder.tiled(height, width, t)
    decoded = coder.codec.decode(coder.codec.encode(to_video(pixels), tiled=tiled), tiled=tiled)
    record: dict[str, Any] = {"input": source, "model": coder.model, "num_frames": t, "height": height, "width": width}
    record |= measure(pixels, decoded, coder.console)
    if coder.output is not None:
        where = place(coder.output, Path(source).stem, count=count, many=count > 1, suffixes=CLIP_SUFFIXES)
        if not _kept(coder, where, source, overwrite, quietly=True):
            _write_clip(coder, where, decoded, clip.fps, overwrite=overwrite)
        record["output"] = str(where.path)
    if coder.console.json:
        coder.console.result("", record)
    return record


def print_table(coder: Coder, rows: list[dict[str, Any]]) -> None:
    """Print the results of roundtrip as a table, with the means below when there are several."""
    if not rows or coder.console.json:
        return
    columns = ("psnr", "ssim", "lpips", "flicker", "flicker_source")
    table = [
        [row["input"], f"{row['num_frames']}x{row['height']}x{row['width']}", *(_cell(row[c]) for c in columns)]
        for row in rows
    ]
    if len(rows) > 1:
        means = [_mean([row[c] for row in rows]) for c in columns]
        table.append([f"mean of {len(rows)}", "", *(_cell(value) for value in means)])
    coder.console.table(table, header=["clip", "t x h x w", "PSNR dB", "SSIM", "LPIPS", "flicker", "of source"])


def read_fitting(
    coder: Coder, source: str, *, frames: int | None, size: tuple[int | None, int | None]
) -> "tuple[Clip, np.ndarray]":
    """Read a clip, cut to a legal frame count and, if a size is asked for, resized and cropped to it.

    Returns:
        The clip as read, and its frames uint8 (t h w 3) as the VAE takes them.

    Raises:
        UsageError: The size asked for is not possible.
        InputError: The clip's own size is not, or it is too short.
    """
    from cogvx.data.video import read_clip, resize_crop

    rules = coder.rules
    if frames is not None:
        rules.check(height=rules.multiple, width=rules.multiple, num_frames=frames)
    clip = read_clip(source, max_frames=frames)
    t, h, w, _ = clip.frames.shape
    if frames is not None and t < frames:
        raise InputError(f"{source}: has {t} frames, fewer than --frames {frames}; nearest: {rules.floor_frames(t)}")
    kept = rules.floor_frames(t)
    if kept != t:
        coder.console.note(
            f"{source}: the first {kept} of {t} frames are used, as {rules.frame_period}k + 1 are possible"
        )
    pixels = clip.frames[:kept]
    if size != (None, None):
        height, width = size[0] or rules.floor_size(h), size[1] or rules.floor_size(w)
        rules.check(height=height, width=width, num_frames=kept)
        return clip, resize_crop(pixels, height, width)
    if h % rules.multiple or w % rules.multiple:
        raise InputError(
            f"{source}: frames of {w}x{h} are not multiples of {rules.multiple}; "
            f"nearest: --height {rules.floor_size(h)} --width {rules.floor_size(w)}"
        )
    return clip, pixels


def _write_clip(coder: Coder, where: Place, frames: "np.ndarray", fps: float, *, overwrite: bool) -> None:
    from cogvx.data.video import encode_clip_bytes, write_clip

    if where.path is None:
        write_stdout(encode_clip_bytes(frames, fps, suffix=where.suffix))
    else:
        write_clip(where.path, frames, fps, overwrite=overwrite)


def _kept(coder: Coder, where: Place, source: str, overwrite: bool, *, quietly: bool = False) -> bool:
    if overwrite or not where.exists:
        return False
    coder.console.note(f"{where.path} exists and is kept; --overwrite replaces it")
    if not quietly:
        coder.console.result(where.path, {"output": str(where.path), "input": source, "skipped": True})
    return True


def _beside(output: str | None, source: str) -> str | None:
    """Without --output, results go to the working folder; what came from stdin needs a place."""
    if output is None and source == "-":
        raise UsageError("the input comes from stdin and has no name: say where the result goes with --output")
    return output


def _mean(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None and math.isfinite(value)]
    return sum(numbers) / len(numbers) if numbers else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if value < 10 else f"{value:.2f}"
