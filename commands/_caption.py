"""The work of `cogvx caption`: what its arguments name, and the stage that captions it."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogvx.errors import UsageError

from ._captioner import captioner_spec, limit_of
from ._console import Console, quiet_libraries
from ._options import model_name
from ._stages import run_command, show_run

if TYPE_CHECKING:
    from cogvx.data.stages import Item, RunResult

    from .caption import CaptionFlags

_MANIFESTS = (".jsonl", ".ndjson")
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_STDIN = "-"
_LOOKED_AT = 64  # bytes of stdin that tell a manifest from a clip


def caption_clips(sources: list[str], flags: "CaptionFlags") -> None:
    """Caption clips, or the entries of manifests; write a manifest.

    Raises:
        UsageError: The arguments do not go together.
        typer.Exit: A clip could not be used; the others are done.
    """
    from cogvx.captioning.questions import DEFAULT
    from cogvx.captioning.stage import CaptionStage
    from cogvx.files import is_device

    if flags.show_prompts:
        sys.stdout.write(DEFAULT.read_text(encoding="utf-8"))
        return
    quiet_libraries()
    if not sources:
        raise UsageError("nothing to caption: name clips, a manifest, or - for stdin")
    to_stream = flags.output == _STDIN or is_device(Path(flags.output))
    spec = captioner_spec(
        flags, model=model_name(flags.model), cache=None if to_stream else Path(f"{flags.output.rstrip('/')}.answers")
    )
    manifests = [source for source in sources if _is_manifest(source)]
    if manifests and len(sources) > 1:
        raise UsageError(f"{manifests[0]} is a manifest: name it alone, or clips alone")
    base = Path(flags.output) if manifests and os.path.isdir(manifests[0]) else Path(flags.output).parent
    stage = CaptionStage(spec, limit_of(flags), Path() if to_stream else base)
    if manifests:
        run_command(stage, manifests[0], flags)
        return
    if flags.dry_run:
        record = {"output": flags.output, "todo": len(sources), "kept": 0, "failed": 0}
        stage.settings()  # says what is missing
        Console(flags.quiet, json=flags.json).result(f"{flags.output}: {len(sources)} clips to caption", record)
        return
    with ExitStack() as stack:
        items = [_item(source, stage.base, stack) for source in sources]
        show_run(stage.name, flags, _runner(stage, items, flags))


def _runner(stage: Any, items: "list[Item]", flags: "CaptionFlags") -> Callable[..., "RunResult"]:
    from cogvx.data.stages.run import Work, run_works

    def given(on_bad: object) -> "Iterator[Item]":
        return iter(items)

    def run(report: Any, failures: Any, on_stop: Any) -> "RunResult":
        works = [Work(flags.output, given, len(items))]
        return run_works(
            stage,
            works,
            flags.output,
            options=flags.options(),
            report=report,
            on_failure=failures,
            on_stop=on_stop,
        )

    return run


def _is_manifest(source: str) -> bool:
    """Whether an argument names a manifest, or a folder of them, and not a clip."""
    if source == _STDIN:
        if sys.stdin.isatty():
            raise UsageError("- reads a clip or a manifest from stdin, which is a terminal; pipe it in, or name a file")
        return _peek().lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    if os.path.isdir(source):
        return any(name.lower().endswith(_MANIFESTS) for name in os.listdir(source))
    return source.lower().endswith(_MANIFESTS)


def _peek() -> bytes:
    """Return the beginning of stdin, which stays unread."""
    stream = sys.stdin.buffer
    if hasattr(stream, "peek"):
        return stream.peek(_LOOKED_AT)[:_LOOKED_AT]
    start = stream.tell()
    data = stream.read(_LOOKED_AT)
    stream.seek(start)
    return data


def _item(source: str, base: Path, stack: ExitStack) -> "Item":
    """Return a clip as an item of the run; one from stdin lies in a file meanwhile."""
    from cogvx.data.paths import absolute, relative_to
    from cogvx.data.stages.source import make_item

    if source == _STDIN:
        file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="cogvx-clip-"))
        while block := sys.stdin.buffer.read(1 << 20):
            file.write(block)
        file.flush()
        return make_item({"video": _STDIN}, Path(file.name), "stdin")
    field = "image" if source.lower().endswith(_IMAGES) else "video"
    path = absolute(source)
    return make_item(relative_to({field: path}, base), Path(path), source)
