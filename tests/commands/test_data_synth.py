"""`cogvx data synth`: clips and their manifest, whole, resumable, the same every time."""

import hashlib
import json

import numpy as np
import pytest

from cogvx.data.manifest import read_manifest
from cogvx.data.storyboard import SceneSpec, render, split_of
from cogvx.data.video import frames_sha256, read_clip
from cogvx.errors import MissingError

SMALL = ("--frames", 5, "--height", 32, "--width", 48)


@pytest.fixture
def synth(cogvx):
    return lambda *arguments: cogvx("data", "synth", *arguments, *SMALL)


def test_clips_and_manifest(synth, tmp_path):
    result = synth("-o", "world", "--count", 3, "--seed", 7)
    assert result.exit_code == 0 and result.stdout == "world/manifest.jsonl\n"
    manifest = read_manifest(tmp_path / "world/manifest.jsonl")
    assert [entry["video"] for entry in manifest.entries] == [f"clips/{index:06d}.mp4" for index in range(3)]
    for index, entry in enumerate(manifest.entries):
        data = manifest.path(entry).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        spec = SceneSpec.from_dict(entry["truth"])
        drawn = render(spec, num_frames=5, height=32, width=48)
        clip = read_clip(data)
        assert clip.frames.shape == drawn.shape and np.abs(clip.frames.astype(int) - drawn).mean() < 6
        assert (clip.fps, entry["fps"], entry["duration"]) == (8, 8, 0.625)
        assert entry["captions"]["short"] == entry["caption"] and entry["split"] == split_of(spec)
        comment = json.loads(clip.metadata["comment"])
        assert comment["truth"] == entry["truth"] and (comment["seed"], comment["index"]) == (7, index)
        assert comment["frames_sha256"] == frames_sha256(drawn)
        assert str(tmp_path) not in clip.metadata["comment"]
    assert sorted(path.name for path in (tmp_path / "world").iterdir()) == ["clips", "manifest.jsonl"]


def test_a_clip_does_not_depend_on_the_count(synth, tmp_path):
    synth("-o", "few", "--count", 1)
    synth("-o", "many", "--count", 2, "-q")
    assert (tmp_path / "few/clips/000000.mp4").read_bytes() == (tmp_path / "many/clips/000000.mp4").read_bytes()
    assert (tmp_path / "many/manifest.jsonl").read_text().startswith((tmp_path / "few/manifest.jsonl").read_text())


def test_running_again_makes_only_what_is_missing(synth, tmp_path):
    synth("-o", "world", "--count", 3)
    manifest = tmp_path / "world/manifest.jsonl"
    before = manifest.read_bytes()
    (tmp_path / "world/clips/000001.mp4").unlink()
    record = json.loads(synth("-o", "world", "--count", 3, "--json").stdout)
    assert (record["written"], record["kept"], record["output"]) == (1, 2, "world/manifest.jsonl")
    assert manifest.read_bytes() == before
    record = json.loads(synth("-o", "world", "--count", 2, "--json").stdout)
    assert (record["written"], record["kept"]) == (0, 2) and manifest.read_bytes() == before
    record = json.loads(synth("-o", "world", "--count", 4, "--json").stdout)
    assert (record["written"], record["kept"]) == (1, 3) and manifest.read_bytes().startswith(before)


def test_what_others_added_to_an_entry_is_kept(synth, tmp_path):
    synth("-o", "world", "--count", 1)
    manifest = tmp_path / "world/manifest.jsonl"
    entry = json.loads(manifest.read_text()) | {"scores": {"motion": 0.5}}
    manifest.write_text(json.dumps(entry) + "\n")
    assert synth("-o", "world", "--count", 2).exit_code == 0
    assert json.loads(manifest.read_text().splitlines()[0]) == entry


def test_a_stopped_run_goes_on(synth, tmp_path, monkeypatch):
    from cogvx.data.storyboard import synth as module

    real, made = module.write_clip, []

    def full(path, *rest, **named):
        if len(made) == 2:
            raise MissingError(f"disk full: cannot write {path}")
        made.append(path)
        return real(path, *rest, **named)

    monkeypatch.setattr(module, "write_clip", full)
    result = synth("-o", "world", "--count", 3)
    assert result.exit_code == 4 and "disk full" in result.stderr
    assert not (tmp_path / "world/manifest.jsonl").exists()
    assert len(list((tmp_path / "world/clips").iterdir())) == 2
    monkeypatch.setattr(module, "write_clip", real)
    with open(tmp_path / "world/.synth.jsonl", "rb+") as ledger:  # killed while writing the last line of its ledger
        ledger.truncate(ledger.seek(-9, 2))
    record = json.loads(synth("-o", "world", "--count", 3, "--json").stdout)
    assert (record["written"], record["kept"]) == (1, 2)
    synth("-o", "again", "--count", 3)
    assert (tmp_path / "again/manifest.jsonl").read_bytes() == (tmp_path / "world/manifest.jsonl").read_bytes()
    assert not (tmp_path / "world/.synth.jsonl").exists()


def test_other_clips_are_not_replaced_unasked(synth, tmp_path):
    synth("-o", "world", "--count", 1)
    before = (tmp_path / "world/clips/000000.mp4").read_bytes()
    result = synth("-o", "world", "--count", 1, "--seed", 1)
    assert result.exit_code == 2 and "--overwrite" in result.stderr and len(result.stderr.splitlines()) == 1
    assert (tmp_path / "world/clips/000000.mp4").read_bytes() == before
    (tmp_path / "world/manifest.jsonl").unlink()
    assert synth("-o", "world", "--count", 1, "--seed", 1).exit_code == 2
    assert synth("-o", "world", "--count", 1, "--seed", 1, "--overwrite").exit_code == 0
    assert (tmp_path / "world/clips/000000.mp4").read_bytes() != before
    assert len((tmp_path / "world/manifest.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("form", ["mkv", "png"])
def test_lossless_forms(synth, tmp_path, form):
    assert synth("-o", "world", "--count", 1, "--format", form).exit_code == 0
    manifest = read_manifest(tmp_path / "world/manifest.jsonl")
    entry = manifest.entries[0]
    spec = SceneSpec.from_dict(entry["truth"])
    clip = read_clip(manifest.path(entry))
    assert (clip.frames == render(spec, num_frames=5, height=32, width=48)).all()
    assert json.loads(synth("-o", "world", "--count", 1, "--format", form, "--json").stdout)["kept"] == 1


def test_odds(synth, tmp_path):
    odds = ("--styles", "pixel", "--num-objects", "2", "--actions", "move-left:3,still:1", "--colors", "red,blue")
    assert synth("-o", "world", "--count", 2, "--split", "test", *odds, "--scenes", "city,room,desert").exit_code == 0
    for entry in read_manifest(tmp_path / "world/manifest.jsonl").entries:
        assert entry["split"] == "test" and entry["truth"]["style"] == "pixel" and len(entry["truth"]["objects"]) == 2
        assert {one["colour"] for one in entry["truth"]["objects"]} == {"red", "blue"}


def test_dry_run_writes_nothing(synth, tmp_path):
    result = synth("-o", "world", "--count", 100, "--dry-run", "--json")
    record = json.loads(result.stdout)
    assert record["count"] == 100 and record["disk_bytes"] > 100 * 500
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--styles", "flat,cubist"), "choose from flat, pixel, sketch, watercolour"),
        (("--styles", "flat:much"), "not a name"),
        (("--styles", "flat:-1"), "negative"),
        (("--num-objects", "two"), "not a name"),
        (("--num-objects", "7"), "1, 2, 3"),
        (("--objects", "circle", "--actions", "spin"), "no legal scene"),
        (("--count", "0"), "count"),
        (("--format", "avi"), "avi"),
    ],
)
def test_wrong_usage(synth, tmp_path, arguments, words):
    result = synth("-o", "world", *arguments)
    assert result.exit_code == 2 and words in result.stderr and result.stdout == ""
    assert not (tmp_path / "world/manifest.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "world", "--height", 65), "even"),
        (("-o", "-"), "folder"),
        ((), "--output"),
        (("-o", "world", "--height", 4), "16"),
    ],
)
def test_wrong_sizes_and_places(cogvx, tmp_path, arguments, words):
    result = cogvx("data", "synth", *arguments)
    assert result.exit_code == 2 and words in result.stderr and not list(tmp_path.iterdir())


def test_a_broken_manifest_is_an_input_error(synth, tmp_path):
    (tmp_path / "world").mkdir()
    (tmp_path / "world/manifest.jsonl").write_text("{]\n")
    result = synth("-o", "world", "--count", 1)
    assert result.exit_code == 3 and "manifest.jsonl:1" in result.stderr
