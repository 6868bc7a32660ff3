import json

import numpy as np
import pytest

from cogvx.checkpoints.frame_networks import FrameNetwork
from cogvx.data.video import write_clip

SCORES_ONLY = ("--set", "frames.network=none", "--set", "fit.num_folds=3", "--set", "fit.score_ridge=[0.001]")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def labelled(tmp_path):
    """A manifest of 120 clips of 20 films; text goes with its area, lecture with nothing. The files are missing."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(120):
        area, flow = rng.random(), rng.random()
        labels = {"text": float(area > 0.6), "lecture": float(i % 7 == 0)}
        made = {"area": {"version": 1}, "flow": {"version": 1}}
        row = {"video": f"film-{i % 20}.mp4", "start": i // 20 * 2.0, "end": i // 20 * 2.0 + 2, "labels": labels}
        rows.append(row | {"scores": {"area": area, "flow": flow}, "made": made})
    return write(tmp_path / "labelled.jsonl", rows)


def test_a_filter_is_trained_and_its_table_shown(cogvx, labelled, tmp_path):
    done = cogvx("train", "filter", labelled, "-o", "run", *SCORES_ONLY)
    assert done.exit_code == 0, done.output
    assert done.stdout == "run/model\n"
    table = {line.split()[1]: line.split()[2:] for line in done.stderr.splitlines() if line.startswith("cogvx: ")}
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    row = metrics["per_label"]["text"]
    assert row["accuracy"] >= 0.9
    assert table["text"][:4] == [f"{row['shares'][name]:.2f}" for name in ("TP", "FP", "TN", "FN")]
    assert table["text"][4] == f"{row['accuracy']:.2f}" and table["text"][5] == str(row["n"])
    predictions = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    test = [p for p in predictions if p["test"]]
    wrong = [(p["probabilities"]["text"] >= row["threshold"]) != bool(p["truth"]["text"]) for p in test]
    assert row["accuracy"] == pytest.approx(1 - sum(wrong) / len(wrong), abs=1e-4)
    names = {path.name for path in (tmp_path / "run").iterdir()} - {".lock"}
    assert names == {"recipe.toml", "metrics.jsonl", "metrics.json", "predictions.jsonl", "model"}
    assert {path.name for path in (tmp_path / "run" / "model").iterdir()} == {"config.json", "model.safetensors"}


def test_resume_leaves_a_run_that_is_done_and_refuses_another(cogvx, labelled, tmp_path):
    first = cogvx("train", "filter", labelled, "-o", "run", *SCORES_ONLY, "--json")
    weights = (tmp_path / "run" / "model" / "model.safetensors").stat()
    assert cogvx("train", "filter", labelled, "-o", "run", *SCORES_ONLY).exit_code == 2
    again = cogvx("train", "filter", "run", "--resume", "latest", "--json")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns == weights.st_mtime_ns
    records = [json.loads(done.stdout.splitlines()[-1]) for done in (first, again)]
    assert [record["kept"] for record in records] == [False, True]
    assert records[0]["per_label"] == records[1]["per_label"]
    rows = [json.loads(line) for line in labelled.read_text().splitlines()]
    rows[0]["labels"]["text"] = 1 - rows[0]["labels"]["text"]
    write(labelled, rows)
    other = cogvx("train", "filter", "run", "--resume", "latest")
    assert other.exit_code == 2 and "trained with another clips" in other.stderr
    forced = cogvx("train", "filter", "run", "--resume", "latest", "--allow-changes", "--json")
    assert forced.exit_code == 0 and not json.loads(forced.stdout.splitlines()[-1])["kept"]


def test_a_run_without_a_result_is_finished_and_the_same(cogvx, labelled, tmp_path):
    cogvx("train", "filter", labelled, "-o", "whole", *SCORES_ONLY)
    (tmp_path / "stopped").mkdir()
    done = cogvx("train", "filter", labelled, "-o", "stopped", *SCORES_ONLY, "--resume", "latest")
    assert done.exit_code == 0, done.output
    for name in ("recipe.toml", "metrics.jsonl", "metrics.json", "predictions.jsonl", "model/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name


def test_the_folder_of_the_clips_changes_nothing(cogvx, labelled, tmp_path):
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "labelled.jsonl").write_bytes(labelled.read_bytes())
    cogvx("train", "filter", "labelled.jsonl", "-o", "here", *SCORES_ONLY)
    cogvx("train", "filter", tmp_path / "moved" / "labelled.jsonl", "-o", "there", *SCORES_ONLY)
    for name in ("metrics.json", "predictions.jsonl", "model/model.safetensors"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """A manifest of 24 clips, bright or dark, and a network for frames that tells their colours."""
    network = FrameNetwork("means", "0" * 64, (8, 8), 3, lambda frames: frames.float().mean(dim=(1, 2)))
    monkeypatch.setattr("cogvx.training.filter_clips.open_frame_network", lambda name, device: network)
    rng, rows = np.random.default_rng(0), []
    for i in range(8):
        frames = rng.integers(0, 60, (9, 8, 8, 3), dtype=np.uint8)
        frames[3:6] += 150
        write_clip(tmp_path / f"{i}.mkv", frames, 3.0)
        # The middle second of each film is bright.
        rows += [
            {"video": f"{i}.mkv", "start": float(s), "end": s + 1.0, "labels": {"bright": float(s == 1)}}
            for s in range(3)
        ]
    return write(tmp_path / "clips.jsonl", rows)


FAST = ("--set", "frames.num_frames=2", "--set", "fit.num_folds=3", "--set", "fit.frame_ridge=[0.001]")


def test_frames_alone_are_enough_and_are_read_once(cogvx, clips, tmp_path, monkeypatch):
    done = cogvx("train", "filter", clips, "-o", "run", *FAST, "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout.splitlines()[-1])
    assert record["per_label"]["bright"]["accuracy"] == 1
    assert len(list((tmp_path / "run" / "features").glob("??/*.safetensors"))) == 24
    monkeypatch.setattr("cogvx.checkpoints.clip_features.spread_frames", None)  # nothing is decoded
    again = cogvx("train", "filter", clips, "-o", "other", *FAST, "--set", "frames.cache=run/features", "--json")
    assert json.loads(again.stdout.splitlines()[-1])["per_label"] == record["per_label"]
    assert not (tmp_path / "other" / "features").exists()


def test_a_broken_clip_stops_the_run_unless_some_may_be_bad(cogvx, clips, tmp_path):
    (tmp_path / "4.mkv").write_bytes(b"no clip")
    stopped = cogvx("train", "filter", clips, "-o", "run", *FAST)
    assert stopped.exit_code == 3
    assert "4.mkv" in stopped.stderr and "data.max_bad is 0" in stopped.stderr
    done = cogvx("train", "filter", clips, "-o", "run", *FAST, "--resume", "latest", "--set", "data.max_bad=3")
    assert done.exit_code == 0, done.output
    assert len((tmp_path / "run" / "bad.jsonl").read_text().splitlines()) == 3
    assert len((tmp_path / "run" / "predictions.jsonl").read_text().splitlines()) == 21


def test_a_dry_run_reads_no_clip_and_writes_nothing(cogvx, labelled, tmp_path):
    done = cogvx("train", "filter", labelled, "-o", "run", "--set", "frames.network=none", "--dry-run", "--json")
    record = json.loads(done.stdout)
    assert (record["clips"], record["sources"], record["scores"]) == (120, 20, ["area", "flow"])
    assert record["labels"]["lecture"] == 18
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments,code,message",
    [
        (["missing.jsonl"], 3, "cannot read missing.jsonl"),
        (["labelled.jsonl", "--set", "fit.folds=3"], 2, "unknown key fit.folds; did you mean fit.num_folds"),
        (["labelled.jsonl", "--set", "data.test_ratio=0.9"], 2, "data.test_ratio must be above 0 and at most 0.5"),
        (["labelled.jsonl", "--set", "frames.network=none", "--set", "data.scores=none"], 2, "needs one of them"),
        (["labelled.jsonl", *SCORES_ONLY, "--set", "data.scores=[\"blur\"]"], 3, "no labelled clip has the score blur"),
        (["labelled.jsonl", *SCORES_ONLY, "--set", "data.labels=[\"editing\"]"], 3, "no clip has the label editing"),
        (["plain.jsonl"], 3, "no clip has labels in plain.jsonl"),
        (["twice.jsonl"], 3, "is labelled twice"),
        (["made.jsonl", *SCORES_ONLY], 3, "the score area was made in different ways"),
        (["vae.toml"], 2, "kind must be one of filter"),
        (["labelled.jsonl", "--resume", "latest"], 2, "does not exist"),
    ],
)  # fmt: skip
def test_wrong_input_is_named(cogvx, labelled, tmp_path, arguments, code, message):
    rows = [json.loads(line) for line in labelled.read_text().splitlines()]
    write(tmp_path / "plain.jsonl", [{"video": "a.mp4"}])
    write(tmp_path / "twice.jsonl", [rows[0], rows[0]])
    rows[5]["made"]["area"]["version"] = 2
    write(tmp_path / "made.jsonl", rows)
    (tmp_path / "vae.toml").write_text('kind = "vae"\n')
    done = cogvx("train", "filter", *arguments, "-o", "run")
    assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
