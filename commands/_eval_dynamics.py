"""The work of `cogvx eval dynamics`: how much happens in clips, and how good they are at every amount of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogvx.errors import InputError, UsageError

from ._eval_clips import ClipFile, ResultFlags, cell, find_clips, start

if TYPE_CHECKING:
    from cogvx.evaluation.dynamics.aggregate import BinnedQuality

METRIC, QUALITY = "dynamics@cogvx", "dynamics_quality@cogvx"
COLUMN = "dynamics"


@dataclass(frozen=True, kw_only=True)
class DynamicsFlags(ResultFlags):
    """The flags of eval dynamics."""

    quality: Annotated[
        list[str] | None,
        typer.Option(
            "--quality",
            metavar="NAME=RESULT.json",
            show_default=False,
            help="A quality of each clip, from a result of `cogvx eval`: motion_smoothness, naturalness, "
            "subject_consistency, background_consistency; repeatable. Default: the entries' scores of these names.",
        ),
    ] = None
    from_scores: Annotated[
        bool,
        typer.Option("--from-scores", help='Take the dynamics from the entries\' scores of the name "dynamics".'),
    ] = False


@dataclass(frozen=True)
class Moving:
    """What is known of one clip.

    Attributes:
        clip: Which one.
        value: Its dynamics, 0 to 1.
        grade: The grade that its prompt asks for, if that is known.
        row: What is told about it.
    """

    clip: ClipFile
    value: float
    grade: str | None
    row: dict[str, Any]


def measure(source: str, flags: DynamicsFlags) -> None:
    """Measure clips; errors are those of find_clips and cogvx.evaluation.dynamics."""
    from cogvx.evaluation.dynamics import aggregate, level
    from cogvx.evaluation.result import Result

    session = start(flags)
    given = dict(_quality_file(one) for one in flags.quality or [])
    clips = find_clips(source, session)
    moving = list(session.each("eval dynamics", clips, lambda clip: _look(clip, from_scores=flags.from_scores)))
    if not moving:
        raise InputError(f"{source}: no clip could be measured")
    values = [one.value for one in moving]
    value: dict[str, Any] = {
        "mean": sum(values) / len(values),
        "range": aggregate.dynamics_range(values),
        "controllability": _controllability(moving),
    }
    qualities, lacking = _qualities(moving, given)
    value[QUALITY] = aggregate.dynamic_quality(qualities)
    result = Result(
        metric=METRIC,
        value={key: one for key, one in value.items() if one is not None},
        n=len(moving),
        per_video=[one.row for one in moving],
        protocol={
            "dynamics": "the entries' scores" if flags.from_scores else level.settings(),
            "bins": aggregate.BINS,
            "empty_bin": 0,
            "range": "P99 - P1",
            "qualities": sorted(qualities),
        },
        backend={"name": "given" if flags.from_scores else "OpenCV DIS and arithmetic, no network"},
        failed=session.failed,
        more={"qualities": {name: one.to_dict() for name, one in qualities.items()}},
    )
    rows = [[name, cell(one)] for name, one in value.items()]
    rows += [[f"quality: {name}", cell(one.value)] for name, one in qualities.items()]
    if value["controllability"] is None:
        session.console.note(f"no controllability: not every entry has a 'grade' ({', '.join(aggregate.GRADES)})")
    if value[QUALITY] is None:
        session.console.note(f"no {QUALITY}: there is no {', no '.join(lacking)} of every clip")
    session.finish(result, rows, ["metric", "value"])


def _look(clip: ClipFile, *, from_scores: bool) -> Moving:
    """Return the dynamics of one clip.

    Raises:
        InputError: It cannot be read, or has no score.
    """
    from cogvx.data.video import read_clip
    from cogvx.evaluation.dynamics.level import dynamics

    entry = clip.entry or {}
    grade = entry.get("grade") if isinstance(entry.get("grade"), str) else None
    if from_scores:
        score = (entry.get("scores") or {}).get(COLUMN)
        if not isinstance(score, int | float) or not 0 <= score <= 1:
            raise InputError(f"no score {COLUMN!r} from 0 to 1")
        row: dict[str, Any] = {"input": clip.name, "value": float(score)}
    else:
        read = read_clip(clip.path, start=clip.span["start"], end=clip.span["end"])
        found = dynamics(read.frames, read.fps)
        row = {"input": clip.name, **found.to_dict()}
    return Moving(clip, row["value"], grade, row | ({} if grade is None else {"grade": grade}))


def _controllability(moving: list[Moving]) -> float | None:
    from cogvx.evaluation.dynamics.aggregate import controllability

    grades = [one.grade for one in moving if one.grade is not None]
    if len(grades) < len(moving) or len(set(grades)) < 2:
        return None
    return controllability([one.value for one in moving], grades)


def _qualities(
    moving: list[Moving], given: Mapping[str, Mapping[str, float]]
) -> "tuple[dict[str, BinnedQuality], list[str]]":
    """Return the qualities that every clip has, by name, and the names of those that some lack."""
    from cogvx.evaluation.dynamics.aggregate import QUALITIES, binned_quality

    found, lacking = {}, []
    for name in QUALITIES:
        scores = [_quality_of(one.clip, name, given.get(name)) for one in moving]
        known = [score for score in scores if score is not None]
        if len(known) == len(moving):
            found[name] = binned_quality([one.value for one in moving], known)
        elif name in given:
            raise InputError(f"--quality {name}: {len(moving) - len(known)} of {len(moving)} clips are not in it")
        else:
            lacking.append(name)
    return found, lacking


def _quality_of(clip: ClipFile, name: str, given: Mapping[str, float] | None) -> float | None:
    if given is not None:
        return given.get(clip.path.name)
    score = ((clip.entry or {}).get("scores") or {}).get(name)
    return float(score) if isinstance(score, int | float) else None


def _quality_file(text: str) -> tuple[str, dict[str, float]]:
    """Return the name and the scores, by the clips' file names, of one --quality.

    Raises:
        UsageError: It has another form, or names no quality.
        InputError: The file has two clips of one name, or none.
    """
    from cogvx.evaluation.dynamics.aggregate import QUALITIES
    from cogvx.evaluation.result import read_result

    name, _, path = text.partition("=")
    if not path or name not in QUALITIES:
        raise UsageError(f"--quality {text}: expected NAME=RESULT.json with one of {', '.join(QUALITIES)}")
    scores: dict[str, float] = {}
    for row in read_result(path).per_video:
        value = row.get("value")
        if isinstance(
            value, dict
        ):  # of several metrics, such as those of vbench; a substitute's ending does not matter
            value = next((one for key, one in value.items() if key.partition("@")[0] == name), None)
        if isinstance(value, int | float):
            clip = Path(str(row.get("input"))).name
            if clip in scores:
                raise InputError(f"{path}: two clips are called {clip}")
            scores[clip] = float(value)
    if not scores:
        raise InputError(f"{path}: no {name} of any clip in it")
    return name, scores
