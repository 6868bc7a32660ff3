"""The rating page as its raters' browsers see it."""

from urllib.parse import quote

import pytest

from cogvx.errors import UsageError
from cogvx.evaluation.human import open_study_page


def test_a_rater_is_led_from_clip_to_clip(page, visitor, make, rating):
    study = make("rating")
    served = page(study)
    anna = visitor(served, "anna")
    status, state = anna.ask("/state")
    assert status == 200 and (state["count"], state["done"], state["next"], state["cap"]) == (6, 0, 0, 2)
    assert [one["title"] for one in state["aspects"]][1] == "Instruction Following"
    order = study.order("anna")
    for place in range(6):
        about = anna.ask(f"/item/{place}")[1]
        item = study.items[order[place]]
        assert about == {"index": place, "prompt": study.prompts[item.prompt], "answer": None}
        assert anna.ask(f"/clip/{place}/a")[1] == study.path(item.shown[0]).read_bytes()
        following = {"done": place + 1, "next": place + 1 if place < 5 else None}
        assert anna.ask(f"/vote/{place}", rating(place)) == (200, following)
    assert {one.item: one.answer["total"] for one in served.journal.latest()} == {
        study.items[index].id: place for place, index in enumerate(order)
    }
    assert anna.ask("/vote/2", rating(5))[1] == {"done": 6, "next": None}
    assert anna.ask("/item/2")[1]["answer"]["total"] == 5


@pytest.mark.parametrize("mode", ["rating", "pairwise"])
def test_no_reply_names_a_system(page, visitor, make, mode):
    study = make(mode)
    anna = visitor(page(study), "anna")
    paths = ["/", "/state", *(f"/item/{place}" for place in range(len(study.items)))]
    paths += [f"/clip/{place}/{seat}" for place in range(len(study.items)) for seat in "ab"]
    for path in paths:
        data = str(anna.ask(path)[1])
        assert "secret" not in data and not any(item.shown[0].clip in data for item in study.items), path


def test_a_pair_is_shown_as_the_study_says(page, visitor, make):
    study = make("pairwise")
    served = page(study)
    anna = visitor(served, "anna")
    item = study.items[study.order("anna")[0]]
    for seat, shown in zip("ab", item.shown, strict=True):
        assert anna.ask(f"/clip/0/{seat}")[1] == study.path(shown).read_bytes()
    assert anna.ask("/vote/0", {"choice": "b", "reasons": "sharper"})[1] == {"done": 1, "next": 1}
    kept = next(iter(served.journal.latest()))
    assert (kept.item, kept.answer, kept.seconds) == (item.id, {"choice": "b", "reasons": "sharper"}, None)


def test_wrong_votes_are_not_kept(page, visitor, make, rating):
    served = page(make("rating"))
    anna = visitor(served, "anna")
    status, reply = anna.ask("/vote/0", rating(3, instruction_following=0))
    assert status == 400 and "at most 2" in reply["error"]
    for body in ([], {}, {"choice": "a"}, rating(9)):
        assert anna.ask("/vote/0", body)[0] == 400
    assert served.journal.count() == 0 and served.progress() == {"anna": 0}


@pytest.mark.parametrize(
    "path", ["/clip/0/b", "/clip/0", "/clip/6/a", "/clip/-1/a", "/clip/²/a", "/item/x", "/study.json", "/clip/0/../x"]
)
def test_clips_are_named_by_place_and_seat_alone(page, visitor, make, path):
    assert visitor(page(make("rating")), "anna").ask(quote(path, safe="/"))[0] == 404


def test_two_raters_and_a_page_that_ends(page, visitor, make, rating):
    study = make("rating")
    first = page(study, "anna", "ben")
    visitor(first, "anna").ask("/vote/0", rating(4))
    assert first.progress() == {"anna": 1, "ben": 0} and visitor(first, "ben").ask("/item/0")[1]["answer"] is None
    tokens = {rater: url.partition("?")[2] for rater, url in first.server.urls().items()}
    first.close()
    again = page(study, "anna", "ben")
    assert {rater: url.partition("?")[2] for rater, url in again.server.urls().items()} == tokens
    assert visitor(again, "anna").ask("/state")[1]["next"] == 1


def test_votes_stay_with_their_study(page, make, tmp_path):
    page(make("rating")).close()
    with pytest.raises(UsageError, match="other questions"):
        page(make("pairwise"))
    with pytest.raises(UsageError):
        open_study_page(make("rating").folder, database=tmp_path / "v.sqlite", raters=("an\nna",), port=0)
