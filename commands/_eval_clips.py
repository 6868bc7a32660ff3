"""What the commands of `cogvx eval` that look at clips share: finding them, their failures, and writing the result."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cogvx.errors import CogvxError, InputError, UsageError

from . import _errors
from ._console import Console, quiet_libraries
from ._options import Device, Json, Overwrite, Quiet, Root, Verbose
from ._outputs import CLIP_SUFFIXES, is_frames_folder, write_stdout

if TYPE_CHECKING:
    from cogvx.evaluation.result import Result

MANIFEST = "manifest.jsonl"
Value = TypeVar("Value")


ResultFile = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        "--output-path",
        metavar="FILE",
        rich_help_panel="Output",
        show_default=False,
        help="Write the result as JSON, with every clip's numbers; - for stdout.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class ResultFlags:
    """The flags of commands that measure clips and write a result."""

    root: Root = None
    output: ResultFile = None
    overwrite: Overwrite = False
    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class NetworkFlags(ResultFlags):
    """Those of commands that measure with a network."""

    device: Device = None


@dataclass(frozen=True)
class ClipFile:
    """One clip to measure.

    Attributes:
        name: What it is called in the report.
        path: The file or folder of frames.
        entry: What is known about it; None if only its file can tell.
    """

    name: str
    path: Path
    entry: dict[str, Any] | None

    @property
    def span(self) -> dict[str, float | None]:
        """Start and end in the file, in seconds."""
        return {key: (self.entry or {}).get(key) for key in ("start", "end")}


@dataclass
class Session:
    """One call of a command: where words go, and what failed.

    Attributes:
        console: Where words go.
        flags: As given.
        failed: What could not be used.
    """

    console: Console
    flags: ResultFlags
    failed: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, name: str, error: Exception) -> None:
        """Report an input that cannot be used, and go on; anything that is not the input's fault is raised."""
        _, message = _errors.describe(error)
        if message is None or _errors.is_disk_full(error) or getattr(error, "exit_code", 3) not in (3, 5):
            raise error
        self.failed.append({"input": name, "error": message})
        self.console.failure(name, error, message)

    def each(self, title: str, clips: list[ClipFile], work: Callable[[ClipFile], Value]) -> Iterator[Value]:
        """Yield work(clip) of each clip that can be used; with progress."""
        with self.console.progress(title) as report:
            for done, clip in enumerate(clips):
                report("clip", done, len(clips))
                try:
                    value = work(clip)
                except Exception as error:
                    self.fail(clip.name, error)
                    continue
                yield value

    def finish(
        self, result: "Result", rows: list[list[str]], header: list[str], *, remarks: Sequence[str] = ()
    ) -> None:
        """Print the table and remarks on it, or with --json the result without its clips, and write the file.

        Raises:
            typer.Exit: With 3, when some clips could not be used.
        """
        from cogvx.evaluation.result import write_result

        output = self.flags.output
        if output == "-":
            write_stdout(result.to_json().encode())
        else:
            if self.console.json:
                self.console.result("", {key: one for key, one in result.to_dict().items() if key != "per_video"})
            else:
                self.console.table(rows, header=header)
                for line in remarks:
                    self.console.note(line)
                self.console.note(f"protocol: {told(result.protocol)}")
                self.console.note(f"backend: {told(result.backend)}")
            if output is not None:
                write_result(output, result, overwrite=self.flags.overwrite)
                self.console.note(f"written to {output}")
        if self.failed:
            share = f"{100 * result.coverage:.1f} %"
            self.console.note(f"{len(self.failed)} clips could not be used and do not count: {share} covered")
            raise typer.Exit(3)


def start(flags: ResultFlags) -> Session:
    """Begin a command: check, before the work and not after it, that its result can be written.

    Raises:
        UsageError: The output exists.
    """
    quiet_libraries(flags.verbose)
    check_free(flags.output, flags.overwrite)
    return Session(Console(flags.quiet, flags.verbose, flags.json, silent_stdout=flags.output == "-"), flags)


def check_free(path: str | None, overwrite: bool) -> None:
    """Refuse an output that exists.

    Raises:
        UsageError: It exists, and is not to be replaced.
    """
    if path not in (None, "-") and os.path.lexists(str(path)) and not overwrite:
        raise UsageError(f"{path} exists; pass --overwrite to replace it")


def quiet_bars() -> None:
    """Keep transformers from drawing bars while it loads weights."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def find_clips(source: str, session: Session) -> list[ClipFile]:
    """Return the clips of a manifest, or of a folder (of its manifest.jsonl if it has one) in the order of their names.

    Raises:
        InputError: There is none.
    """
    from cogvx.data.manifest import read_manifest

    folder = Path(source)
    if source != "-" and folder.is_dir():
        if not (folder / MANIFEST).is_file():
            clips = sorted(path for path in folder.iterdir() if _is_clip(path))
            if not clips:
                raise InputError(f"{folder}: no clips in it, and no {MANIFEST}")
            return [ClipFile(str(path), path, None) for path in clips]
        source = str(folder / MANIFEST)

    manifest = read_manifest(source, root=session.flags.root, on_error=lambda error: session.fail(source, error))
    found = []
    for entry in manifest.entries:
        try:
            field_name = "image" if "image" in entry and "video" not in entry else "video"
            found.append(ClipFile(str(entry.get(field_name, "an entry")), manifest.path(entry, field_name), entry))
        except CogvxError as error:
            session.fail(source, error)
    if not found:
        raise InputError(f"{source}: no clips in it")
    return found


def text_of(clip: ClipFile) -> str:
    """Return what a clip should show: its entry's "prompt", else its "caption", else the prompt in its comment tag.

    Raises:
        InputError: Nothing says it.
    """
    record = clip.entry
    if record is None:
        from cogvx.data.video import probe

        try:
            record = json.loads(probe(clip.path).comment or "{}")
        except (ValueError, RecursionError):
            record = {}
    for key in ("prompt", "caption"):
        text = record.get(key) if isinstance(record, dict) else None
        if isinstance(text, str) and text.strip():
            return text
    raise InputError("nothing says what it should show: no 'prompt' and no 'caption'")


def shapes_of(frames: "Counter[str]") -> dict[str, int]:
    """Return how many clips had each shape, for a protocol."""
    return dict(sorted(frames.items()))


def told(table: dict[str, Any]) -> str:
    """Return settings as one line; of hashes the beginning."""
    return ", ".join(f"{key} {_short(value)}" for key, value in table.items())


def cell(value: float | None) -> str:
    """Return a number as a table shows it."""
    return "-" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + told(value) + "}"
    text = str(value)
    return text[:12] if len(text) == 64 and text.isalnum() else text


def _is_clip(path: Path) -> bool:
    return not path.name.startswith(".") and (path.suffix.lower() in CLIP_SUFFIXES or is_frames_folder(path))
