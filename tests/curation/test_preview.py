"""What sheets show is what training reads."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from films import film, scene

from cogvx.curation.preview import Preview, PreviewOptions, plan_packs
from cogvx.data.buckets import Shape
from cogvx.data.clips import read_clip
from cogvx.data.manifest import format_entry, write_manifest
from cogvx.data.selection import Selection
from cogvx.data.video import write_clip
from cogvx.errors import InputError

SELECTION = Selection(sizes=[(32, 48), (48, 32)], max_frames=17, fps=5)


@pytest.fixture
def folder(tmp_path):
    write_clip(tmp_path / "wide.mkv", film(30), 10)
    write_clip(tmp_path / "high.mkv", scene(9, 20, 80, 56), 10)
    write_clip(tmp_path / "small.mkv", scene(3, 20, 24, 24), 10)
    return tmp_path


def look(folder, *entries, **options):
    write_manifest(folder / "m.jsonl", entries, overwrite=True)
    bad = []
    given = {"selection": SELECTION} | options
    preview = Preview(
        [str(folder / "m.jsonl")], PreviewOptions(**given), root=None, on_bad=lambda name, error: bad.append(name)
    )
    return preview, list(preview.tiles()), bad


def test_tiles_hold_the_frames_that_training_reads(folder):
    entries = [{"video": "wide.mkv", "caption": "a tale"}, {"video": "high.mkv"}]
    entries.append({"video": "wide.mkv", "start": 1.0, "end": 2.2, "captions": {"short": "tale"}})
    preview, tiles, bad = look(folder, *entries, frames_shown=3, captions={"short": 0.2, "caption": 0.8})
    expected = [
        read_clip(folder / "wide.mkv", num_frames=17, fps=5, height=32, width=48)[[0, 4, 8]],
        read_clip(folder / "high.mkv", num_frames=9, fps=5, height=48, width=32)[[0, 4, 8]],
        read_clip(folder / "wide.mkv", num_frames=1, fps=5, height=32, width=48, start=1.0, end=2.2),
    ]
    assert not bad and not preview.left_out
    assert all(np.array_equal(tile.frames, frames) for tile, frames in zip(tiles, expected, strict=True))
    assert [tile.caption for tile in tiles] == ["a tale", "", "tale"]
    assert tiles[0].title == "wide.mkv · 9 frames at 5 fps · 48x32 of 64x48"
    assert tiles[2].title.startswith("wide.mkv · from 1 s to 2.2 s · image")


def test_rejected_clips_with_their_reasons(folder):
    entries = [
        {"video": "wide.mkv", "rejected": ["select: flow >= q0.2", "dark"]},
        {"video": "wide.mkv", "scores": {"flow": 0.5}},
        {"video": "small.mkv", "width": 24, "height": 24, "fps": 10, "duration": 2.0, "scores": {"flow": 3}},
        {"video": "wide.mkv", "scores": {"flow": 3}},
        {"video": "small.mkv", "scores": {"flow": 3}},
    ]
    selection = Selection(sizes=[(32, 48)], max_frames=9, fps=5, min_scores={"flow": 1.0})
    _, tiles, bad = look(folder, *entries, rejected=True, selection=selection)
    reasons = [("select: flow >= q0.2", "dark"), ("flow below 1",), ("smaller than every size",)]
    assert [tile.faults for tile in tiles] == reasons and not bad
    assert tiles[2].frames.shape[1:3] == (32, 48)
    preview, tiles, _ = look(folder, *entries, selection=selection)
    assert len(tiles) == 1 and preview.left_out == {"smaller than every size": 1}


def test_a_condition_decides_too(folder):
    entries = [{"video": "wide.mkv", "scores": {"flow": flow}} for flow in (1, 2, 3, 4)]
    selection = Selection([(32, 48)], 9, 5, where="flow >= q0.5")
    assert len(look(folder, *entries, selection=selection)[1]) == 2
    refused = look(folder, *entries, selection=selection, rejected=True)[1]
    assert [tile.faults for tile in refused] == [("not flow >= q0.5",)] * 2


def test_a_few_evenly_and_the_broken_ones_named(folder):
    entries = [{"video": "wide.mkv", "caption": str(i)} for i in range(9)]
    assert [tile.caption for tile in look(folder, *entries, count=3)[1]] == ["0", "4", "8"]
    entries[4]["video"] = "missing.mkv"
    _, tiles, bad = look(folder, *entries, count=3, keep=lambda entry: entry["caption"] != "8")
    assert [tile.caption for tile in tiles] == ["0", "7"] and bad == ["missing.mkv"]
    (folder / "m.jsonl").write_bytes(b"{broken\n" + format_entry({"video": "wide.mkv"}))
    told = []
    preview = Preview(
        [str(folder / "m.jsonl")], PreviewOptions(selection=SELECTION), root=None, on_bad=lambda *bad: told.append(bad)
    )
    assert len(list(preview.tiles())) == 1 and len(told) == 1


def test_standard_input(folder, monkeypatch):
    monkeypatch.chdir(folder)
    content = io.BytesIO(format_entry({"video": "wide.mkv"}) * 2)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=content))
    preview = Preview(["-"], PreviewOptions(selection=SELECTION), root=None)
    assert len(list(preview.tiles())) == 2 and len(preview.lengths(lambda shape: 1)[0]) == 2


def test_packs(folder):
    known = {"video": "wide.mkv", "width": 64, "height": 48, "fps": 10}
    entries = [known | {"start": 0.0, "end": seconds} for seconds in (0.5, 1.7, 3.3) * 10]
    preview, _, _ = look(folder, *entries, {"video": "wide.mkv", "rejected": ["dark"]}, count=1)
    shapes, lengths = preview.lengths(lambda shape: 10 + shape.num_frames)
    assert [shape.num_frames for shape in shapes] == [1, 9, 17] * 10 and lengths == [11, 19, 27] * 10
    plan = plan_packs(shapes, lengths, budget=60, shown=4)
    assert len(plan.packs) == 4 and plan.title.startswith("30 clips in ") and "of 60 tokens" in plan.title
    assert all(sum(tokens for _, tokens in pack) <= 60 for pack in plan.packs)
    whole = plan_packs(shapes, lengths, budget=None, shown=1000)
    assert whole.budget == 27 and sum(len(pack) for pack in whole.packs) == 30
    with pytest.raises(InputError, match="no clips"):
        plan_packs([], [], budget=None, shown=1)
    assert isinstance(shapes[0], Shape)
