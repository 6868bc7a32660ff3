"""`cogvx data preview`: what training will see of a manifest, as pictures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cogvx.errors import CogvxError, InputError, UsageError

from ._console import Console
from ._data_encode import EncodeFlags, _selection
from ._options import (
    Json,
    MaxFrames,
    MaxUpscale,
    Model,
    Overwrite,
    Quiet,
    Rate,
    Root,
    Sizes,
    model_name,
    with_flags,
)

if TYPE_CHECKING:
    from PIL import Image

    from cogvx.checkpoints.model_folder import ModelFolder
    from cogvx.curation.preview import Preview, PreviewOptions
    from cogvx.data.buckets import Shape
    from cogvx.data.contact_sheet import PackPlan
    from cogvx.training.recipe import Recipe

_CLIP, _SHEET = "Clip", "Sheet"
_SHOWN_PACKS = 40

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class PreviewFlags:
    """The flags of preview beside its manifest and its sheets."""

    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="FILE",
            rich_help_panel=_CLIP,
            show_default=False,
            help="Take sizes, lengths, rate, condition and packs from a stage of this recipe.",
        ),
    ] = None
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage",
            metavar="N|NAME",
            rich_help_panel=_CLIP,
            show_default=False,
            help="Of the recipe, from 1 on. Default: the last.",
        ),
    ] = None
    model: Model = None
    sizes: Sizes = None
    max_frames: MaxFrames = None
    fps: Rate = None
    max_upscale: MaxUpscale = 1.0
    packs: Annotated[
        bool,
        typer.Option("--packs", rich_help_panel=_SHEET, help="Draw frame packs too, as bars.", show_default=False),
    ] = False
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens",
            metavar="N",
            min=1,
            rich_help_panel=_SHEET,
            show_default=False,
            help="Of a pack, text included. Default: the recipe's, else those of the longest clip.",
        ),
    ] = None
    rejected: Annotated[
        bool,
        typer.Option(
            "--rejected",
            rich_help_panel=_SHEET,
            show_default=False,
            help="Show the clips that will not be used, with the reasons, in place of those that will.",
        ),
    ] = False
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            metavar="N",
            min=1,
            rich_help_panel=_SHEET,
            show_default=False,
            help="Clips at most, evenly spread over the manifest. Default: one page; for a folder all.",
        ),
    ] = None
    per_page: Annotated[
        int, typer.Option("--per-page", metavar="N", min=1, max=1000, rich_help_panel=_SHEET, help="Clips on a page.")
    ] = 24
    frames_shown: Annotated[
        int,
        typer.Option(
            "--frames-shown",
            metavar="N",
            min=1,
            max=100,
            rich_help_panel=_SHEET,
            help="Frames of each clip, the first and the last among them.",
        ),
    ] = 5
    cell_height: Annotated[
        int,
        typer.Option(
            "--cell-height",
            metavar="N",
            min=16,
            max=4096,
            rich_help_panel=_SHEET,
            help="Pixels of a frame on the sheet; smaller ones keep their size.",
        ),
    ] = 96
    root: Root = None
    overwrite: Overwrite = False
    json: Json = False
    quiet: Quiet = False


@with_flags(PreviewFlags)
def preview(
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            "--output-path",
            metavar="PNG|DIR",
            help="One sheet (.png), or a folder of pages.",
        ),
    ],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[MANIFEST]",
            show_default=False,
            help="A manifest (JSONL); - reads one from stdin. Default: those of the recipe.",
        ),
    ] = None,
    *,
    flags: PreviewFlags,
) -> None:
    r"""Draw what training will see of a manifest: each clip's frames at its size, crop and rate, and its caption.

    With --packs also which clips share a sequence (frame pack) and how full each is; a recipe's packs are those of its
    first steps, without a recipe they are those of one pass over all clips. With --rejected the clips that will not be
    used, and why.

    \b
    Examples:
      cogvx data preview clips.jsonl -o sheet.png --sizes 480x720,720x480 --max-frames 49 --fps 8
      cogvx data preview clips.jsonl -o pages --recipe fixtures/recipes/dit-2b.toml --stage 2 --packs
      cogvx data preview chosen.jsonl -o rejected.png --rejected
    """
    from cogvx.curation.preview import Preview
    from cogvx.data.contact_sheet import draw_packs, draw_tiles, stack

    console = Console(quiet=flags.quiet, json=flags.json)
    failures: set[str] = set()

    def fail(name: str, error: CogvxError) -> None:
        if name not in failures:  # shapes and pictures are looked at apart
            console.failure(name, error, str(error))
        failures.add(name)

    single = output.lower().endswith(".png")
    pages = _Pages(output, single=single, overwrite=flags.overwrite)
    if flags.packs and flags.rejected:
        raise UsageError("--packs are of clips that are used, --rejected shows the others; choose one")
    recipe = None if flags.recipe is None else _recipe(flags)
    sources, options = _what(source, recipe, flags, single=single)
    root = flags.root or (None if recipe is None else recipe.data.root or None)
    found = Preview(sources, options, root=root, on_bad=fail)
    plan = _plan(found, recipe, sources, flags, fail) if flags.packs else None
    shown = 0
    for tiles in _batched(found.tiles(), flags.per_page):
        parts = [draw_tiles(tiles, max_height=flags.cell_height)[0]]
        if single and plan is not None:
            parts.append(draw_packs(plan))
        shown += len(tiles)
        path = pages.write(stack(parts), "page")
        console.result(path, {"output": str(path), "clips": len(tiles)})
    if plan is not None and not single:
        path = pages.write(draw_packs(plan), "packs")
        console.result(path, {"output": str(path), "packs": len(plan.packs)})
    out = ", ".join(f"{count} {why}" for why, count in sorted(found.left_out.items()))
    console.note(f"{shown} clips shown{f'; left out: {out}' if out else ''}")
    if failures:
        raise typer.Exit(3)
    if not shown:
        raise InputError("no clip is rejected" if flags.rejected else "no clip passes; --rejected shows why")


class _Pages:
    """Writes sheets to one file or into a folder."""

    def __init__(self, output: str, *, single: bool, overwrite: bool) -> None:
        self._target, self._single, self._overwrite = Path(output), single, overwrite
        self._count = 0
        if output == "-":
            raise UsageError("-o - cannot hold pages; name a .png or a folder")
        if single and self._target.exists() and not overwrite:
            raise UsageError(f"{output} exists; pass --overwrite to replace it")
        if not single and self._target.suffix and not self._target.is_dir() and not output.endswith("/"):
            raise UsageError(f"{output}: a sheet ends in .png; for a folder of pages end the name in /")
        if not single and not overwrite and any(self._target.glob("page-*.png")):
            raise UsageError(f"{output} has pages; pass --overwrite to replace them")

    def write(self, sheet: "Image.Image", kind: str) -> Path:
        """Write a sheet, and return where it is."""
        from io import BytesIO

        from cogvx.files import write_bytes

        self._count += kind == "page"
        path = self._target
        if not self._single:
            path = self._target / (f"page-{self._count:04d}.png" if kind == "page" else f"{kind}.png")
        data = BytesIO()
        sheet.save(data, format="PNG")
        write_bytes(path, data.getvalue(), overwrite=self._overwrite)
        return path


def _what(
    source: str | None, recipe: "Recipe | None", flags: PreviewFlags, *, single: bool
) -> "tuple[list[str], PreviewOptions]":
    """Return the manifests, and what of them is shown."""
    from cogvx.curation.preview import PreviewOptions

    count = flags.count if flags.count is not None or not single else flags.per_page
    if single and count is not None and count > flags.per_page:
        raise UsageError(f"--count {count}: one sheet has {flags.per_page} clips; raise --per-page, or name a folder")
    view: dict[str, Any] = {"frames_shown": flags.frames_shown, "count": count, "rejected": flags.rejected}
    if recipe is None:
        if source is None:
            raise UsageError("name a manifest, or a --recipe that does")
        if flags.stage is not None:
            raise UsageError("--stage needs a --recipe")
        folder = _folder(flags)
        given = {name: getattr(flags, name) for name in ("model", "sizes", "max_frames", "fps", "max_upscale")}
        return [source], PreviewOptions(selection=_selection(EncodeFlags(**given), folder), **view)
    if any(value is not None for value in (flags.sizes, flags.max_frames, flags.fps, flags.model)):
        raise UsageError("a --recipe has sizes, lengths, rate and model of its own; change those with another recipe")
    from dataclasses import replace

    from cogvx.training.stages import stage_selection
    from cogvx.training.vae_data import HELD_OUT

    number = _stage(recipe, flags.stage)
    stage = recipe.stages[number]
    rate = (stage.fps or (recipe.data.fps,))[0]
    selection = stage_selection(recipe, number, max_frames=stage.max_frames, fps=rate)
    if recipe.kind == "vae":  # trains on clips of one length
        selection = replace(selection, min_frames=stage.max_frames)
    options = PreviewOptions(
        selection=selection,
        captions=recipe.data.captions,
        keep=(lambda entry: True) if recipe.data.validation else (lambda entry: entry.get("split") not in HELD_OUT),
        **view,
    )
    sources = list(recipe.data.train) if source is None else [source]
    if not sources:
        raise UsageError(f"{flags.recipe} names no data.train; name a manifest")
    return sources, options


def _recipe(flags: PreviewFlags) -> "Recipe":
    from cogvx.training.recipe_toml import read_recipe

    return read_recipe(str(flags.recipe))


def _stage(recipe: "Recipe", wanted: str | None) -> int:
    """Return the number, from 0 on, of the stage that is meant."""
    if wanted is None:
        return len(recipe.stages) - 1
    names = [stage.name for stage in recipe.stages]
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    known = ", ".join(f"{number} {name}".strip() for number, name in enumerate(names, 1))
    raise UsageError(f"--stage {wanted}: the recipe has {known}")


def _folder(flags: PreviewFlags) -> "ModelFolder":
    from cogvx.checkpoints.diffusers import open_model
    from cogvx.presets import resolve

    resolved = resolve(model_name(flags.model))
    return open_model(resolved.path, shared=dict(resolved.shared))


def _plan(
    found: "Preview",
    recipe: "Recipe | None",
    sources: list[str],
    flags: PreviewFlags,
    fail: Callable[[str, CogvxError], None],
) -> "PackPlan":
    """Return the packs to be drawn."""
    from cogvx.curation.preview import plan_packs

    if recipe is not None:
        if flags.tokens is not None:
            raise UsageError("a --recipe has a budget of its own (stages.tokens)")
        return _plan_of_recipe(recipe, sources, flags, fail)
    folder = _folder(flags)
    vae, transformer = folder.vae_config, folder.transformer_config

    def tokens(shape: "Shape") -> int:
        return transformer.max_text_length + shape.num_tokens(
            temporal_ratio=vae.temporal_compression_ratio,
            spatial_ratio=vae.spatial_ratio,
            patch_size=transformer.patch_size,
            temporal_patch_size=transformer.temporal_patch_size or 1,
        )

    return plan_packs(*found.lengths(tokens), budget=flags.tokens, shown=_SHOWN_PACKS)


def _plan_of_recipe(
    recipe: "Recipe", sources: list[str], flags: PreviewFlags, fail: Callable[[str, CogvxError], None]
) -> "PackPlan":
    """Return the packs of the first steps of a stage, exactly those that training makes."""
    from dataclasses import replace

    from cogvx.data.buckets import Shape
    from cogvx.data.contact_sheet import PackPlan
    from cogvx.training.networks import read_networks
    from cogvx.training.stages import open_stages, opener

    networks = read_networks(recipe)
    if networks.transformer is None:
        raise UsageError(f"a recipe of kind {recipe.kind} has no packs of tokens")
    data = replace(recipe.data, train=tuple(sources), root=flags.root or recipe.data.root, max_bad=1 << 60)
    opened = opener(replace(recipe, data=data), cache=None, with_image=False, on_bad=fail)
    number = _stage(recipe, flags.stage)
    stage = open_stages(recipe, opened, vae=networks.vae, transformer=networks.transformer)[number]
    budget = recipe.stages[number].tokens or max(tokens for _, tokens in stage.items(0))
    ratio, temporal = networks.vae.spatial_ratio, networks.vae.temporal_compression_ratio
    packs: list[list[tuple[Shape, int]]] = []
    steps = 0
    while len(packs) < _SHOWN_PACKS and steps < recipe.stages[number].steps:
        for items in stage.order.step(steps):
            shapes = [stage.latent_shape(item) for item in items]
            pixels = [Shape((t - 1) * temporal + 1, h * ratio, w * ratio) for _, t, h, w in shapes]
            packs.append(list(zip(pixels, map(stage.num_tokens, items), strict=True)))
        steps += 1
    used = sum(tokens for pack in packs for _, tokens in pack)
    name = recipe.stages[number].name or str(number + 1)
    title = f"stage {name}, steps 1 to {steps}: {len(packs)} packs of {budget:,} tokens, "
    title += f"{100 * used / (budget * len(packs)):.1f} % filled"
    return PackPlan(
        title + (f"; the first {_SHOWN_PACKS}" if len(packs) > _SHOWN_PACKS else ""), budget, packs[:_SHOWN_PACKS]
    )


def _batched(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    from itertools import islice

    while batch := list(islice(items, size)):
        yield batch
