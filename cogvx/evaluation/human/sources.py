"""The clips of one system and the prompt of each, from a manifest or a folder."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogvx.data.manifest import read_manifest
from cogvx.data.video import probe
from cogvx.errors import CogvxError, InputError
from cogvx.files import clean

MANIFEST = "manifest.jsonl"
_SUFFIXES = (".mp4", ".webm", ".mkv", ".gif", ".webp")
_NUMBERED = re.compile(r"-\d{1,3}$")  # "{prompt}-0.mp4", as VBench names the clips of one prompt


@dataclass(frozen=True)
class Source:
    """A clip that a system made.

    Attributes:
        prompt: What was asked for.
        path: The file.
        start: Seconds; None: the file's beginning.
        end: Seconds; None: the file's end.
    """

    prompt: str
    path: Path
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class System:
    """What one system made.

    Attributes:
        name: Of the system; raters never see it.
        clips: Prompt -> the first clip of it, in the order found.
        prompts_by: What told the prompts: "prompt" or "caption" of a manifest, "comment" tag, "name" of the file.
        num_more: Clips left out, since their prompt has one already.
    """

    name: str
    clips: dict[str, Source]
    prompts_by: tuple[str, ...]
    num_more: int


def read_system(
    name: str,
    source: Path | str,
    *,
    root: Path | str | None = None,
    on_error: Callable[[str, CogvxError], None] | None = None,
) -> System:
    """Find the clips of a system; of several to one prompt the first is taken.

    In a manifest the prompt is an entry's `prompt`, else its `caption`. In a folder without manifest.jsonl it is in a
    clip's comment tag, else the name of its file, without the number that VBench puts behind it.

    Args:
        name: Of the system.
        source: A manifest, or a folder of clips.
        root: What the manifest's paths must stay inside (default: its folder).
        on_error: Told of clips that cannot be used and where they are named (default: the first one is raised).

    Raises:
        InputError: There are no clips, or one has no prompt.
        RefusedError: A path leaves the root.
    """

    def fail(place: str, error: CogvxError) -> None:
        if on_error is None:
            raise error
        on_error(place, error)

    folder = Path(source)
    if folder.is_dir() and not (folder / MANIFEST).is_file():
        found = list(_of_folder(folder, fail))
    else:
        found = list(_of_manifest(folder / MANIFEST if folder.is_dir() else folder, root, fail))
    clips: dict[str, Source] = {}
    for _, clip in found:
        clips.setdefault(clip.prompt, clip)
    if not clips:
        raise InputError(f"{clean(str(source))}: no clip with a prompt in it")
    return System(name, clips, tuple(sorted({how for how, _ in found})), len(found) - len(clips))


def _of_manifest(
    path: Path, root: Path | str | None, fail: Callable[[str, CogvxError], None]
) -> Iterator[tuple[str, Source]]:
    manifest = read_manifest(path, root=root, on_error=lambda error: fail(str(path), error))
    for entry in manifest.entries:
        if "video" not in entry:
            continue
        try:
            how = "prompt" if isinstance(entry.get("prompt"), str) else "caption"
            prompt = _prompt(entry, how)
            yield how, Source(prompt, manifest.path(entry), entry.get("start"), entry.get("end"))
        except CogvxError as error:
            fail(str(entry["video"]), error)


def _of_folder(folder: Path, fail: Callable[[str, CogvxError], None]) -> Iterator[tuple[str, Source]]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in _SUFFIXES:
            continue
        try:
            try:
                record = json.loads(dict(probe(path).metadata).get("comment") or "{}")
            except (ValueError, RecursionError):
                record = {}
            prompt = _recorded(record) if isinstance(record, dict) else None
            yield (
                ("name", Source(_NUMBERED.sub("", path.stem), path))
                if prompt is None
                else ("comment", Source(prompt, path))
            )
        except CogvxError as error:
            fail(str(path), error)


def _recorded(record: Mapping[str, Any]) -> str | None:
    """Return the prompt that a clip's record names: as the user wrote it, before it was rewritten."""
    upsampled = record.get("upsampled")
    written = upsampled.get("from") if isinstance(upsampled, dict) else None
    prompt = written if isinstance(written, str) else record.get("prompt")
    return prompt.strip() or None if isinstance(prompt, str) else None


def _prompt(entry: Mapping[str, Any], how: str) -> str:
    prompt = entry.get(how)
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("nothing says what it was asked to show: no 'prompt' and no 'caption'")
    return prompt.strip()
