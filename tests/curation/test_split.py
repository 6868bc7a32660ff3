"""Films become shots: entries of parts, or files of exactly their frames."""

import json
from pathlib import Path

import numpy as np
import pytest
from films import film, timed_clip
from PIL import Image

from cogvx.curation.split import SplitStage
from cogvx.data.manifest import read_manifest, write_manifest
from cogvx.data.shots import ShotRules
from cogvx.data.stages import RunOptions, run_stage
from cogvx.data.video import read_clip, write_clip
from cogvx.errors import MissingError, UsageError
from cogvx.files import sha256_file

pytest.importorskip("scenedetect")
FRAMES = film(30, 20, 25)  # cuts at 3 s and 5 s of 7.5 s
ANY = ShotRules(min_seconds=0, max_seconds=None)


@pytest.fixture
def clip(tmp_path):
    write_clip(tmp_path / "a.mkv", FRAMES, 10)
    return tmp_path / "a.mkv"


def split(folder, *entries, target="shots.jsonl", **options):
    """Split entries, and return the rows and what the run says."""
    write_manifest(folder / "m.jsonl", entries, overwrite=True)
    stage = SplitStage(**({"rules": ANY} | options))
    stage.check()
    result = run_stage(stage, str(folder / "m.jsonl"), str(folder / target), options=RunOptions(workers=0))
    return read_manifest(folder / target, root=folder).entries, result


def parts(rows):
    return [(row["start"], row["end"]) for row in rows]


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_entries_of_parts(clip, tmp_path, detector):
    entry = {"video": "a.mkv", "caption": "a tale", "captions": {"short": "tale"}, "sha256": "0" * 64, "mine": [1]}
    made = {"scores": {"flow": 1.0}, "labels": {"text": 0.5}, "made": {"flow": {"version": 1}}, "num_frames": 75}
    rows, _ = split(tmp_path, entry | made | {"duration": 7.5, "latents": "a.safetensors"}, detector=detector)
    assert parts(rows) == [(0.0, 3.0), (3.0, 5.0), (5.0, 7.5)]
    assert [row["num_frames"] for row in rows] == [30, 20, 25]
    assert [row["duration"] for row in rows] == [3.0, 2.0, 2.5]
    for row in rows:
        assert {name: row[name] for name in entry} == entry
        assert (row["fps"], row["height"], row["width"]) == (10.0, 48, 64)
        assert not {"scores", "labels", "latents", "rejected"} & row.keys() and list(row["made"]) == ["split"]
        assert np.array_equal(
            read_clip(clip, start=row["start"], end=row["end"]).frames,
            FRAMES[round(10 * row["start"]) : round(10 * row["end"])],
        )


def test_a_clip_of_one_shot_keeps_what_is_known_of_it(tmp_path):
    write_clip(tmp_path / "b.mkv", film(25), 10)
    entry = {"video": "b.mkv", "scores": {"flow": 1.0}, "made": {"flow": {"version": 1}}}
    (row,), _ = split(tmp_path, entry)
    assert "start" not in row and row["scores"] == {"flow": 1.0} and row["num_frames"] == 25
    assert set(row["made"]) == {"flow", "split"}


def test_lengths(clip, tmp_path):
    rows, _ = split(tmp_path, {"video": "a.mkv"}, rules=ShotRules(min_seconds=2.2, max_seconds=None))
    assert [row.get("rejected") for row in rows] == [None, ["split: shorter than 2.2 s"], None]
    rows, _ = split(tmp_path, {"video": "a.mkv"}, rules=ShotRules(min_seconds=0.5, max_seconds=1.4), target="b.jsonl")
    assert parts(rows)[:3] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)] and len(rows) == 7
    rules = ShotRules(min_seconds=0, max_seconds=None, trim=0.2)
    rows, _ = split(tmp_path, {"video": "a.mkv"}, rules=rules, target="c.jsonl")
    assert parts(rows) == [(0.0, 2.8), (3.2, 4.8), (5.2, 7.5)]


def test_a_part_is_split_inside_itself(clip, tmp_path):
    rows, _ = split(
        tmp_path,
        {"video": "a.mkv", "start": 1.0, "end": 4.0},
        {"video": "a.mkv", "start": 5.5},
        {"video": "a.mkv", "start": 3.5, "end": 4.7, "scores": {"flow": 2.0}},
    )
    assert parts(rows[:2]) == [(1.0, 3.0), (3.0, 4.0)]
    assert [row["num_frames"] for row in rows] == [20, 10, 20, 12]
    assert rows[2]["start"] == 5.5 and "end" not in rows[2]
    assert parts(rows[3:]) == [(3.5, 4.7)] and rows[3]["scores"] == {"flow": 2.0}


def test_a_varying_rate(tmp_path):
    ticks = np.cumsum([0, *([40, 120, 80] * 25)[:74]]).tolist()
    timed_clip(tmp_path / "v.mkv", FRAMES, ticks)
    rows, _ = split(tmp_path, {"video": "v.mkv"})
    assert [row["start"] for row in rows] == pytest.approx([0, ticks[30] / 1000, ticks[50] / 1000])
    assert [row["num_frames"] for row in rows] == [30, 20, 25]
    middle = read_clip(tmp_path / "v.mkv", start=rows[1]["start"], end=rows[1]["end"])
    assert np.array_equal(middle.frames, FRAMES[30:50])


def test_what_passes_through(clip, tmp_path):
    Image.fromarray(FRAMES[0]).save(tmp_path / "i.png")
    entries = [{"image": "i.png"}, {"video": "a.mkv", "rejected": ["dark"]}, {"video": "i.png"}, {"latents": "l"}]
    rows, result = split(tmp_path, *entries, rules=ShotRules())
    assert [rows[0], rows[1], rows[3]] == [entries[0], entries[1], entries[3]]
    assert rows[2]["num_frames"] == 1 and "rejected" not in rows[2] and result.done == 1


def test_it_goes_on_where_it_was(clip, tmp_path):
    rows, first = split(tmp_path, {"video": "a.mkv"}, {"video": "missing.mkv"})
    assert first.failed == 1 and first.kept == 0
    assert rows[3]["errors"][0]["stage"] == "split" and rows[3]["video"] == "missing.mkv"
    write_clip(tmp_path / "missing.mkv", film(20, 20, seed=5), 10)
    again, second = split(tmp_path, {"video": "a.mkv"}, {"video": "missing.mkv"})
    assert second.kept == 1 and second.failed == 0 and again[:3] == rows[:3] and len(again) == 5
    # Parts, split again with other rules, stay inside themselves.
    further = run_stage(
        SplitStage(rules=ShotRules(0, 1.5)), str(tmp_path / "shots.jsonl"), str(tmp_path / "x.jsonl"),
        options=RunOptions(workers=0),
    )  # fmt: skip
    assert further.done == 5
    assert parts(read_manifest(tmp_path / "x.jsonl").entries)[:4] == [(0, 1.5), (1.5, 3), (3, 4), (4, 5)]


@pytest.mark.parametrize("form", ["mkv", "mp4-lossless"])
def test_cut_files(clip, tmp_path, form):
    entry = {"video": "a.mkv", "caption": "a tale", "sha256": sha256_file(clip)}
    rows, _ = split(tmp_path, entry, cut=tmp_path / "cuts", form=form)
    assert [(row["source"], row["source_start"], row["source_end"]) for row in rows] == [
        ("a.mkv", 0.0, 3.0),
        ("a.mkv", 3.0, 5.0),
        ("a.mkv", 5.0, 7.5),
    ]
    for row, (first, stop) in zip(rows, [(0, 30), (30, 50), (50, 75)], strict=True):
        path = tmp_path / row["video"]
        made = read_clip(path)
        assert np.array_equal(made.frames, FRAMES[first:stop]) and made.fps == 10
        assert row["sha256"] == sha256_file(path) != entry["sha256"] and row["caption"] == "a tale"
        assert not {"start", "end"} & row.keys() and row["num_frames"] == stop - first
        comment = json.loads(made.metadata["comment"])
        assert comment["source"] == "a.mkv" and comment["source_sha256"] == entry["sha256"]
    files = sorted(path for path in (tmp_path / "cuts").rglob("*") if path.is_file())
    assert len(files) == 3
    before = [path.stat().st_mtime_ns for path in files]
    rows, result = split(tmp_path, entry, cut=tmp_path / "cuts", form=form, target="again.jsonl")
    assert result.done == 1 and [path.stat().st_mtime_ns for path in files] == before  # what is there is taken


def test_files_of_short_shots_and_of_whole_clips_are_not_cut(clip, tmp_path):
    write_clip(tmp_path / "b.mkv", film(25), 10)
    entries = [{"video": "a.mkv"}, {"video": "b.mkv"}, {"video": "b.mkv", "start": 0.2, "end": 2.5}]
    rules = ShotRules(min_seconds=2.2, max_seconds=None)
    rows, _ = split(tmp_path, *entries, cut=tmp_path / "cuts", rules=rules)
    assert ["cuts" in row["video"] for row in rows] == [True, False, True, False, True]
    assert rows[1]["rejected"] and parts(rows[1:2]) == [(3.0, 5.0)] and "start" not in rows[3]
    assert np.array_equal(read_clip(tmp_path / rows[4]["video"]).frames, film(25)[2:])


def test_impossible_settings(monkeypatch):
    for options in ({"threshold": 0.0}, {"detector": "transnet", "threshold": 1.0}, {"min_gap": -1}):
        with pytest.raises(UsageError):
            SplitStage(**options).check()
    monkeypatch.setitem(__import__("sys").modules, "scenedetect", None)
    with pytest.raises(MissingError, match="cogvx\\[data\\]"):
        SplitStage().open()
    assert Path(SplitStage(cut=Path("x")).settings()["folder"]).is_absolute()
