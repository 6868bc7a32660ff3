"""`cogvx data score`: columns in a manifest, resumed, marked, refused."""

import json

import numpy as np
import pytest
from moving_pictures import mp4, pan, resized

from cogvx.data.manifest import read_manifest
from cogvx.data.video import write_clip

LIGHT = "exposure,bars,frozen"


@pytest.fixture
def folder(tmp_path):
    """A pan, the same smaller and again compressed, another one, an image; and their manifest clips/m.jsonl."""
    folder = tmp_path / "clips"
    folder.mkdir()
    moving = pan(16, 96, 128, 3, coarse=16)
    (folder / "a.mp4").write_bytes(mp4(moving))
    (folder / "b.mp4").write_bytes(mp4(resized(moving, 80, 112), crf=30))
    write_clip(folder / "c.mkv", pan(16, 96, 128, 3, seed=1, coarse=16), 8)
    write_clip(folder / "d.webp", pan(1, 96, 128, 0, seed=2, coarse=16), 8)
    rows = [
        {"video": "a.mp4", "caption": "a pan", "scores": {"own": 2.5}},
        {"video": "b.mp4"},
        {"video": "c.mkv", "start": 0.5, "end": 1.5},
        {"image": "d.webp"},
    ]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def score(cogvx, folder):
    return lambda *arguments: cogvx("data", "score", folder / "m.jsonl", "--workers", 0, *arguments)


def entries(path):
    return read_manifest(path, root="/").entries


def test_columns(score, folder):
    result = score("-o", folder / "s.jsonl", "--signals", f"{LIGHT},phash")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{folder / 's.jsonl'}\n"
    a, b, c, d = entries(folder / "s.jsonl")
    assert a["caption"] == "a pan" and a["scores"]["own"] == 2.5
    assert a["scores"]["frozen"] == 0 and a["scores"]["bars"] == 0 and 0.2 < a["scores"]["exposure"] < 0.8
    assert a["made"]["frozen"] == {"version": 1, "sampling": 1, "tolerance": 1.0}
    assert len(a["phash"]) == 4 and len(d["phash"]) == 1
    assert "frozen" not in d["scores"] and "frozen" in d["made"]  # an image cannot have it, and that is known
    assert (c["start"], c["end"]) == (0.5, 1.5)


def test_only_what_is_missing_is_measured(score, cogvx, folder, monkeypatch):
    first, second = folder / "s.jsonl", folder / "t.jsonl"
    assert score("-o", first, "--signals", LIGHT).exit_code == 0
    before = first.read_bytes()
    again = score("-o", first, "--signals", LIGHT, "--json")
    assert json.loads(again.stdout)["kept"] == 4
    assert first.read_bytes() == before
    from cogvx.data.signals.frozen import Frozen

    monkeypatch.setattr(Frozen, "measure", None)  # must not be called
    more = cogvx("data", "score", first, "-o", second, "--signals", f"{LIGHT},sharpness", "--workers", 0)
    assert more.exit_code == 0, more.stderr
    for old, new in zip(entries(first), entries(second), strict=True):
        assert set(new["scores"]) == {*old["scores"], "sharpness"}
        assert {key: new["scores"][key] for key in old["scores"]} == old["scores"]


def test_other_parameters_are_measured_anew(score, folder, monkeypatch):
    score("-o", folder / "s.jsonl", "--signals", "exposure")
    from cogvx.data.signals.exposure import Exposure

    monkeypatch.setattr(Exposure, "version", 2)
    again = score("-o", folder / "s.jsonl", "--signals", "exposure", "--json")
    assert json.loads(again.stdout)["done"] == 4
    assert entries(folder / "s.jsonl")[0]["made"]["exposure"]["version"] == 2


def test_duplicates(score, cogvx, folder):
    target = folder / "s.jsonl"
    result = score("-o", target, "--signals", "duplicates")
    assert result.exit_code == 0, result.stderr
    assert "1 of 4 clips are near duplicates" in result.stderr
    a, b, c, d = entries(target)
    assert b["duplicate_of"] == "a.mp4"
    assert [row["scores"]["duplicate"] for row in (a, b, c, d)] == [0, 1, 0, 0]
    assert a["made"]["duplicate"]["most_bits"] == 8
    before = target.read_bytes()
    again = score("-o", target, "--signals", "duplicates", "--json")
    assert json.loads(again.stdout)["kept"] == 4
    assert target.read_bytes() == before
    strict = score("-o", target, "--signals", "duplicates", "--duplicate-bits", 0)
    assert strict.exit_code == 0
    assert entries(target)[1]["made"]["duplicate"]["most_bits"] == 0


def test_duplicates_among_shards(cogvx, folder):
    lines = (folder / "m.jsonl").read_text().splitlines(keepends=True)
    (folder / "in").mkdir()
    for name, part in (("0.jsonl", lines[:1]), ("1.jsonl", lines[1:])):
        (folder / "in" / name).write_text("".join(part).replace('"video": "', '"video": "../'))
    options = ("--root", folder, "--signals", "duplicates", "--workers", 0)
    (folder / "in" / "1.jsonl").write_text((folder / "in" / "1.jsonl").read_text().replace('image": "', 'image": "../'))
    result = cogvx("data", "score", folder / "in", "-o", folder / "out", *options)
    assert result.exit_code == 0, result.stderr
    assert entries(folder / "out" / "1.jsonl")[0]["duplicate_of"] == "../a.mp4"


def test_bad_clips_are_kept_with_their_error(score, folder):
    (folder / "b.mp4").write_bytes(b"no clip")
    result = score("-o", folder / "s.jsonl", "--signals", f"{LIGHT},duplicates")
    assert result.exit_code == 3
    assert "b.mp4" in result.stderr
    a, b, c, _ = entries(folder / "s.jsonl")
    assert b["errors"][0]["stage"] == "score" and b["errors"][0]["exit_code"] == 3
    assert "scores" not in b and a["scores"]["duplicate"] == 0
    (folder / "b.mp4").write_bytes((folder / "a.mp4").read_bytes())
    again = score("-o", folder / "s.jsonl", "--signals", f"{LIGHT},duplicates", "--json")
    assert again.exit_code == 0
    record = json.loads(again.stdout)
    assert (record["done"], record["kept"]) == (1, 3)
    assert entries(folder / "s.jsonl")[1]["duplicate_of"] == "a.mp4"


def test_motion_vectors(score, folder):
    result = score("-o", folder / "s.jsonl", "--signals", "flow", "--flow-engine", "mv")
    assert result.exit_code == 0, result.stderr
    a, _, c, _ = entries(folder / "s.jsonl")
    assert a["scores"]["flow_mv"] > 0.00098
    assert "scores" not in c and "flow_mv" in c["made"]  # FFV1 has none


def test_in_a_process_of_its_own(cogvx, folder):
    result = cogvx("data", "score", folder / "m.jsonl", "--signals", "exposure", "--workers", 1)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row.get("video", row.get("image")) for row in rows] == [f"clips/{name}" for name in NAMES]
    assert all(np.isfinite(row["scores"]["exposure"]) for row in rows)


NAMES = ("a.mp4", "b.mp4", "c.mkv", "d.webp")


def test_all_says_what_it_leaves_out(score, folder):
    result = score("--signals", "all", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "the signal aesthetic is left out: it needs --aesthetic-model" in result.stderr
    assert "the signal duplicates is left out" in result.stderr
    assert "4 to do" in result.stdout
    assert not list(folder.glob("*.journal"))


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--signals", "colour"), 2, "no such signal: colour; there are flow"),
        (("--signals", "duplicates"), 2, "needs an -o FILE"),
        (("--signals", "duplicates", "-o", "s.jsonl", "--shard", "1/2"), 2, "no --shard"),
        (("--signals", "aesthetic"), 4, "hf download openai/clip-vit-large-patch14"),
        (("--signals", "aesthetic", "--aesthetic-head", "x.safetensors"), 2, "go together"),
        (("--signals", "flow", "--aesthetic-head", "x", "--aesthetic-model", "y"), 2, "with the signal aesthetic"),
        (("--signals", "aesthetic", "--aesthetic-head", "x", "--aesthetic-model", "."), 4, "x is not there"),
    ],
)
def test_what_cannot_be(score, arguments, code, text):
    result = score(*arguments)
    assert result.exit_code == code
    assert text in result.stderr
    assert result.stdout == ""


def test_a_missing_package_is_named(score, monkeypatch):
    import sys

    from cogvx.data.signals import flow

    flow.dis_flow.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)
    result = score("--signals", "flow")
    assert result.exit_code == 4
    assert 'pip install "cogvx[data]"' in result.stderr
