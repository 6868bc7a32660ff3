"""The labelling page as its raters' browsers see it."""

import json
from urllib.parse import quote

import pytest

from cogvx.curation.labelling import open_label_page
from cogvx.data.labels import NEGATIVE_LABELS
from cogvx.errors import InputError, RefusedError, UsageError


def test_a_rater_is_led_from_clip_to_clip(page, visitor):
    anna = visitor(page("anna"), "anna")
    status, state = anna.ask("/state")
    assert status == 200 and (state["rater"], state["count"], state["done"], state["next"]) == ("anna", 5, 0, 0)
    assert [label["name"] for label in state["labels"]] == list(NEGATIVE_LABELS)
    assert all(label["title"] and label["meaning"] for label in state["labels"])
    assert anna.ask("/item/0")[1] == {
        "index": 0, "name": "a.mp4", "caption": "<b>bold</b> & plain", "still": False, "direct": True,
        "start": None, "end": None, "labels": None,
    }  # fmt: skip
    assert anna.label(0, editing=1) == {"done": 1, "next": 1}
    assert anna.label(3) == {"done": 2, "next": 4}
    assert anna.label(4) == {"done": 3, "next": 1}
    assert anna.ask("/item/0")[1]["labels"] == dict.fromkeys(NEGATIVE_LABELS, 0) | {"editing": 1}
    assert anna.label(0) == {"done": 3, "next": 1} and anna.ask("/item/0")[1]["labels"]["editing"] == 0
    assert anna.label(1) == {"done": 4, "next": 2}
    assert anna.label(2) == {"done": 5, "next": None}


def test_clips_of_every_kind_can_be_shown(page, visitor):
    told = []
    anna = visitor(page("anna", on_error=lambda path, error: told.append(path)), "anna")
    kinds = [anna.ask(f"/clip/{index}")[1][:12] for index in range(4)]
    assert [kind[4:8] for kind in kinds[:3]] == [b"ftyp"] * 3 and kinds[3][1:4] == b"PNG"
    about = anna.ask("/item/2")[1]
    assert (about["name"], about["start"], about["end"], about["direct"]) == ("a.mp4#[1.0, 2.0]", 1.0, 2.0, True)
    whole, part = anna.ask("/clip/2")[1], anna.ask("/clip/2?made=1")[1]
    assert whole == anna.ask("/clip/0")[1] != part
    assert anna.ask("/clip/4")[0] == 422 and told == ["clip/4"]


def test_nobody_is_led_to_what_cannot_be_shown(page, visitor):
    anna = visitor(page("anna"), "anna")
    assert anna.ask("/clip/4")[0] == 422
    for index in range(3):
        anna.label(index)
    assert anna.label(3) == {"done": 4, "next": None}
    assert anna.ask("/state?after=3")[1]["next"] is None


@pytest.mark.parametrize(
    "path",
    ["/clip/9", "/clip/-1", "/clip/1e3", "/clip/²", "/clip/", "/clip/m.jsonl", "/item/x", "/x", "/state/1", "/clip/0/0",
     "/clip/..%2f..%2fetc%2fpasswd", "/state?after=9"],
)  # fmt: skip
def test_clips_are_named_by_their_number_alone(page, visitor, path):
    assert visitor(page("anna"), "anna").ask(quote(path, safe="/%?="))[0] == 404


@pytest.mark.parametrize(
    "body",
    [[], {}, {"labels": {"editing": 1}}, {"labels": dict.fromkeys(NEGATIVE_LABELS, 2)}, 1,
     {"labels": dict.fromkeys(NEGATIVE_LABELS, True)}, {"labels": dict.fromkeys([*NEGATIVE_LABELS, "x"], 0)}],
)  # fmt: skip
def test_labels_are_all_or_none(page, visitor, body):
    served = page("anna")
    anna = visitor(served, "anna")
    assert anna.ask("/label/0", body)[0] == 400 and anna.ask("/label/9", body)[0] == 404
    assert served.progress() == {"anna": 0} and served.journal.count() == 0


def test_odd_times_are_not_written_down(page, visitor):
    served = page("anna")
    anna = visitor(served, "anna")
    for seconds in (-1, 1e9, "x", None, True):
        assert anna.ask("/label/0", {"labels": dict.fromkeys(NEGATIVE_LABELS, 0), "seconds": seconds})[0] == 200
        assert next(iter(served.journal.latest())).seconds is None


def test_raters_do_not_see_each_other_and_all_goes_on_later(page, visitor):
    first = page("anna", "ben")
    visitor(first, "anna").label(0, text=1)
    assert first.progress() == {"anna": 1, "ben": 0}
    assert visitor(first, "ben").ask("/item/0")[1]["labels"] is None
    tokens = {rater: url.partition("?")[2] for rater, url in first.server.urls().items()}
    first.close()
    again = page("anna", "ben", "carl")
    assert {rater: url.partition("?")[2] for rater, url in again.server.urls().items()}.items() >= tokens.items()
    assert visitor(again, "anna").ask("/state")[1]["next"] == 1
    assert visitor(again, "anna").ask("/item/0")[1]["labels"]["text"] == 1
    only_ben = page("ben")
    anna = visitor(again, "anna")
    anna.port = only_ben.server.port
    assert anna.ask("/state")[0] == 403


def test_answers_follow_the_content_of_a_clip(page, visitor, clips, tmp_path):
    rows = [{"video": "a.mp4", "sha256": "A" * 64}, {"video": "b.mkv", "sha256": "b" * 64, "start": 1.0}]
    (clips / "hashed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    visitor(page("anna", manifest=clips / "hashed.jsonl"), "anna").label(0)
    rows = [{"video": "b.mkv"}, {"video": "b.mkv", "sha256": "a" * 64}]
    (clips / "moved.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert visitor(page("anna", manifest=clips / "moved.jsonl"), "anna").ask("/state")[1]["done"] == 1


def test_what_cannot_be_served(clips, tmp_path):
    database = tmp_path / "l.sqlite"
    (tmp_path / "out.jsonl").write_text('{"video": "../x.mp4"}\n')
    (tmp_path / "none.jsonl").write_text('{"latents": "x.safetensors"}\n')
    for settings, error in (
        ({"manifest": tmp_path / "out.jsonl"}, RefusedError),
        ({"manifest": tmp_path / "none.jsonl"}, InputError),
        ({"manifest": tmp_path / "missing.jsonl"}, InputError),
        ({"raters": ()}, UsageError),
        ({"raters": ("an\nna",)}, UsageError),
        ({"labels": ()}, UsageError),
        ({"labels": tuple("abcdefghij")}, UsageError),
    ):
        with pytest.raises(error):
            open_label_page(**{"manifest": clips / "m.jsonl", "database": database, "port": 0} | settings)
