"""The work of `cogvx eval storyboard`: find the clips and what they were asked to show, judge, and report."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cogvx.errors import CogvxError, InputError, UsageError

from . import _errors
from ._console import Console
from ._outputs import CLIP_SUFFIXES, is_frames_folder, write_stdout

if TYPE_CHECKING:
    from cogvx.evaluation.storyboard import Request, Tally, Verdict

MANIFEST = "manifest.jsonl"
_MISTAKES_SHOWN = 3

Fail = Callable[[str, Exception], None]


@dataclass(frozen=True)
class Job:
    """One clip to judge.

    Attributes:
        name: What it is called in the report.
        path: The file or folder of frames.
        record: What is known about it: an entry of a manifest; None if only its comment tag can tell.
    """

    name: str
    path: Path
    record: dict[str, Any] | None


@dataclass
class Judged:
    """What has been judged so far.

    Attributes:
        tally: The verdicts.
        per_video: What is told about each clip.
        asked_by: How many clips were asked for by their prompt, truth or caption.
        shapes: How many had each shape and rate.
        doubts: How many leave a doubt about each attribute.
        failed: What could not be judged.
    """

    tally: "Tally"
    per_video: list[dict[str, Any]] = field(default_factory=list)
    asked_by: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)


def judge_all(source: str, console: Console, *, root: str | None, output: str | None, overwrite: bool) -> None:
    """Judge all clips of a manifest or folder, print the table, and write the result.

    Raises:
        typer.Exit: With 3, when some clips could not be judged.
        UsageError: The output exists.
        InputError: There is nothing to judge.
    """
    from cogvx.evaluation.storyboard import Tally

    if output not in (None, "-") and os.path.lexists(str(output)) and not overwrite:  # before the work, not after it
        raise UsageError(f"{output} exists; pass --overwrite to replace it")
    judged = Judged(Tally())

    def fail(name: str, error: Exception) -> None:
        _, message = _errors.describe(error)
        if message is None:
            raise error
        judged.failed.append(name)
        console.failure(name, error, message)

    jobs = list(_jobs(source, root, fail))
    with console.progress("eval storyboard") as report:
        for done, job in enumerate(jobs):
            report("clip", done, len(jobs))
            try:
                verdict, record = _judge(job)
            except Exception as error:
                fail(job.name, error)
                continue
            _count(judged, verdict, record)
            if console.json:
                console.result("", record)
    if not judged.per_video:
        raise InputError(f"{source}: no clip could be judged")
    _write(_result(judged), console, output, overwrite=overwrite)
    if judged.failed:
        raise typer.Exit(3)


def _jobs(source: str, root: str | None, fail: Fail) -> Iterator[Job]:
    """Yield the clips of a manifest, or of a folder in the order of their names.

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
            yield from (Job(str(path), path, None) for path in clips)
            return
        source = str(folder / MANIFEST)

    manifest = read_manifest(source, root=root, on_error=lambda error: fail(source, error))
    for entry in manifest.entries:
        try:
            yield Job(str(entry.get("video", "an entry")), manifest.path(entry), entry)
        except CogvxError as error:
            fail(source, error)


def _is_clip(path: Path) -> bool:
    return not path.name.startswith(".") and (path.suffix.lower() in CLIP_SUFFIXES or is_frames_folder(path))


def _judge(job: Job) -> "tuple[Verdict, dict[str, Any]]":
    """Return the verdict on one clip, and what is told about it."""
    from cogvx.data.video import read_clip
    from cogvx.evaluation.storyboard import judge_request, look_at

    entry = job.record
    span = {key: entry[key] for key in ("start", "end") if entry.get(key) is not None} if entry else {}
    clip = read_clip(job.path, **span)
    asked_by, request = _request(entry if entry is not None else _comment(clip.metadata))
    sight = look_at(clip.frames, clip.fps)
    verdict = judge_request(sight, request)
    num_frames, height, width, _ = clip.frames.shape
    return verdict, {
        "input": job.name,
        "value": verdict.share,
        "exact": verdict.exact,
        "fit": round(verdict.fit, 4),
        "findings": [
            {"attribute": one.attribute, "asked": one.asked, "seen": one.seen, "right": one.right}
            | ({} if one.margin is None else {"margin": round(one.margin, 4)})
            for one in verdict.findings
        ],
        "doubts": list(sight.doubts()),
        "asked_by": asked_by,
        "asked": request.to_dict(),
        "seen": sight.to_dict(),
        "clip": f"{num_frames}x{height}x{width} at {clip.fps:g} fps",
    }


def _comment(metadata: dict[str, str]) -> dict[str, Any]:
    """Return what a clip's comment tag says; nothing if it says nothing."""
    try:
        record = json.loads(metadata.get("comment") or "{}")
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _request(record: dict[str, Any]) -> "tuple[str, Request]":
    """Return the key of a record that says what was asked for, and that.

    Raises:
        InputError: It has no such key, or not one that names something of the world.
    """
    from cogvx.evaluation.storyboard import Request, read_prompt

    if isinstance(record.get("prompt"), str):
        return "prompt", read_prompt(record["prompt"])
    if isinstance(record.get("truth"), dict):
        return "truth", Request.from_truth(record["truth"])
    if isinstance(record.get("caption"), str):
        return "caption", read_prompt(record["caption"])
    raise InputError("nothing says what it was asked to show: no 'prompt', no 'truth' and no 'caption'")


def _count(judged: Judged, verdict: "Verdict", record: dict[str, Any]) -> None:
    judged.tally.verdicts.append(verdict)
    judged.per_video.append(record)
    judged.asked_by[record["asked_by"]] += 1
    judged.shapes[record["clip"]] += 1
    judged.doubts.update(record["doubts"])


def _result(judged: Judged) -> dict[str, Any]:
    from cogvx import __version__
    from cogvx.evaluation.storyboard import METHOD

    count = len(judged.per_video)
    return {
        "metric": "storyboard",
        **judged.tally.summary(),
        "failed": len(judged.failed),
        "coverage": count / (count + len(judged.failed)),
        "two_objects": judged.tally.of(2).summary(),
        "doubtful": {
            "clips": sum(bool(record["doubts"]) for record in judged.per_video),
            "attributes": dict(sorted(judged.doubts.items())),
        },
        "mistakes": judged.tally.mistakes(),
        "per_video": judged.per_video,
        "protocol": {
            "method": METHOD,
            "asked_by": dict(sorted(judged.asked_by.items())),
            "unstated": {"style": "flat", "camera": "still"},
            "clips": dict(sorted(judged.shapes.items())),
        },
        "backend": "cogvx.evaluation.storyboard: drawn candidates, no network",
        "version": __version__,
    }


def _write(result: dict[str, Any], console: Console, output: str | None, *, overwrite: bool) -> None:
    """Print the table, or with --json the result without its clips, and write the file."""
    from cogvx.files import write_text

    text = json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    if output == "-":
        write_stdout(text.encode())
        return
    if console.json:
        console.result("", {key: value for key, value in result.items() if key != "per_video"})
    else:
        console.table(_rows(result), header=["attribute", "right", "accuracy", "95 %", "margin", "two objects", ""])
        for line in _remarks(result):
            console.note(line)
    if output is not None:
        write_text(output, text, overwrite=overwrite)
        console.note(f"written to {output}")


def _rows(result: dict[str, Any]) -> list[list[str]]:
    """Return the table: a row an attribute, then the clips that are right in everything, then the mean."""
    two = result["two_objects"]
    rows = [
        [name, *_cells(ratio), _number(ratio["margin"]), *_cells(two["attributes"].get(name))[:2]]
        for name, ratio in result["attributes"].items()
    ]
    for name, key in (("objects, colours", "objects"), ("all of a clip", "exact")):
        rows.append([name, *_cells(result[key]), "", *_cells(two[key])[:2]])
    rows.append(
        ["mean share", f"n={result['n']}", _percent(result["value"]), "", "", f"n={two['n']}", _percent(two["value"])]
    )
    return rows


def _remarks(result: dict[str, Any]) -> Iterator[str]:
    """Yield what the table leaves out: the most frequent mistakes, doubts, and what is missing."""
    for name, rows in result["mistakes"].items():
        shown = ", ".join(f"{row['asked']} as {row['seen']} ({row['count']})" for row in rows[:_MISTAKES_SHOWN])
        yield f"{name} wrong: {shown}{', ...' if len(rows) > _MISTAKES_SHOWN else ''}"
    doubtful = result["doubtful"]
    if doubtful["clips"]:
        about = ", ".join(f"{name} {count}" for name, count in doubtful["attributes"].items())
        yield f"{doubtful['clips']} of {result['n']} clips leave doubts, fewer than 1 in 20 drawn ones do: {about}"
    if result["failed"]:
        yield f"{result['failed']} clips could not be judged and do not count: {_percent(result['coverage'])} covered"


def _cells(ratio: dict[str, Any] | None) -> list[str]:
    if not ratio or not ratio["asked"]:
        return ["-", "-", "-"]
    low, high = (f"{100 * bound:.0f}" for bound in ratio["interval"])
    return [f"{ratio['right']}/{ratio['asked']}", _percent(ratio["accuracy"]), f"{low} to {high}"]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"
