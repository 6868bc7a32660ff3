"""`data stats` from outside: tables, JSON, pictures, shards and broken lines."""

import json

import pytest


@pytest.fixture
def manifest(tmp_path):
    entries = [
        {"video": f"{i}.mp4", "duration": 2.0 + i, "caption": "two words", "scores": {"flow": i / 4}, "split": "train"}
        for i in range(5)
    ]
    entries[3]["rejected"] = ["select: \x1b[31mdark"]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_tables(cogvx, manifest):
    result = cogvx("data", "stats", manifest)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert result.exit_code == 0 and ["entries", "5"] in lines and ["rejected", "1"] in lines
    assert ["duration", "5", "0", "4", "1.414", "2", "2.2", "3", "4", "5", "5.8", "6"] in lines
    assert ["train", "5", "100.0", "%"] in lines and "\x1b" not in result.stdout


def test_json_and_shards(cogvx, manifest, tmp_path):
    (tmp_path / "shards").mkdir()
    for name in ("1.jsonl", "2.jsonl"):
        (tmp_path / "shards" / name).write_bytes(manifest.read_bytes())
    record = json.loads(cogvx("data", "stats", "shards", "--kept", "--json").stdout)
    assert (record["entries"], record["same_entry"], record["rejected"]) == (8, 4, 0)
    assert record["columns"]["scores.flow"]["mean"] == pytest.approx((0 + 0.25 + 0.5 + 1) / 4)
    record = json.loads(cogvx("data", "stats", "-", "--json", input=manifest.read_bytes()).stdout)
    assert record["entries"] == 5 and record["input"] == "-"


def test_pictures(cogvx, manifest, tmp_path):
    pytest.importorskip("matplotlib")
    record = json.loads(cogvx("data", "stats", manifest, "-o", "h", "--json").stdout)
    assert len(record["files"]) == 4 and all((tmp_path / path).read_bytes()[1:4] == b"PNG" for path in record["files"])


def test_broken_lines_and_nothing(cogvx, manifest, tmp_path):
    with manifest.open("a") as file:
        file.write("{broken\n")
    result = cogvx("data", "stats", manifest)
    assert result.exit_code == 3 and "m.jsonl:6" in result.stderr and "entries" in result.stdout
    (tmp_path / "empty.jsonl").write_text("")
    assert cogvx("data", "stats", "empty.jsonl").exit_code == 3
    assert cogvx("data", "stats", manifest, "-o", "-").exit_code == 2
