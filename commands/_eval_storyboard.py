"""The work of `cogvx eval storyboard`: judge clips by what they were asked to show, and report."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cogvx.errors import InputError

from ._eval_clips import ClipFile, ResultFlags, find_clips, start

if TYPE_CHECKING:
    from cogvx.evaluation.result import Result
    from cogvx.evaluation.storyboard import Request, Tally, Verdict

_MISTAKES_SHOWN = 3
_HEADER = ["attribute", "right", "accuracy", "95 %", "margin", "two objects", ""]


@dataclass
class Judged:
    """What has been judged so far.

    Attributes:
        tally: The verdicts.
        per_video: What is told about each clip.
        asked_by: How many clips were asked for by their prompt, truth or caption.
        shapes: How many had each shape and rate.
        doubts: How many leave a doubt about each attribute.
    """

    tally: "Tally"
    per_video: list[dict[str, Any]] = field(default_factory=list)
    asked_by: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)


def measure(source: str, flags: ResultFlags) -> None:
    """Judge all clips of a manifest or folder, print the table, and write the result.

    Raises:
        typer.Exit: With 3, when some clips could not be judged.
        UsageError: The output exists.
        InputError: There is nothing to judge.
    """
    from cogvx.evaluation.storyboard import Tally

    session = start(flags)
    judged = Judged(Tally())
    for verdict, record in session.each("eval storyboard", find_clips(source, session), _judge):
        _count(judged, verdict, record)
        if session.console.json:
            session.console.result("", record)
    if not judged.per_video:
        raise InputError(f"{source}: no clip could be judged")
    result = _result(judged, session.failed)
    table = result.to_dict()
    session.finish(result, _rows(table), _HEADER, remarks=list(_remarks(table)))


def _judge(clip_file: ClipFile) -> "tuple[Verdict, dict[str, Any]]":
    """Return the verdict on one clip, and what is told about it."""
    from cogvx.data.video import read_clip
    from cogvx.evaluation.storyboard import judge_request, look_at

    entry = clip_file.entry
    clip = read_clip(clip_file.path, start=clip_file.span["start"], end=clip_file.span["end"])
    asked_by, request = _request(entry if entry is not None else _comment(clip.metadata))
    sight = look_at(clip.frames, clip.fps)
    verdict = judge_request(sight, request)
    num_frames, height, width, _ = clip.frames.shape
    return verdict, {
        "input": clip_file.name,
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


def _result(judged: Judged, failed: list[dict[str, Any]]) -> "Result":
    from cogvx.evaluation.result import Result
    from cogvx.evaluation.storyboard import METHOD

    summary = judged.tally.summary()
    doubtful = {
        "clips": sum(bool(record["doubts"]) for record in judged.per_video),
        "attributes": dict(sorted(judged.doubts.items())),
    }
    return Result(
        metric="storyboard",
        value=summary.pop("value"),
        n=summary.pop("n"),
        per_video=judged.per_video,
        protocol={
            "method": METHOD,
            "unstated": {"style": "flat", "camera": "still"},
            "set": {
                "asked_by": dict(sorted(judged.asked_by.items())),
                "clips": dict(sorted(judged.shapes.items())),
            },
        },
        backend={"name": "cogvx.evaluation.storyboard: drawn candidates, no network"},
        failed=failed,
        more={
            **summary,
            "two_objects": judged.tally.of(2).summary(),
            "doubtful": doubtful,
            "mistakes": judged.tally.mistakes(),
        },
    )


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


def _cells(ratio: dict[str, Any] | None) -> list[str]:
    if not ratio or not ratio["asked"]:
        return ["-", "-", "-"]
    low, high = (f"{100 * bound:.0f}" for bound in ratio["interval"])
    return [f"{ratio['right']}/{ratio['asked']}", _percent(ratio["accuracy"]), f"{low} to {high}"]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"
