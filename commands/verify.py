"""`cogvx verify`: does cogvx compute what diffusers computes from a checkpoint."""

from typing import Annotated

import typer

from ._options import AllowPickle, Dtype, Json, Quiet


def verify(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A name of `cogvx models list`, a folder, or a repository id.", show_default=False
        ),
    ],
    *,
    component: Annotated[
        list[str] | None,
        typer.Option(
            "--component",
            metavar="NAME",
            help="vae, transformer, text_encoder or scheduler; repeatable. Default: all.",
            show_default=False,
        ),
    ] = None,
    dtype: Dtype = None,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda[:n]|mps", help="Where both compute.")
    ] = "cpu",
    allow_pickle: AllowPickle = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    r"""Compare cogvx with diffusers on a checkpoint, part by part.

    Both get the same small random inputs; a row says how far the outputs lie apart. Each part is in memory once at a
    time. Exit code 0: all rows are ok; 3: some are not. The default precision is fp32; in bf16 and fp16 rows may differ
    by some percent, as the two round at different places.

    \b
    Examples:
      cogvx verify tiny
      cogvx verify ./my-model --component transformer --json
      cogvx verify 5b --dtype bf16 --device cuda
    """
    import torch

    from cogvx.checkpoints.diffusers import open_model
    from cogvx.checkpoints.verify import CHECKED
    from cogvx.checkpoints.verify import verify as checks
    from cogvx.errors import InputError, MissingError
    from cogvx.presets import resolve

    from ._console import Console, quiet_libraries

    quiet_libraries()
    _quiet_reference()
    console = Console(quiet=quiet, json=json)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise MissingError(f"--device {device}: no CUDA device here")
    resolved = resolve(model, announce=console.note)
    folder = open_model(resolved.path, shared=resolved.shared, allow_pickle=allow_pickle)
    wanted = component or [name for name in CHECKED if name in folder.components]
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(dtype or "fp32", torch.float32)
    done, failed = 0, 0
    for check in checks(folder, components=wanted, dtype=precision, device=device):
        done, failed = done + 1, failed + (not check.ok)
        state = "ok" if check.ok else "FAIL"
        line = f"{check.component:<13} {check.name:<24} {check.max_abs:9.2e} {check.max_rel:9.2e}  {state}"
        if done == 1 and not json:
            console.result(f"{'component':<13} {'output':<24} {'max abs':>9} {'max rel':>9}", {})
        console.result(line, check.__dict__)
    if failed:
        raise InputError(f"{failed} of {done} comparisons with diffusers failed for {resolved.name}")


def _quiet_reference() -> None:
    """Keep the reference libraries from writing bars and advice between the rows."""
    import logging

    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("diffusers").setLevel(logging.ERROR)
