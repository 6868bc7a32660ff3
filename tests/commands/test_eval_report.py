"""`cogvx eval report`: what it writes, says, refuses and leaves out."""

import json
from pathlib import Path

import numpy as np
import pytest

from cogvx.data.video import write_clip
from cogvx.evaluation.result import Result, write_result

pytest.importorskip("matplotlib")

METRICS = [
    {"step": 1, "loss": 1.0, "lr": 0.1},
    {"step": 2, "loss": 0.5, "lr": 0.1},
    {"step": 2, "val_loss": 0.4, **{f"val_loss_{t}": t / 1000 for t in (100, 300, 500, 700, 900)}},
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def result(path, value=0.5, *, metric="fvd-lite", n=4, **protocol):
    rows = [{"input": "a.mkv", "value": value}]
    backend = {"name": "efficientnet"}
    write_result(path, Result(metric, value, n, rows, {"frames": 16, **protocol}, backend), overwrite=True)


def clip(path, prompt):
    frames = np.random.default_rng(1).integers(0, 255, (9, 32, 48, 3), dtype=np.uint8)
    write_clip(path, frames, 8.0, comment=json.dumps({"prompt": prompt}))


def run_folder(path, lines):
    Path(path).mkdir(parents=True)
    (Path(path) / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_systems_a_run_and_clips_become_a_page(cogvx):
    for system, value in (("ours", 3.0), ("theirs", 4.0)):
        result(f"results/{system}/fvd.json", value)
        clip(f"results/{system}/a.mkv", "a red ball")
    Path("results/ours/settings.json").write_text("{}")
    run_folder("runs/dit", METRICS)
    done = cogvx("eval", "report", "results/ours", "new name=results/theirs/fvd.json", "runs/dit", "-o", "page")
    assert done.exit_code == 0, done.stderr
    names = ["index.html", "report.md", "loss.png", "held-out.png", "held-out-times.png"]
    assert done.stdout.splitlines() == [f"page/{name}" for name in names]
    assert "settings.json: no result of `cogvx eval`, left out" in done.stderr
    assert "2 results of 2 systems, 1 runs, 2 clips (0 beside the page)" in done.stderr
    text = Path("page/index.html").read_text()
    assert text.count("data:video/mp4;base64,") == 2 and text.count("<h3>a red ball</h3>") == 1
    assert "new name" in text and "Table 9 of the paper" in text
    assert "| ours | R1 | 4 | 100 % | **3.00** (place 1) |" in Path("page/report.md").read_text()
    again = cogvx("eval", "report", "results/ours", "-o", "page")
    assert again.exit_code == 2 and "--overwrite" in again.stderr
    assert cogvx("eval", "report", "results/ours", "-o", "page", "--overwrite", "--quiet").exit_code == 0


def test_other_protocols_are_refused_before_anything_is_written(cogvx):
    result("ours/fvd.json", 3.0)
    result("theirs/fvd.json", 4.0, n_real=8)
    done = cogvx("eval", "report", "ours", "theirs", "-o", "page")
    assert done.exit_code == 2 and not Path("page").exists() and done.stdout == ""
    assert "FVD-lite: not ranked, since protocols differ in n_real (ours: none, theirs: 8)" in done.stderr
    shown = cogvx("eval", "report", "ours", "theirs", "-o", "page", "--no-rank", "--no-png", "--json")
    assert shown.exit_code == 0 and "warning: FVD-lite: protocols differ in n_real" in shown.stderr
    assert [json.loads(line)["kind"] for line in shown.stdout.splitlines()] == ["page", "markdown"]
    assert "place" not in Path("page/report.md").read_text()
    assert "protocol A" in Path("page/index.html").read_text()


def test_what_cannot_be_used_is_told_and_the_rest_is_done(cogvx):
    result("ours/fvd.json", 3.0)
    clip("ours/a.mkv", "x")
    Path("broken.json").write_text('{"metric": "fvd", "value": NaN}')
    Path("ours/b.mp4").write_bytes(b"no clip")
    run_folder("empty", [])
    run_folder("wrong", [{"loss": 1.0}])
    inputs = ["ours", "broken.json", "missing.json", "empty", "wrong"]
    done = cogvx("eval", "report", *inputs, "--clips", "ours/", "-o", "page")
    assert done.exit_code == 3
    errors = [line for line in done.stderr.splitlines() if line.startswith("cogvx: error:")]
    wanted = ["broken.json: not JSON", "missing.json: No such file", "empty", "metrics.jsonl:1: not a rec", "b.mp4"]
    assert len(errors) == 5 and all(word in line for word, line in zip(wanted, errors, strict=True))
    text = Path("page/index.html").read_text()
    assert "not in this report: broken.json" in text and text.count("<video") == 1
    nothing = cogvx("eval", "report", "broken.json", "-o", "other")
    assert nothing.exit_code == 3 and not Path("other").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ours", "-o", "page.html"], "a report is a folder"),
        (["ours", "-o", "-"], "a report is a folder"),
        (["ours", "-o", "ours/fvd.json"], "is no folder"),
        (["ours", "clips.jsonl", "-o", "page"], "--clips"),
        (["=ours/fvd.json", "-o", "page"], "NAME=PATH"),
        (["a=ours", "a=ours/fvd.json", "-o", "page"], "a has two results of fvd-lite"),
    ],
)
def test_wrong_usage(cogvx, arguments, told):
    result("ours/fvd.json")
    done = cogvx("eval", "report", *arguments)
    assert done.exit_code == 2 and told in done.stderr and not Path("page").exists()


def test_large_clips_lie_beside_the_page(cogvx):
    result("ours/fvd.json")
    clip("clips/one.mkv", "one")
    clip("clips/two.mkv", "two")
    flags = ["--clips", "ours=clips/", "--inline-mb", "0", "--max-clips", "1", "--no-png"]
    done = cogvx("eval", "report", "ours", *flags, "-o", "page")
    assert done.exit_code == 0, done.stderr
    (beside,) = Path("page/clips").iterdir()
    assert f'src="clips/{beside.name}"' in Path("page/index.html").read_text()
    none = cogvx("eval", "report", "ours", "-o", "none", "--clips", "clips/", "--max-clips", "0")
    assert none.exit_code == 0 and "<video" not in Path("none/index.html").read_text()


def test_a_filters_run_stands_beside_table_14(cogvx):
    run_folder("filter", [{"step": 1, "label": "text", "val_loss": 0.5}])
    row = {
        "n": 20,
        "shares": {"TP": 0.4, "FP": 0.1, "TN": 0.5, "FN": 0.0},
        "accuracy": 0.9,
        "majority": 0.6,
        "auc": None,
    }
    table = {"metric": "filter_test_accuracy", "value": 0.9, "n": 20, "per_label": {"text": row}, "protocol": {"x": 1}}
    Path("filter/metrics.json").write_text(json.dumps(table))
    done = cogvx("eval", "report", "filter", "-o", "page")
    assert done.exit_code == 0, done.stderr
    text = Path("page/report.md").read_text()
    assert "| filter: text | R1 | 20 | - | 0.40 ≠ | 0.10 ≠ | 0.50 ≠ | 0.00 ≠ | 0.90 ≠ | 0.60 |" in text
    assert "*Screenshot (paper, Table 14)*" in text and not list(Path("page").glob("*.png"))
    Path("filter/metrics.json").write_text(json.dumps(table | {"per_label": {"text": 3}}))
    assert cogvx("eval", "report", "filter", "-o", "other").exit_code == 3
