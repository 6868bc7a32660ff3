"""Reports: Table 4 from known votes, rankings, agreement, and what is refused."""

import json

import pytest

from cogvx.errors import InputError, UsageError
from cogvx.evaluation.human import report_study
from cogvx.evaluation.human.serve import open_votes


def vote_all(study, database, answer, raters=("anna", "ben")):
    """Let raters vote on all items as a function of rater, item and systems says."""
    with open_votes(study, database, make=True) as journal:
        for rater in raters:
            journal.token(rater)
            for item in study.items:
                if (one := answer(rater, item)) is not None:
                    journal.add(rater, item.id, one, seconds=3.0)


def test_table_4_of_known_votes(make, tmp_path, rating):
    study = make("rating")
    good = study.systems[0]

    def answer(rater, item):
        if item.shown[0].system == good:
            return rating(4 if rater == "anna" else 5, physics_simulation=0.5)
        return rating(2 if item.prompt else 5, "wrong thing", instruction_following=0 if item.prompt else 1)

    vote_all(study, tmp_path / "v.sqlite", answer)
    found = report_study(study.folder, database=tmp_path / "v.sqlite", num_resamples=200)
    result = found.result
    assert result["metric"] == "human_rating" and result["n"] == 12 and result["items"]["share"] == 1
    table = result["value"]["table"]
    first, second = (table[system] for system in study.systems)
    assert first["total"] == {"mean": 4.5, "interval": [4.5, 4.5]} and first["physics_simulation"]["mean"] == 0.5
    assert second["total"]["mean"] == 3 and second["instruction_following"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert second["total"]["interval"] == [2, 5] and second["prompts"] == 3
    # Of each rater: two prompts won; the third lost by anna's 4, tied by ben's 5.
    assert result["wins"]["matrix"][result["wins"]["systems"].index(good)] in ([0, 4.5], [4.5, 0])
    assert next(iter(result["value"]["ranking"])) == good
    assert result["agreement"]["items_of_two_raters"] == 6
    assert result["agreement"]["alpha"]["instruction_following"] == {"value": 1.0, "level": "ordinal"}
    assert result["agreement"]["alpha"]["cover_quality"]["value"] is None
    assert 0 < result["agreement"]["alpha"]["total"]["value"] < 1
    worst = min(result["per_video"], key=lambda row: row["total"])
    assert worst["reasons"] == ["wrong thing"] * 2 and worst["system"] == study.systems[1]
    assert f"| {good} | 1.000 [1.000, 1.000] |" in found.markdown and "Total Score" in found.markdown
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_choices_make_a_ranking(make, tmp_path):
    study = make("pairwise", 3)
    best, middle, last = study.systems

    def answer(rater, item):
        names = [one.system for one in item.shown]
        if {*names} == {best, last}:
            return {"choice": "tie"} if rater == "ben" and item.prompt == 0 else {"choice": "ab"[names.index(best)]}
        better = best if best in names else middle
        return {"choice": "tie" if item.prompt == 1 else "ab"[names.index(better)], "reasons": ""}

    vote_all(study, tmp_path / "v.sqlite", answer)
    result = report_study(study.folder, database=tmp_path / "v.sqlite", anchor=last, num_resamples=200).result
    ranking = result["value"]["ranking"]
    assert list(ranking) == [best, middle, last] and ranking[last]["rating"] == 1000
    assert ranking[best]["win_rate"] == pytest.approx((4 + 1 + 5.5) / 12, abs=1e-4) and ranking[best]["votes"] == 12
    assert 0.5 < result["agreement"]["alpha"]["choice"]["value"] < 1
    assert sum(row["tie"] for row in result["per_video"]) == 5
    assert result["protocol"]["anchor"] == f"{last} 1000"


def test_there_is_no_ranking_without_a_chain_of_votes(make, tmp_path):
    study = make("pairwise", 3)
    first = study.systems[0]

    def answer(rater, item):
        return {"choice": "ab"[[one.system for one in item.shown].index(first)]} if first in str(item.shown) else None

    vote_all(study, tmp_path / "v.sqlite", answer)
    found = report_study(study.folder, database=tmp_path / "v.sqlite", num_resamples=100)
    assert found.result["value"]["ranking"] is None and "no ranking" in found.markdown
    assert found.result["items"]["judged"] == 6


def test_what_cannot_be_reported(make, tmp_path, rating):
    study = make("rating")
    with pytest.raises(InputError, match="no such file"):
        report_study(study.folder, database=tmp_path / "v.sqlite")
    vote_all(study, tmp_path / "v.sqlite", lambda rater, item: None)
    with pytest.raises(InputError, match="nobody has judged"):
        report_study(study.folder, database=tmp_path / "v.sqlite")
    with pytest.raises(InputError, match="--anchor"):
        report_study(study.folder, database=tmp_path / "v.sqlite", anchor="x")
    with pytest.raises(UsageError, match="other questions"):
        report_study(make("pairwise").folder, database=tmp_path / "v.sqlite")
    vote_all(study, tmp_path / "v.sqlite", lambda rater, item: rating(5, instruction_following=0))  # not by the page
    with pytest.raises(InputError, match="at most 2"):
        report_study(study.folder, database=tmp_path / "v.sqlite")
