"""`cogvx convert`: checkpoints and LoRAs from any layout of the field to another."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from ._options import AllowPickle, DryRun, Json, Overwrite, Quiet, _dtype


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A model (name, folder in the diffusers or SAT layout, one weight file), or a LoRA of any origin.",
            show_default=False,
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="DST", help="A folder to make; for a LoRA also FILE.safetensors.", show_default=False),
    ],
    *,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="LAYOUT",
            help="diffusers or sat; for a LoRA also kohya or comfyui. Default: diffusers.",
            show_default=False,
        ),
    ] = None,
    merge_lora: Annotated[
        list[str] | None,
        typer.Option(
            "--merge-lora", metavar="FILE[:WEIGHT]", help="Add a LoRA to the weights; repeatable.", show_default=False
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="bf16|fp16|fp32",
            callback=_dtype,
            help="Precision of the result. Default: as in the source.",
            show_default=False,
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            "--alpha",
            metavar="X",
            help="Alpha of a LoRA whose file does not tell it (the official trainer's default is half the rank).",
            show_default=False,
        ),
    ] = None,
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", metavar="SIZE", help="Where the next file of a part begins.")
    ] = "5GB",
    allow_pickle: AllowPickle = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    r"""Convert a checkpoint or a LoRA.

    The weights pass through one tensor at a time, so a model larger than the memory converts too (except to SAT, whose
    pickles are made in one piece). The official SAT files are pickles: reading them needs --allow-pickle.

    \b
    Examples:
      cogvx convert CogVideoX-5b-sat/ cogvideox-5b/ --allow-pickle
      cogvx convert cogvideox-5b/ cogvideox-5b-sat/ --to sat
      cogvx convert 2b merged/ --merge-lora style.safetensors:0.5 --dtype bf16
      cogvx convert mp_rank_00_model_states.pt style.safetensors --allow-pickle
      cogvx convert style.safetensors style-comfyui.safetensors --to comfyui
    """
    import torch

    from cogvx.checkpoints.convert import ConvertOptions, plan_conversion
    from cogvx.checkpoints.saving import parse_size
    from cogvx.errors import UsageError

    from ._console import Console, quiet_libraries
    from ._plan import parse_lora

    quiet_libraries()
    console = Console(quiet=quiet, json=json)
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "auto": None, None: None}
    path, shared = _find(source, console.note)
    if target.resolve() == path.resolve() or path.resolve().is_relative_to(target.resolve()):
        raise UsageError(f"{target} is the source, or holds it; write elsewhere")
    options = ConvertOptions(
        to=to,
        merge=[parse_lora(text) for text in merge_lora or []],
        dtype=dtypes[dtype],
        max_shard_bytes=parse_size(max_shard_size),
        allow_pickle=allow_pickle,
        alpha=alpha,
        shared=shared,
    )
    plan = plan_conversion(path, options)
    for warning in plan.warnings:
        console.warn(warning)
    record = {
        "output": str(target),
        "kind": plan.kind,
        "from": plan.source_layout,
        "to": plan.to,
        "bytes": plan.num_bytes,
    }
    if dry_run:
        console.note(f"would write {plan.num_bytes:,} bytes, {len(plan.files)} files, nothing is written now")
        console.result(target, {**record, "files": plan.files, "dry_run": True})
        return
    with console.progress(target.name) as report:
        plan.write(target, overwrite=overwrite, report=report)
    console.result(target, record)


def _find(source: str, note: Callable[[str], None]) -> tuple[Path, Mapping[str, Path]]:
    """Return where the source lies: a file or folder of that name, else a model that `--model` could name."""
    from cogvx.presets import PRESETS, resolve

    path = Path(source).expanduser()
    if path.exists() and source not in PRESETS:
        return path, {}
    resolved = resolve(source, announce=note)
    return resolved.path, resolved.shared
