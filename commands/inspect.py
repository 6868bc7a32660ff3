"""`cogvx inspect`: what a file is and how it was made."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ._options import AllowPickle, Json


def inspect(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Clips, latents, checkpoints, LoRAs, manifests, results.")
    ],
    *,
    hashes: Annotated[
        bool, typer.Option("--hash/--no-hash", help="Include sha256 hashes, for which everything is read.")
    ] = True,
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    r"""Tell what a file or folder is, and how it was made.

    A clip tells model, prompt, seed and every option; a LoRA its origin, rank and strength; a checkpoint its layout,
    configuration and size. A pickle is named and not opened (exit code 5) unless --allow-pickle is given.

    \b
    Examples:
      cogvx inspect clip.mp4
      cogvx inspect style.safetensors --json
      cogvx inspect ./my-model --no-hash
    """
    from cogvx.checkpoints.inspect import describe
    from cogvx.errors import CogvxError

    from ._console import Console, quiet_libraries

    quiet_libraries()
    console = Console(json=json)
    failed: CogvxError | None = None
    for path in files:
        try:
            report = describe(path, allow_pickle=allow_pickle, hashed=hashes)
        except CogvxError as error:
            if len(files) == 1:
                raise
            console.failure(str(path), error, str(error))
            failed = failed or error
            continue
        for warning in report.get("warnings", []):
            console.warn(warning)
        for line in [""] if json else _lines(report):
            console.result(line, report)
    if failed is not None:
        raise typer.Exit(failed.exit_code)


def _lines(report: dict[str, Any], indent: int = 0) -> list[str]:
    """Return "key: value" lines, nested by indentation."""
    lines = []
    width = max((len(str(key)) for key in report), default=0)
    for key, value in report.items():
        if isinstance(value, dict) and value:
            lines += [f"{' ' * indent}{key}:", *_lines(value, indent + 2)]
        elif value not in (None, "", [], {}):
            shown = (
                ", ".join(map(str, value)) if isinstance(value, list) else f"{value:,}" if type(value) is int else value
            )
            lines.append(f"{' ' * indent}{key:<{width}}  {shown}")
    return lines
