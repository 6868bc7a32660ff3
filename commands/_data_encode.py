"""`cogvx data encode`: latents and text embeddings ahead of training."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogvx.errors import CogvxError, InputError, RefusedError, UsageError

from ._console import Console, quiet_libraries
from ._options import (
    AllowPickle,
    Device,
    DryRun,
    Dtype,
    Json,
    MaxFrames,
    MaxUpscale,
    Model,
    Overwrite,
    Quiet,
    Rate,
    Root,
    Sizes,
    VAETiling,
    Verbose,
    model_name,
    with_flags,
)

if TYPE_CHECKING:
    from cogvx.checkpoints.model_folder import ModelFolder
    from cogvx.data.manifest import Entry, Manifest
    from cogvx.data.selection import Selection
    from cogvx.training.encode import ManifestEncoder


@dataclass(frozen=True, kw_only=True)
class EncodeFlags:
    """The flags of encode beside its manifest and its folder; None leaves it to the model."""

    model: Model = None
    sizes: Sizes = None
    max_frames: MaxFrames = None
    fps: Rate = None
    max_upscale: MaxUpscale = 1.0
    captions: Annotated[
        str,
        typer.Option(
            "--captions", metavar="LIST", help="Captions to embed: caption, and names under the manifest's captions."
        ),
    ] = "caption"
    first_frames: Annotated[
        int,
        typer.Option(
            "--first-frames",
            metavar="N",
            min=0,
            max=64,
            help="Encode the first frame too, with N different noises, for image-to-video training.",
        ),
    ] = 0
    latents: Annotated[bool, typer.Option("--latents/--no-latents", help="Encode clips.", show_default=False)] = True
    text: Annotated[bool, typer.Option("--text/--no-text", help="Embed captions.", show_default=False)] = True
    max_bad: Annotated[
        int | None,
        typer.Option(
            "--max-bad", metavar="N", min=0, show_default=False, help="Stop when more than N clips are unusable."
        ),
    ] = None
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, max=64, help="Clips that are read ahead at a time.")
    ] = 1
    device: Device = None
    dtype: Dtype = None
    vae_tiling: VAETiling = None
    allow_pickle: AllowPickle = False
    overwrite: Overwrite = False
    dry_run: DryRun = False
    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False


@with_flags(EncodeFlags)
def encode(
    source: Annotated[str, typer.Argument(metavar="MANIFEST", help="A manifest (JSONL); - reads one from stdin.")],
    cache: Annotated[
        str,
        typer.Option(
            "--output", "-o", "--output-path", metavar="CACHE_DIR", help="Folder of all that is encoded; share it."
        ),
    ],
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            show_default=False,
            help="Write the manifest with the paths of latents and text there. Default: to stdout.",
        ),
    ] = None,
    root: Root = None,
    *,
    flags: EncodeFlags,
) -> None:
    r"""Encode a manifest's clips and captions ahead of training, into a folder that runs and processes share.

    What is kept there is named by what it was made from: the clip's bytes and part, size, frames, fps, and the weights
    that encode it. So nothing is encoded twice, a run that was stopped goes on where it was, and several processes
    (one for each GPU, say) share the work when they are started with the same folder. The manifest that comes out has
    `latents` and `text`, in paths relative to its folder.

    \b
    Examples:
      cogvx data encode clips.jsonl -o cache --manifest encoded.jsonl
      cogvx data encode clips.jsonl -o cache -m 5b --sizes 480x720,720x480 --max-frames 49 > encoded.jsonl
      cogvx data encode clips.jsonl -o cache --first-frames 4 --captions caption,short --dry-run
    """
    from cogvx.checkpoints.diffusers import open_model
    from cogvx.data.manifest import read_manifest
    from cogvx.generate.options import Runtime, choose_device, choose_dtype
    from cogvx.presets import read_defaults, resolve
    from cogvx.training.encode import EncodeOptions, ManifestEncoder
    from cogvx.training.encoders import ModelEncoders, open_cache

    quiet_libraries(flags.verbose)
    console = Console(flags.quiet, flags.verbose, flags.json)
    if cache == "-":
        raise UsageError("-o - cannot hold a folder; name one")
    if not (flags.latents or flags.text):
        raise UsageError("--no-latents and --no-text together leave nothing to do")
    resolved = resolve(model_name(flags.model), announce=console.note)
    folder = open_model(resolved.path, shared=dict(resolved.shared), allow_pickle=flags.allow_pickle)
    selection = _selection(flags, folder)
    device = choose_device(flags.device)
    dtype = choose_dtype(flags.dtype, device=device, native=read_defaults(folder.configs).dtype)
    failures: list[tuple[str, CogvxError]] = []

    def fail(name: str, error: CogvxError) -> None:
        failures.append((name, error))
        console.failure(name, error, str(error))

    def bad_line(error: CogvxError) -> None:
        if isinstance(error, RefusedError):
            raise error
        fail("stdin" if source == "-" else source, error)

    read = read_manifest(source, root=root, on_error=bad_line)
    if not read.entries and not failures:
        raise InputError(f"{source}: no entries in it")
    if manifest is not None:
        _check_target(Path(manifest), source, read, overwrite=flags.overwrite)
    tiles = flags.vae_tiling or "auto"
    options = EncodeOptions(
        selection,
        resolved.name,
        latents=flags.latents,
        text=flags.text,
        captions=tuple(name.strip() for name in flags.captions.split(",") if name.strip()),
        first_frames=flags.first_frames,
        num_workers=flags.workers,
        overwrite=flags.overwrite,
        max_bad=flags.max_bad,
    )
    work = ManifestEncoder(read, open_cache(Path(cache), folder, dtype=dtype, tiles=tiles), options, on_bad=fail)
    if flags.dry_run:
        _print_plan(console, work, folder, itemsize=2 if str(dtype).endswith("bfloat16") else 4)
    else:
        encoders = ModelEncoders(folder, Runtime(device=device, dtype=dtype), tiles=tiles)
        with console.progress("encode") as report:
            result = work.run(encoders, report=report)
        out = ", ".join(f"{count} {why}" for why, count in sorted(result.left_out.items()))
        console.note(f"{result.written} files written, {result.kept} kept{f'; left out: {out}' if out else ''}")
        counts = {"count": len(result.entries), "written": result.written, "kept": result.kept}
        _write(console, result.entries, manifest, counts | {"failed": len(failures)})
    if failures:
        raise typer.Exit(3)


def _selection(flags: EncodeFlags, folder: "ModelFolder") -> "Selection":
    """Return which clips are encoded at which shapes, checked against what the model can do."""
    from cogvx.data.selection import Selection
    from cogvx.generate.sizes import SizeRules
    from cogvx.presets import read_defaults

    defaults = read_defaults(folder.configs)
    with_transformer = "transformer" in folder.configs
    rules = SizeRules.of(folder.vae_config, folder.transformer_config if with_transformer else None)
    sizes = [(defaults.height, defaults.width)] if flags.sizes is None else _sizes(flags.sizes)
    num_frames = rules.floor_frames(defaults.num_frames) if flags.max_frames is None else flags.max_frames
    for height, width in sizes:
        rules.check(height=height, width=width, num_frames=num_frames)
    return Selection(sizes, num_frames, flags.fps or float(defaults.fps), max_upscale=flags.max_upscale)


def _sizes(text: str) -> list[tuple[int, int]]:
    sizes = []
    for item in text.split(","):
        height, _, width = item.strip().lower().partition("x")
        if not (height.isdecimal() and width.isdecimal()):
            raise UsageError(f"--sizes {text}: {item.strip()!r} is not HEIGHTxWIDTH, such as 480x720")
        sizes.append((int(height), int(width)))
    return sizes


def _check_target(target: Path, source: str, read: "Manifest", *, overwrite: bool) -> None:
    """Refuse to replace a manifest that is not an earlier result of the same entries.

    Raises:
        UsageError: It would be lost.
    """
    from cogvx.data.manifest import read_manifest
    from cogvx.files import is_device

    if source != "-" and target.exists() and os.path.samefile(target, source):
        raise UsageError(f"--manifest {target} is the manifest that is read; name another file")
    if overwrite or not target.exists() or is_device(target):
        return
    try:
        before = _parts(read_manifest(target, root="/"))
    except CogvxError:
        before = None
    if before is None or not before <= _parts(read):
        raise UsageError(f"{target} exists and lists other clips; pass --overwrite to replace it")


def _parts(manifest: "Manifest") -> set[tuple[str, Any]]:
    """Return which file each entry of a manifest is part of, and where the part begins."""
    from cogvx.data.selection import pixel_field

    named = [(entry, pixel_field(entry)) for entry in manifest.entries]
    return {
        (os.path.realpath(manifest.path(entry, field)), entry.get("start"))
        for entry, field in named
        if field is not None
    }


def _write(console: Console, entries: "list[Entry]", manifest: str | None, counts: dict[str, Any]) -> None:
    """Write the manifest to its file, or to stdout."""
    import sys

    from cogvx.data.manifest import format_entry, write_manifest
    from cogvx.data.paths import relative_to

    base = Path() if manifest is None else Path(manifest).parent
    rows = [relative_to(entry, base) for entry in entries]
    if any(str(row.get(name, "")).startswith("../") for row in rows for name in ("video", "image", "latents", "text")):
        paths = [entry[name] for entry in entries for name in ("video", "image", "latents", "text") if name in entry]
        common = os.path.commonpath([os.path.realpath(base), *paths])
        console.note(f"its paths lead out of the manifest's folder: read it with --root {common}")
    if manifest is None:
        for row in rows:
            sys.stdout.write(format_entry(row).decode())
        sys.stdout.flush()
        return
    write_manifest(manifest, rows, overwrite=True)
    console.result(manifest, {"output": manifest, **counts})


def _print_plan(console: Console, work: "ManifestEncoder", folder: "ModelFolder", *, itemsize: int) -> None:
    """Say what is to be done and how much disk it takes, having looked at every clip but decoded none."""
    from collections import Counter

    from cogvx.files import free_bytes

    config, options = folder.vae_config, work.options
    shapes: Counter[str] = Counter()
    missing = num_bytes = 0
    for _, plan in work.plans() if options.latents else ():
        shapes[str(plan.shape)] += 1
        area = config.latent_channels * (plan.shape.height // config.spatial_ratio)
        area *= plan.shape.width // config.spatial_ratio
        frames = (plan.shape.num_frames - 1) // config.temporal_compression_ratio + 1
        for path, count in ((plan.latents, frames), (plan.first_frames, options.first_frames)):
            if path is not None and (options.overwrite or not path.exists()):
                missing += 1
                num_bytes += 2 * count * area * itemsize  # mean and deviation
    if options.text:
        width = int(folder.configs.get("text_encoder", {}).get("d_model", 0))
        for prompt in work.prompts():
            if options.overwrite or not work.cache.text(prompt).exists():
                missing += 1
                num_bytes += folder.max_text_length * width * itemsize
    free = free_bytes(work.cache.folder)
    record = {"output": str(work.cache.folder), "shapes": dict(sorted(shapes.items())), "files": missing}
    record |= {"disk_bytes": num_bytes, "free_disk_bytes": free}
    kinds = ", ".join(f"{count} of {shape}" for shape, count in sorted(shapes.items())) or "none"
    console.result(
        f"{work.cache.folder}: {missing} files to write, about {num_bytes / 1e6:.1f} MB of {free / 1e6:.0f} MB free; "
        f"clips (frames x height x width): {kinds}",
        record,
    )
