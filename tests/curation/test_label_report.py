import json

import pytest

from cogvx.curation.label_report import match, report
from cogvx.data.manifest import read_manifest
from cogvx.errors import InputError


@pytest.fixture
def manifests(tmp_path):
    """Write two manifests in two folders, and read them."""

    def write(found, truth):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "found.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
        (tmp_path / "out" / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in truth))
        return (
            read_manifest(tmp_path / "found.jsonl"),
            read_manifest(tmp_path / "out" / "truth.jsonl", root=tmp_path),
        )

    return write


def row(name, value, **more):
    return {"video": name, "labels": {"text": value}, **more}


def test_a_confusion_counted_by_hand(manifests):
    found = [row(f"{i}.mp4", value) for i, value in enumerate([0.9, 0.7, 0.2, 0.6, 0.1, 0.3, 0.8, 0.4])]
    truth = [row(f"../{i}.mp4", value) for i, value in enumerate([1, 1, 1, 0, 0, 0, 0.5, 0])]
    truth += [row("../unseen.mp4", 1)]
    judged, count = match(*manifests(found, truth))
    result = report(judged, num_clips=count)
    text = result["per_label"]["text"]
    # Clip 6 is unsure. Found: 0, 1, 3; the fault is in 0, 1, 2.
    assert (text["tp"], text["fp"], text["tn"], text["fn"], text["n"]) == (2, 1, 3, 1, 7)
    assert text["accuracy"] == pytest.approx(5 / 7, abs=1e-4)
    assert text["shares"] == {"TP": 0.2857, "FP": 0.1429, "TN": 0.4286, "FN": 0.1429}
    assert (result["n"], result["value"]) == (8, text["accuracy"])


def test_parts_of_a_file_are_clips_of_their_own(manifests):
    found = [row("a.mp4", 0.9, start=0.0, end=1.0), row("a.mp4", 0.1, start=1.0, end=2.0)]
    truth = [row("../a.mp4", 0, start=1.0, end=2.0), row("../a.mp4", 1, start=0.0, end=1.0)]
    judged, _ = match(*manifests(found, truth))
    assert report(judged)["per_label"]["text"]["accuracy"] == 1


def test_thresholds_move_the_table(manifests):
    found = [row(f"{i}.mp4", i / 10) for i in range(10)]
    truth = [row(f"../{i}.mp4", int(i >= 3)) for i in range(10)]
    judged, _ = match(*manifests(found, truth))
    assert report(judged)["per_label"]["text"]["fn"] == 2
    assert report(judged, thresholds={"text": 0.3})["per_label"]["text"]["accuracy"] == 1
    chosen = report(judged, objective="accuracy")
    assert chosen["protocol"]["thresholds"]["text"] == pytest.approx(0.25)
    assert chosen["per_label"]["text"]["accuracy"] == 1
    # A threshold that never saw clips 2 and 3 may fall on either side of them.
    assert chosen["per_label"]["text"]["held_out_accuracy"] <= 1


def test_a_threshold_for_chance_does_not_hold_on_other_sources(manifests):
    values = [0.10, 0.90, 0.20, 0.80, 0.30, 0.70, 0.40, 0.60]
    truth = [1, 0, 0, 1, 0, 1, 1, 0]
    found = [row(f"{i}.mp4", value) for i, value in enumerate(values)]
    judged, _ = match(*manifests(found, [row(f"../{i}.mp4", value) for i, value in enumerate(truth)]))
    rows = report(judged, objective="accuracy")["per_label"]["text"]
    assert rows["held_out_accuracy"] < rows["accuracy"]


def test_what_does_not_fit_is_an_error(manifests):
    with pytest.raises(InputError, match="no clip is in both manifests"):
        match(*manifests([row("a.mp4", 1)], [row("../b.mp4", 1)]))
    with pytest.raises(InputError, match="same label in both"):
        match(*manifests([row("a.mp4", 1)], [{"video": "../a.mp4", "labels": {"lecture": 1}}]))
    with pytest.raises(InputError, match="no clip has the label lecture"):
        match(*manifests([row("a.mp4", 1)], [row("../a.mp4", 1)]), labels=["lecture"])
    with pytest.raises(InputError, match=r"a\.mp4 stands twice"):
        match(*manifests([row("a.mp4", 1), row("a.mp4", 0)], [row("../a.mp4", 1)]))
    judged, _ = match(*manifests([row("a.mp4", 1)], [row("../a.mp4", 1)]))
    with pytest.raises(InputError, match="text: a threshold needs clips with and without"):
        report(judged, objective="f1")
