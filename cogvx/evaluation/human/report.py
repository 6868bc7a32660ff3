"""From the votes of a study to the paper's Table 4, the agreement of raters, and a ranking with intervals."""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogvx.errors import InputError
from cogvx.evaluation.human.answers import ASPECTS, CAP, CAP_ASPECT, MAX_TOTAL, checked_choice, checked_rating
from cogvx.evaluation.human.serve import open_votes
from cogvx.evaluation.human.study import Item, Study, read_study
from cogvx.evaluation.result import Result
from cogvx.files import clean
from cogvx.metrics.votes import (
    NUM_RESAMPLES,
    Comparison,
    Level,
    bootstrap_mean,
    bradley_terry,
    krippendorff_alpha,
    win_matrix,
)

_OUTCOMES = {"a": 1.0, "b": 0.0, "tie": 0.5}


@dataclass(frozen=True)
class Vote:
    """What one rater said about one item, with the systems known again.

    Attributes:
        rater: Who.
        item: About what.
        answer: As answers.checked_rating or answers.checked_choice returns it.
        seconds: How long it took; None if unknown.
    """

    rater: str
    item: Item
    answer: dict[str, Any]
    seconds: float | None


@dataclass(frozen=True)
class Report:
    """What a study found.

    Attributes:
        result: JSON, as all results of `cogvx eval`: metric, value, n, per_video, protocol, backend, version.
        markdown: The tables for people.
    """

    result: dict[str, Any]
    markdown: str


def report_study(
    folder: Path | str,
    *,
    database: Path | str | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    anchor: str | None = None,
) -> Report:
    """Evaluate the votes of a study.

    A system's numbers are means over all votes. Intervals hold 95 % of resamples in which prompts are drawn with
    replacement, since votes about one prompt go together. In a rating study two clips of one prompt that one rater
    gave different totals count as a comparison too, so that there is a ranking in either mode.

    Args:
        folder: Of the study.
        database: The votes (default: votes.sqlite in the folder).
        num_resamples: Resamples of the intervals.
        seed: Of the resamples.
        anchor: The system whose rating is 1000 (default: the mean is).

    Raises:
        InputError: The study or its votes cannot be read, there are none, or the anchor is no system.
    """
    study = read_study(folder)
    if anchor is not None and anchor not in study.systems:
        raise InputError(f"--anchor {clean(anchor)}: the study has {', '.join(map(clean, study.systems))}")
    votes = read_votes(study, database)
    if not votes:
        raise InputError(f"{clean(str(folder))}: nobody has judged anything yet")
    compared = comparisons(study, votes)
    ranking, refused = _ranking(compared, anchor, num_resamples, seed)
    value: dict[str, Any] = {"ranking": ranking, "ranking_refused": refused}
    if study.mode == "rating":
        value = {"table": _table(study, votes, num_resamples, seed)} | value
    agreement = _agreement(study, votes)
    raters = sorted({vote.rater for vote in votes})
    times = sorted(vote.seconds for vote in votes if vote.seconds is not None)
    result = Result(
        metric=f"human_{study.mode}",
        value=value,
        n=len(votes),
        per_video=_per_video(study, votes) if study.mode == "rating" else _per_pair(study, votes),
        protocol=_protocol(study, raters, num_resamples, seed, anchor),
        backend={
            "name": "people",
            "raters": len(raters),
            "votes_by_rater": [count for _, count in sorted(Counter(vote.rater for vote in votes).items())],
            "median_seconds": round(times[len(times) // 2], 1) if times else None,
        },
        more={"agreement": agreement, "wins": _wins(compared), "items": _judged(study, votes)},
    ).to_dict()
    return Report(result, _markdown(result))


def read_votes(study: Study, database: Path | str | None = None) -> list[Vote]:
    """Return the latest vote of each rater about each item.

    Raises:
        InputError: The database is missing or damaged, or a vote in it breaks the rules of the page.
        UsageError: It holds the votes of another study.
    """
    check: Callable[[Any], dict[str, Any]] = checked_rating if study.mode == "rating" else checked_choice
    items = {item.id: item for item in study.items}
    votes = []
    with open_votes(study, database) as journal:
        for one in journal.latest():
            if one.item not in items:
                raise InputError(f"{clean(str(journal.path))}: a vote about {clean(one.item)[:60]}, which is no item")
            try:
                answer = check(one.answer)
            except InputError as error:
                raise InputError(f"{clean(str(journal.path))}: item {clean(one.item)[:60]}: {error}") from error
            votes.append(Vote(one.rater, items[one.item], answer, one.seconds))
    return votes


def comparisons(study: Study, votes: Sequence[Vote]) -> list[Comparison]:
    """Return the judgements of two systems each: choices, or the totals that one rater gave two clips of a prompt."""
    if study.mode == "pairwise":
        return [
            Comparison(
                vote.item.shown[0].system, vote.item.shown[1].system, _OUTCOMES[vote.answer["choice"]], vote.item.prompt
            )
            for vote in votes
        ]
    totals: dict[tuple[str, int], list[tuple[str, int]]] = defaultdict(list)
    for vote in votes:
        totals[vote.rater, vote.item.prompt].append((vote.item.shown[0].system, vote.answer["total"]))
    return [
        Comparison(first, second, 0.5 + 0.5 * float(np.sign(one - other)), prompt)
        for (_, prompt), given in totals.items()
        for (first, one), (second, other) in itertools.combinations(sorted(given), 2)
    ]


def _ranking(
    compared: list[Comparison], anchor: str | None, num_resamples: int, seed: int
) -> tuple[dict[str, Any] | None, str | None]:
    """Return the ranking, or why there is none."""
    try:
        strengths = bradley_terry(compared, anchor=anchor, num_resamples=num_resamples, seed=seed)
    except InputError as error:
        return None, str(error)
    return {name: one.to_dict() for name, one in strengths.items()}, None


def _table(study: Study, votes: Sequence[Vote], num_resamples: int, seed: int) -> dict[str, Any]:
    """Return system -> column of Table 4 -> mean and interval, and votes."""
    table: dict[str, Any] = {}
    for system in study.systems:
        own = [vote for vote in votes if vote.item.shown[0].system == system]
        if not own:
            continue
        groups = [vote.item.prompt for vote in own]
        row: dict[str, Any] = {}
        for name in (*(aspect.name for aspect in ASPECTS), "total"):
            mean, interval = bootstrap_mean(
                [_number(vote, name) for vote in own], groups, num_resamples=num_resamples, seed=seed
            )
            row[name] = {"mean": round(mean, 4), "interval": [round(bound, 4) for bound in interval]}
        table[system] = row | {"votes": len(own), "prompts": len(set(groups))}
    return table


def _number(vote: Vote, name: str) -> float:
    return float(vote.answer["total"] if name == "total" else vote.answer["scores"][name])


def _agreement(study: Study, votes: Sequence[Vote]) -> dict[str, Any]:
    """Return Krippendorff's alpha of each question, and how many items two or more raters judged."""
    shared = sum(count > 1 for count in Counter(vote.item.id for vote in votes).values())
    alphas: dict[str, Any] = {}
    if study.mode == "rating":
        for aspect in ASPECTS:
            scores = [_number(vote, aspect.name) for vote in votes]
            alphas[aspect.name] = _alpha(study, votes, scores, "ordinal")
        alphas["total"] = _alpha(study, votes, [_number(vote, "total") for vote in votes], "interval")
    else:
        alphas["choice"] = _alpha(study, votes, [_OUTCOMES[vote.answer["choice"]] for vote in votes], "ordinal")
    return {"items_of_two_raters": shared, "alpha": alphas}


def _alpha(study: Study, votes: Sequence[Vote], numbers: Sequence[float], level: Level) -> dict[str, Any]:
    raters = {name: i for i, name in enumerate(sorted({vote.rater for vote in votes}))}
    items = {item.id: i for i, item in enumerate(study.items)}
    ratings = np.full((len(raters), len(items)), math.nan)
    for vote, number in zip(votes, numbers, strict=True):
        ratings[raters[vote.rater], items[vote.item.id]] = number
    alpha = krippendorff_alpha(ratings, level=level)
    return {"value": None if alpha is None else round(alpha, 4), "level": level}


def _wins(compared: Sequence[Comparison]) -> dict[str, Any]:
    """Return how often the system of a row was preferred over that of a column, ties half."""
    systems, wins = win_matrix(compared) if compared else ([], np.zeros((0, 0)))
    return {"systems": systems, "matrix": wins.tolist()}


def _judged(study: Study, votes: Sequence[Vote]) -> dict[str, Any]:
    judged = {vote.item.id for vote in votes}
    return {"count": len(study.items), "judged": len(judged), "share": round(len(judged) / len(study.items), 4)}


def _per_video(study: Study, votes: Sequence[Vote]) -> list[dict[str, Any]]:
    """Return what raters said about each clip: means, and the reasons."""
    by_item = _by_item(votes)
    rows = []
    for item in study.items:
        if not (given := by_item.get(item.id)):
            continue
        names = (*(aspect.name for aspect in ASPECTS), "total")
        means = {name: round(sum(_number(vote, name) for vote in given) / len(given), 4) for name in names}
        row = {"input": item.shown[0].clip, "system": item.shown[0].system, "prompt": study.prompts[item.prompt]}
        rows.append(row | means | {"votes": len(given), "reasons": _reasons(given)})
    return rows


def _per_pair(study: Study, votes: Sequence[Vote]) -> list[dict[str, Any]]:
    """Return what raters said about each pair."""
    by_item = _by_item(votes)
    rows = []
    for item in study.items:
        if not (given := by_item.get(item.id)):
            continue
        counts = Counter(vote.answer["choice"] for vote in given)
        row: dict[str, Any] = {"prompt": study.prompts[item.prompt]}
        for seat, one in zip("ab", item.shown, strict=True):
            row |= {f"input_{seat}": one.clip, f"system_{seat}": one.system}
        rows.append(row | {choice: counts[choice] for choice in _OUTCOMES} | {"reasons": _reasons(given)})
    return rows


def _by_item(votes: Sequence[Vote]) -> dict[str, list[Vote]]:
    by_item: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_item[vote.item.id].append(vote)
    return by_item


def _reasons(votes: Sequence[Vote]) -> list[str]:
    return [vote.answer["reasons"] for vote in votes if vote.answer["reasons"]]


def _protocol(study: Study, raters: list[str], num_resamples: int, seed: int, anchor: str | None) -> dict[str, Any]:
    rules: dict[str, Any] = {"preference": "a, b or tie; a tie is half a win of each"}
    if study.mode == "rating":
        rules = {
            "scores": {aspect.name: [0, 0.5, 1] for aspect in ASPECTS},
            "total": f"whole numbers 0 to {MAX_TOTAL}, at most {CAP} where {CAP_ASPECT} is 0",
            "comparisons": "totals of one rater for two clips of one prompt; equal totals are ties",
        }
    return {
        "study": study.sha256,
        "mode": study.mode,
        "prompts": len(study.prompts),
        "systems": list(study.systems),
        "blind": "clips encoded anew and alike, mixed, each rater in an order of their own",
        **study.details,
        **rules,
        "raters": len(raters),
        "ranking": "Bradley-Terry, greatest likelihood; 400 points are odds of 10:1",
        "anchor": "mean 1000" if anchor is None else f"{anchor} 1000",
        "intervals": f"95 %, {num_resamples} resamples of prompts, seed {seed}",
    }


def _markdown(result: dict[str, Any]) -> str:
    """Return the tables for people, in Markdown."""
    value, protocol, agreement = result["value"], result["protocol"], result["agreement"]
    items = result["items"]
    lines = [
        "# Human evaluation",
        "",
        f"{result['n']} votes of {protocol['raters']} raters about {items['judged']} of {items['count']} items; "
        f"{protocol['prompts']} prompts, {len(protocol['systems'])} systems. In brackets: {protocol['intervals']}.",
    ]
    if "table" in value:
        header = ["Model", *(aspect.title for aspect in ASPECTS), "Total Score"]
        names = [*(aspect.name for aspect in ASPECTS), "total"]
        rows = [
            [name, *(_with_interval(row[column]["mean"], row[column]["interval"], 3) for column in names)]
            for name, row in sorted(value["table"].items(), key=lambda pair: (-pair[1]["total"]["mean"], pair[0]))
        ]
        lines += ["", "## Scores, as in Table 4 of the CogVideoX paper", "", *_rows(header, rows)]
    lines += ["", "## Ranking (Bradley-Terry)", ""]
    if value["ranking"] is None:
        lines.append(clean(value["ranking_refused"]))
    else:
        rows = [
            [
                name,
                _with_interval(row["rating"], row["rating_interval"], 0),
                _with_interval(row["win_rate"], row["win_interval"], 3),
                str(row["votes"]),
            ]
            for name, row in value["ranking"].items()
        ]
        lines += _rows(["Model", "Rating", "Win rate", "Comparisons"], rows)
    rows = [
        [name.replace("_", " "), "-" if one["value"] is None else f"{one['value']:.3f}", one["level"]]
        for name, one in agreement["alpha"].items()
    ]
    shared = agreement["items_of_two_raters"]
    lines += ["", f"## Agreement (Krippendorff's alpha, {shared} items of two or more raters)", ""]
    lines += _rows(["Question", "Alpha", "Level"], rows)
    return "\n".join(lines) + "\n"


def _with_interval(value: float, interval: Sequence[float] | None, digits: int) -> str:
    if interval is None:
        return f"{value:.{digits}f} [no bounds: too few votes]"
    low, high = interval
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _rows(header: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[clean(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *cells)]
