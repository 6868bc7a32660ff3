"""`cogvx models`: what `--model` can name."""

from typing import Annotated, Any

import typer

from ._options import Json, Quiet

app = typer.Typer(no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="MODEL", help="A name of `cogvx models list`, a folder, or a repository id.")
]


@app.callback()
def models() -> None:
    r"""List, describe and download models.

    \b
    Examples:
      cogvx models list
      cogvx models show 5b
      cogvx models pull 2b
    """


@app.command(name="list")
def list_models(json: Json = False) -> None:
    r"""List the models that have a name, with their native sizes and the memory they need.

    \b
    Examples:
      cogvx models list
      cogvx models list --json
    """
    from ._console import Console
    from ._models import describe_preset

    console = Console(json=json)
    from cogvx.presets import PRESETS

    records = [describe_preset(preset) for preset in PRESETS.values()]
    if json:
        for record in records:
            console.result("", record)
        return
    rows = [_row(record) for record in records]
    console.table(rows, header=["name", "task", "size", "frames", "memory", "here", "licence"])


@app.command()
def show(model: Name = "tiny", json: Json = False) -> None:
    r"""Show what is known of a model: sizes, defaults, parameters, memory, and where it lies on this machine.

    \b
    Examples:
      cogvx models show tiny --json
      cogvx models show 1.5-5b
      cogvx models show ./my-model
    """
    from ._console import Console, quiet_libraries
    from ._models import describe_model

    quiet_libraries()
    record = describe_model(model)
    if json:
        Console(json=True).result("", record)
        return
    for key, value in record.items():
        if value is not None:
            typer.echo(f"{key.replace('_', ' ')}: {_text(key, value)}")


@app.command()
def pull(model: Name, json: Json = False, quiet: Quiet = False) -> None:
    r"""Download a model to the Hugging Face cache, unless it is there, and print its folder.

    \b
    Examples:
      cogvx models pull 2b
      cogvx models pull zai-org/CogVideoX1.5-5B
    """
    from cogvx.presets import resolve

    from ._console import Console

    console = Console(quiet=quiet, json=json)
    resolved = resolve(model, announce=console.note)
    console.result(resolved.path, {"model": resolved.name, "path": str(resolved.path)})


def _row(record: dict[str, Any]) -> list[str]:
    size = f"{record['width']}x{record['height']}" if record.get("height") else "-"
    frames = f"{record['num_frames']} @ {record['fps']:g} fps" if record.get("num_frames") else "-"
    here = "yes" if record["path"] else "no"
    return [record["name"], record["task"], size, frames, _memory(record["memory_bytes"]), here, record["licence"]]


def _memory(modes: dict[str, int] | None) -> str:
    if not modes:
        return "-"
    least, most = min(modes.values()), max(modes.values())
    return f"{_size(least)} - {_size(most)}"


def _text(key: str, value: Any) -> str:
    if key == "memory_bytes":
        return ", ".join(f"{_size(size)} with --memory {mode}" for mode, size in value.items())
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {count:,}" if isinstance(count, int) else f"{name} {count}" for name, count in value.items()
        )
    return _size(value) if key.endswith("_bytes") else str(value)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.0f} MB"
