"""From people's answers to labels in a manifest."""

import json

import pytest

from cogvx.curation.labelling import export_labels
from cogvx.errors import InputError, UsageError


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_labels_are_the_mean_over_raters(page, visitor, clips, tmp_path):
    served = page("anna", "ben", "carl")
    anna, ben, carl = (visitor(served, name) for name in ("anna", "ben", "carl"))
    anna.label(0, editing=0)
    anna.label(0, editing=1, text=1)
    ben.label(0, editing=1)
    carl.label(0, editing=1)
    anna.label(2, low_quality=1)
    result = export_labels(tmp_path / "labels.sqlite", clips / "m.jsonl", tmp_path / "out" / "o.jsonl", root=clips)
    rows = read(tmp_path / "out" / "o.jsonl")
    assert rows[0]["labels"] == {"editing": 1.0, "static": 0.0, "lecture": 0.0, "text": 0.333333, "screenshot": 0.0,
                                 "low_quality": 0.0}  # fmt: skip
    assert rows[0]["made"]["labels.text"] == {"version": 1, "labeller": "people", "raters": 3}
    assert rows[3]["labels"]["low_quality"] == 1.0 and rows[3]["made"]["labels.text"]["raters"] == 1
    assert [("labels" in row) for row in rows] == [True, False, False, True, False, False]
    assert (tmp_path / "out" / rows[0]["video"]).resolve() == (clips / "a.mp4").resolve()
    assert (result.total, result.labelled, result.raters, result.strangers) == (6, 2, 3, 0)
    assert result.positive["editing"] == 1 and result.positive["text"] == 0
    assert result.agreement["editing"] == 1.0 and result.agreement["text"] == pytest.approx(1 / 3)


def test_what_else_stands_in_a_manifest_stays(page, visitor, clips, tmp_path):
    visitor(page("anna"), "anna").label(0, text=1)
    row = {"video": "a.mp4", "labels": {"text": 0.1, "mine": 0.5}, "made": {"flow": {"version": 1}}, "scores": {"x": 1}}
    (clips / "scored.jsonl").write_text(json.dumps(row) + "\n" + '{"video": "new.mp4"}\n')
    target = clips / "exported.jsonl"
    export_labels(tmp_path / "labels.sqlite", clips / "scored.jsonl", target)
    found = read(target)
    assert found[0]["labels"] | {"text": 1.0, "mine": 0.5} == found[0]["labels"] and found[0]["scores"] == {"x": 1}
    assert found[0]["made"]["flow"] == {"version": 1} and found[1] == {"video": "new.mp4"}
    with pytest.raises(UsageError, match="exists"):
        export_labels(tmp_path / "labels.sqlite", clips / "scored.jsonl", target)


def test_nothing_to_export_is_an_error(page, visitor, clips, tmp_path):
    visitor(page("anna"), "anna").label(0)
    (clips / "others.jsonl").write_text('{"video": "z.mp4"}\n')
    with pytest.raises(InputError, match="no answer in it is about a clip"):
        export_labels(tmp_path / "labels.sqlite", clips / "others.jsonl", tmp_path / "o.jsonl")
    with pytest.raises(InputError, match="no such file"):
        export_labels(tmp_path / "none.sqlite", clips / "m.jsonl", tmp_path / "o.jsonl")
    assert not (tmp_path / "o.jsonl").exists() and not (tmp_path / "none.sqlite").exists()
    result = export_labels(tmp_path / "labels.sqlite", clips / "m.jsonl", tmp_path / "o.jsonl", root="/")
    assert result.strangers == 0 and result.labelled == 1
