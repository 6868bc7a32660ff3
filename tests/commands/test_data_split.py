"""`data split` from outside: flags to rows, and what goes wrong."""

import json

import numpy as np
import pytest
from films import film

from cogvx.data.video import read_clip, write_clip

pytest.importorskip("scenedetect")
FRAMES = film(30, 20)


@pytest.fixture
def manifest(tmp_path):
    write_clip(tmp_path / "a.mkv", FRAMES, 10)
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"video": "a.mkv", "caption": "a tale"}) + "\n")
    return path


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_split(cogvx, manifest, tmp_path):
    result = cogvx("data", "split", manifest, "-o", "out/shots.jsonl", "--workers", 0, "--min-seconds", 2.5, "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert (record["output"], record["done"], record["failed"]) == ("out/shots.jsonl", 1, 0)
    first, second = rows(tmp_path / "out" / "shots.jsonl")
    assert (first["video"], first["start"], first["end"]) == ("../a.mkv", 0.0, 3.0)
    assert second["rejected"] == ["split: shorter than 2.5 s"]
    again = cogvx("data", "split", manifest, "-o", "out/shots.jsonl", "--workers", 0, "--min-seconds", 2.5, "--json")
    assert json.loads(again.stdout)["kept"] == 1


def test_cut_files_lie_where_the_manifest_says(cogvx, manifest, tmp_path):
    flags = ["--cut", "out/cuts", "--workers", 0, "--min-seconds", 0, "--max-seconds", 0, "--trim", 0.1, "-q"]
    result = cogvx("data", "split", manifest, "-o", "out/shots.jsonl", *flags)
    assert result.exit_code == 0 and result.stdout == "out/shots.jsonl\n"
    made = rows(tmp_path / "out" / "shots.jsonl")
    assert all(row["video"].startswith("cuts/") and row["source"] == "../a.mkv" for row in made)
    frames = [read_clip(tmp_path / "out" / row["video"]).frames for row in made]
    assert np.array_equal(frames[0], FRAMES[:29]) and np.array_equal(frames[1], FRAMES[31:])


def test_wrong_usage_and_broken_clips(cogvx, manifest, tmp_path):
    assert cogvx("data", "split", manifest, "-o", "x.jsonl", "--max-seconds", 3).exit_code == 2
    assert cogvx("data", "split", manifest, "-o", "x.jsonl", "--threshold", 0).exit_code == 2
    assert not (tmp_path / "x.jsonl").exists()
    (tmp_path / "a.mkv").write_bytes(b"no film")
    result = cogvx("data", "split", manifest, "-o", "x.jsonl", "--workers", 0)
    assert result.exit_code == 3 and "a.mkv" in result.stderr
    assert rows(tmp_path / "x.jsonl")[0]["errors"][0]["stage"] == "split"
