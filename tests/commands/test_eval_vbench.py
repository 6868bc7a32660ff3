"""`cogvx eval vbench`: prompts with official names, scores with enforced coverage, the official package, totals."""

import json
import sys

import numpy as np
import pytest

from cogvx.data.video import write_clip
from cogvx.evaluation.vbench.suite import DIMENSIONS

INFO = [
    {"prompt_en": "A person is riding a bike", "dimension": ["human_action"]},
    {"prompt_en": "a bird and a cat", "dimension": ["multiple_objects"],
     "auxiliary_info": {"multiple_objects": {"object": "bird and cat"}}},
    {"prompt_en": "alley", "dimension": ["scene", "background_consistency"],
     "auxiliary_info": {"scene": {"scene": {"scene": "alley"}}}},
    {"prompt_en": "a still lake", "dimension": ["temporal_flickering", "dynamic_degree"]},
    {"prompt_en": "a still lake", "dimension": ["motion_smoothness"]},
]  # fmt: skip


@pytest.fixture
def info(tmp_path):
    (tmp_path / "info.json").write_text(json.dumps(INFO))
    return "info.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A clip that stands still, and one that moves far."""
    folder = tmp_path_factory.mktemp("made")
    texture = np.random.default_rng(0).integers(0, 256, (16, 40, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    write_clip(folder / "still.mkv", np.stack([texture[:96, :128]] * 9), 8.0)
    write_clip(folder / "far.mkv", np.stack([texture[:96, 6 * t : 6 * t + 128] for t in range(9)]), 8.0)
    return folder


def place(made, folder, prompt, kinds):
    folder.mkdir(exist_ok=True)
    for index, kind in enumerate(kinds):
        (folder / f"{prompt}-{index}.mp4").write_bytes((made / f"{kind}.mkv").read_bytes())


def test_the_prompts(cogvx, info):
    result = cogvx("eval", "vbench", "prompts", info, "-o", "rows.jsonl", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["videos"] == 20 and json.loads(result.stdout)["prompts"] == 4
    rows = [json.loads(line) for line in open("rows.jsonl")]
    assert rows[1] == {
        "prompt": "A person is riding a bike",
        "seed": 1,
        "output": "A person is riding a bike-1.mp4",
        "vbench": {"prompt": "A person is riding a bike", "index": 1, "dimensions": ["human_action"]},
    }
    assert len({row["seed"] for row in rows}) == len({row["output"] for row in rows}) == 20
    flicker = cogvx("eval", "vbench", "prompts", info, "--dimensions", "temporal_flickering,motion_smoothness")
    again = [json.loads(line) for line in flicker.stdout.splitlines()]
    assert len(again) == 25 and again[0]["seed"] == 300  # a place of its own, whatever is chosen
    assert again[0]["vbench"]["dimensions"] == ["temporal_flickering", "motion_smoothness"]
    planned = cogvx("sample", "--prompts", "rows.jsonl", "-o", "clips/", "--dry-run", "--json")
    assert planned.exit_code == 0, planned.stderr
    assert "A person is riding a bike-1.mp4" in planned.stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("nonsense", "not JSON"),
        ("[]", "list of prompts"),
        ('[{"prompt_en": "../x", "dimension": ["scene"]}]', "cannot name a file"),
        ('[{"prompt_en": "x", "dimension": ["beauty"]}]', "dimension"),
    ],
)
def test_a_file_that_is_none(cogvx, tmp_path, content, words):
    (tmp_path / "bad.json").write_text(content)
    result = cogvx("eval", "vbench", "prompts", "bad.json")
    assert result.exit_code == 3 and words in result.stderr


def test_no_file(cogvx, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cogvx("eval", "vbench", "prompts").exit_code == 4
    assert cogvx("eval", "vbench", "prompts", "none.json").exit_code == 3
    assert cogvx("eval", "vbench", "prompts", "--dimensions", "beauty").exit_code == 2


def test_scores_without_networks(cogvx, info, made, tmp_path):
    place(made, tmp_path / "clips", "a still lake", ["still", "far", "still", "far", "still", "still"])
    result = cogvx("eval", "vbench", "score", "clips", "--full-info", info, "-o", "result.json")
    assert result.exit_code == 0, result.stderr
    assert "temporal_flickering@dis" in result.stdout
    found = json.load(open("result.json"))
    assert found["value"] == {"temporal_flickering@dis": 1.0, "dynamic_degree@dis": pytest.approx(0.4)}
    flicker = found["dimensions"]["temporal_flickering"]
    assert (flicker["videos"], flicker["not_counted"], flicker["coverage"]) == (4, 2, 1.0)
    assert "1 prompts have fewer than 5 clips that stand still" in result.stderr
    assert found["protocol"]["suite_sha256"] and found["per_video"][1]["details"]["dynamic_degree@dis"]["over"] == 8
    every = cogvx(
        "eval", "vbench", "score", "clips", "--full-info", info, "--dimensions", "temporal_flickering",
        "--no-static-filter", "--json",
    )  # fmt: skip
    value = json.loads(every.stdout)["value"]
    assert list(value) == ["temporal_flickering"] and 0.5 < value["temporal_flickering"] < 1


def test_missing_and_broken_videos(cogvx, info, made, tmp_path):
    place(made, tmp_path / "clips", "a still lake", ["still", "far"])
    command = ["eval", "vbench", "score", "clips", "--full-info", info, "--dimensions", "dynamic_degree", "--json"]
    refused = cogvx(*command)
    assert refused.exit_code == 3 and "3 of 5 videos are missing" in refused.stderr
    (tmp_path / "clips" / "a still lake-2.mp4").write_text("no clip")
    result = cogvx(*command, "--allow-missing")
    assert result.exit_code == 3 and "a still lake-2.mp4" in result.stderr and "60.0% covered" in result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["value"] == {"dynamic_degree@dis": 0.5}
    assert (
        found["dimensions"]["dynamic_degree"]["failed"] == 1 and found["dimensions"]["dynamic_degree"]["missing"] == 2
    )


def test_objects_and_captions_from_files(cogvx, info, made, tmp_path):
    place(made, tmp_path / "clips", "a bird and a cat", ["still"] * 5)
    place(made, tmp_path / "clips", "alley", ["still"] * 5)
    objects = [{"video": f"a bird and a cat-{i}.mp4", "objects": [["bird", "cat"], ["cat"]]} for i in range(5)]
    captions = [
        {"video": f"alley-{i}.mp4", "captions": ["An alley at night", "a wall"][: 1 + (i < 4)]} for i in range(5)
    ]
    (tmp_path / "mydet.jsonl").write_text("\n".join(map(json.dumps, objects)))
    (tmp_path / "words.jsonl").write_text("\n".join(map(json.dumps, captions)))
    result = cogvx(
        "eval", "vbench", "score", "clips", "--full-info", info, "--dimensions", "multiple_objects,scene",
        "--detections", "mydet.jsonl", "--captions", "words.jsonl", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["value"] == {"multiple_objects@mydet": 0.5, "scene@words": pytest.approx(0.6)}


def test_a_scene_is_asked_of_a_model(cogvx, info, made, tmp_path, mock_openai):
    place(made, tmp_path / "clips", "alley", ["still"])
    mock_openai.answer = lambda body: "A narrow alley between brick walls."
    result = cogvx(
        "eval", "vbench", "score", "clips", "--full-info", info, "--dimensions", "scene", "--videos", 1, "--json"
    )
    assert result.exit_code == 0, result.stderr
    assert list(json.loads(result.stdout)["value"].values()) == [1.0] and len(mock_openai.chats()) == 16


def test_what_is_not_computed_here(cogvx, info, made, tmp_path):
    place(made, tmp_path / "clips", "a still lake", ["still"])
    result = cogvx(
        "eval", "vbench", "score", "clips", "--full-info", info, "--dimensions", "motion_smoothness", "--videos", 1
    )
    assert result.exit_code == 2 and "official" in result.stderr


PYTHON = """#!{python}
import json, pathlib, sys
assert sys.argv[1:3] == ["-I", "-c"] and "VBench(" in sys.argv[3]
job = json.loads(sys.argv[4])
table = {{}}
for name in job["dimensions"]:
    paths = sorted(pathlib.Path(job["videos"]).glob("*.mp4"))
    rows = [{{"video_path": str(path), "video_results": True}} for path in paths]
    table[name] = [0.75, rows]
pathlib.Path(job["output"], job["name"] + "_eval_results.json").write_text(json.dumps(table))
"""


def test_the_official_package(cogvx, info, made, tmp_path):
    place(made, tmp_path / "clips; touch hacked", "a still lake", ["far"] * 5)
    fake = tmp_path / "python"
    fake.write_text(PYTHON.format(python=sys.executable))
    fake.chmod(0o755)
    result = cogvx(
        "eval", "vbench", "official", "clips; touch hacked", "--vbench-python", fake, "--full-info", info,
        "--dimensions", "dynamic_degree", "--work", "work", "-o", "official.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "hacked").exists()
    found = json.load(open("official.json"))
    assert found["value"] == {"dynamic_degree": 0.75} and found["n"] == 5
    assert found["per_video"][0]["value"] == {"dynamic_degree": 1.0}
    read = cogvx("eval", "vbench", "official", "work", "--full-info", info, "--videos", 6)
    assert read.exit_code == 3 and "1 of 6 videos are missing" in read.stderr
    read = cogvx("eval", "vbench", "official", "work", "--full-info", info, "--videos", 6, "--allow-missing", "--json")
    assert read.exit_code == 0
    assert json.loads(read.stdout)["dimension_coverage"] == {"dynamic_degree": pytest.approx(5 / 6)}
    fake.write_text("#!/bin/sh\necho out of luck >&2\nexit 7\n")
    failed = cogvx(
        "eval", "vbench", "official", "clips; touch hacked", "--vbench-python", fake, "--full-info", info,
        "--dimensions", "dynamic_degree",
    )  # fmt: skip
    assert failed.exit_code == 4 and "out of luck" in failed.stderr


def test_the_total(cogvx, tmp_path):
    def write(name, value):
        table = {"metric": "vbench", "value": value, "n": 1, "per_video": [], "protocol": {}, "backend": {}}
        (tmp_path / name).write_text(json.dumps(table | {"version": "1"}))

    write("some.json", {name: 0.5 for name in DIMENSIONS[:7] if name != "dynamic_degree"} | {"dynamic_degree@dis": 0.5})
    write("more.json", dict.fromkeys(DIMENSIONS[7:], 0.1))
    result = cogvx("eval", "vbench", "total", "some.json", "more.json", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    value = found["value"]
    assert value["total"] == pytest.approx((4 * value["quality"] + value["semantic"]) / 5)
    assert found["metric"] == "vbench_total@cogvx" and "dynamic_degree@dis" in result.stderr
    half = json.loads(cogvx("eval", "vbench", "total", "more.json", "--json").stdout)
    assert half["value"]["total"] is None and half["value"]["semantic"] is not None
    assert cogvx("eval", "vbench", "total", "some.json", "some.json").exit_code == 3
