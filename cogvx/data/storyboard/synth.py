"""A folder of Storyboard clips with their manifest, made or completed."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cogvx import __version__
from cogvx.data.manifest import Entry, ManifestWriter, entry_id, iter_manifest, write_manifest
from cogvx.data.storyboard.captions import captions, plain_caption
from cogvx.data.storyboard.render import render
from cogvx.data.storyboard.sampling import StoryboardOptions, rng_of, sample_spec
from cogvx.data.storyboard.spec import SceneSpec, split_of
from cogvx.data.video import SUFFIXES, check_writable, encode_clip_bytes, frames_sha256, probe, write_clip
from cogvx.errors import CogvxError, UsageError
from cogvx.files import sha256_file

FORMAT = "cogvx.storyboard/1"
FORMATS = (*(suffix.removeprefix(".") for suffix in SUFFIXES), "png")
MANIFEST = "manifest.jsonl"
LEDGER = ".synth.jsonl"  # what an unfinished run has made so far


@dataclass(frozen=True)
class SynthOptions:
    """What to make.

    Attributes:
        count: How many clips.
        seed: Clip i is a function of (seed, i, story) and of the sizes below.
        num_frames: Of each clip.
        height: Pixels.
        width: Pixels.
        fps: Frames a second.
        form: One of FORMATS: a suffix without its dot, or "png" for a folder of frames a clip.
        story: The odds of everything.
    """

    count: int
    seed: int = 0
    num_frames: int = 17
    height: int = 64
    width: int = 96
    fps: float = 8.0
    form: str = "mp4"
    story: StoryboardOptions = field(default_factory=StoryboardOptions)

    def check(self) -> None:
        """Check that such clips can be drawn and written.

        Raises:
            UsageError: A number or a size is impossible.
        """
        if self.count < 1:
            raise UsageError(f"cannot make {self.count} clips; ask for one or more")
        if self.form not in FORMATS:
            raise UsageError(f"format {self.form!r} is not known; choose from {', '.join(FORMATS)}")
        if self.num_frames < 1 or self.height < 16 or self.width < 16:
            raise UsageError(
                f"cannot draw {self.num_frames} frames of {self.width}x{self.height}; draw at least 1 frame of 16x16"
            )
        if not 0.01 <= self.fps <= 1000:
            raise UsageError(f"fps must be from 0.01 to 1000, got {self.fps:g}")
        if self.form != "png":
            check_writable(f"clip.{self.form}", self.height, self.width, overwrite=True)

    def name_of(self, index: int) -> str:
        """Return the path of a clip, relative to the manifest's folder."""
        return f"clips/{index:06d}" + ("" if self.form == "png" else f".{self.form}")


@dataclass
class SynthResult:
    """What a run has done.

    Attributes:
        manifest: Its path.
        written: How many clips were made.
        kept: How many were there already.
        splits: Split to number of clips.
    """

    manifest: Path
    written: int = 0
    kept: int = 0
    splits: dict[str, int] = field(default_factory=dict)


def entry_at(index: int, options: SynthOptions) -> tuple[Entry, SceneSpec]:
    """Return the manifest entry of a clip, but for its sha256, and its truth."""
    rng = rng_of(options.seed, index)
    spec = sample_spec(rng, options.story)
    texts = captions(spec, rng) | {"plain": plain_caption(spec)}
    entry = {
        "video": options.name_of(index),
        "caption": texts["short"],
        "captions": texts,
        "fps": options.fps,
        "num_frames": options.num_frames,
        "height": options.height,
        "width": options.width,
        "duration": round(options.num_frames / options.fps, 6),
        "split": split_of(spec),
        "truth": spec.to_dict(),
    }
    return entry, spec


def synthesise(
    folder: Path,
    options: SynthOptions,
    *,
    overwrite: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> SynthResult:
    """Make a folder of clips: clips/NNNNNN.mp4 and so on, and manifest.jsonl, written when all clips are there.

    A run that was stopped goes on where it was. Clips that are there already are kept, with all that was added to their
    entries, and so are entries beyond the count.

    Args:
        folder: Where to; made if missing.
        options: What to make.
        overwrite: Make everything anew.
        report: Told how many clips of how many are done.

    Raises:
        UsageError: The options are impossible, or the folder holds other clips of these names.
        InputError: The folder's manifest is broken.
        MissingError: The disk is full.
    """
    options.check()
    result = SynthResult(folder / MANIFEST)
    ledger = folder / LEDGER
    if overwrite:
        ledger.unlink(missing_ok=True)
    before = {} if overwrite else _entries_of(result.manifest)
    known = _entries_of(ledger) | before
    entries = []
    with ManifestWriter(ledger) as writer:
        for index in range(options.count):
            entry, spec = entry_at(index, options)
            kept = None if overwrite else _kept(folder, entry, known)
            if kept is None:
                entry = _make(folder, entry, spec, index, options)
                writer.append(entry)
                result.written += 1
            else:
                entry = kept
                result.kept += 1
            entries.append(entry)
            split = str(entry["split"])
            result.splits[split] = result.splits.get(split, 0) + 1
            report(index + 1, options.count)
    entries = list(({entry_id(entry): entry for entry in entries} | before).values())
    if entries != list(before.values()):
        write_manifest(result.manifest, entries, overwrite=True)
    ledger.unlink(missing_ok=True)
    return result


def estimate(options: SynthOptions) -> tuple[int, float]:
    """Return about how many bytes and seconds the clips take, by making the first one in memory.

    Raises:
        UsageError: The options are impossible.
        MissingError: The encoder is not here.
    """
    options.check()
    start = time.perf_counter()
    _, spec = entry_at(0, options)
    frames = _render(spec, options)
    suffix = ".webp" if options.form == "png" else f".{options.form}"  # lossless WebP is about as large as PNG
    data = encode_clip_bytes(frames, options.fps, suffix=suffix, lossless=options.form == "png")
    return len(data) * options.count, (time.perf_counter() - start) * options.count


def _render(spec: SceneSpec, options: SynthOptions) -> Any:
    return render(spec, num_frames=options.num_frames, height=options.height, width=options.width, fps=options.fps)


def _make(folder: Path, entry: Entry, spec: SceneSpec, index: int, options: SynthOptions) -> Entry:
    """Draw and write one clip, and return its entry with the file's sha256."""
    path = folder / entry["video"]
    frames = _render(spec, options)
    described = {key: value for key, value in entry.items() if key != "video"}
    record = {"format": FORMAT, "version": __version__, "seed": options.seed, "index": index, **described}
    record["frames_sha256"] = frames_sha256(frames)
    write_clip(path, frames, options.fps, comment=json.dumps(record), overwrite=True)
    return entry if path.is_dir() else entry | {"sha256": sha256_file(path)}


def _kept(folder: Path, entry: Entry, known: dict[str, Entry]) -> Entry | None:
    """Return the entry of a clip that is there already, None if it is missing.

    Raises:
        UsageError: What is there is another clip.
    """
    path = folder / entry["video"]
    if not path.exists():
        return None
    sha256 = None if path.is_dir() else sha256_file(path)
    found = known.get(entry_id(entry))
    if found is None:  # a run was stopped between writing the clip and its entry
        if not _matches(_comment_of(path), entry):
            raise UsageError(f"{path} exists and is another clip; choose another folder, or pass --overwrite")
        return entry | {"sha256": sha256} if sha256 else entry
    if not _matches(found, entry) or found.get("sha256") != sha256:
        raise UsageError(
            f"{path} is not this clip, or not the one in the manifest; choose another folder, or pass --overwrite"
        )
    return found


def _entries_of(path: Path) -> dict[str, Entry]:
    """Return the entries of a manifest by their ids; none if it is missing."""
    return {entry_id(entry): entry for _, entry in iter_manifest(path, torn=True)} if path.is_file() else {}


def _matches(found: Entry, entry: Entry) -> bool:
    keys = ("truth", "fps", "num_frames", "height", "width")
    return all(found.get(key) == entry[key] for key in keys)


def _comment_of(path: Path) -> Entry:
    """Return what a clip's comment tag says about it; nothing if it says nothing."""
    try:
        record = json.loads(probe(path).comment or "{}")
    except (CogvxError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
