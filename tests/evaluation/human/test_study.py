"""Studies: complete, balanced, mixed, the same for the same seed, and blind."""

import json
import random
from collections import Counter

import numpy as np
import pytest

from cogvx.data.video import probe, read_clip, write_clip
from cogvx.errors import InputError, RefusedError, UsageError
from cogvx.evaluation.human import make_study, read_study, read_system
from cogvx.evaluation.human.study import _items


def test_every_clip_is_rated_once(make, sources):
    study = make("rating", 3)
    assert {(item.shown[0].system, item.prompt) for item in study.items} == {
        (system, prompt) for system in study.systems for prompt in range(3)
    }
    assert len(study.items) == 9 and read_study(study.folder) == study
    for item in study.items:  # the right pixels under each name
        number, index = study.systems.index(item.shown[0].system), item.prompt
        level = 40 * number + 20 * ("a red <b>ball</b> falls", "a boat", "a cat & a dog").index(study.prompts[index])
        assert abs(read_clip(study.path(item.shown[0])).frames.mean() - level) < 3


def test_nothing_of_a_clip_tells_its_system(make):
    study = make("rating", 3)
    paths = [study.path(item.shown[0]) for item in study.items]
    assert all("comment" not in probe(path).metadata and b"secret" not in path.read_bytes() for path in paths)
    assert len({path.stat().st_mtime_ns for path in paths}) == 1
    makers = [system for _, system in sorted((item.shown[0].clip, item.shown[0].system) for item in study.items)]
    assert makers != list(study.systems) * 3 and makers != sorted(makers)  # names in no order that tells
    assert not any(system in path.name for path in paths for system in study.systems)


def test_each_system_sits_on_either_side_as_often():
    shown = [[(system, prompt) for system in "abc"] for prompt in range(20)]
    items = _items(shown, "pairwise", random.Random(0), both_seats=False)
    seats = Counter((item.shown[0][0], item.shown[1][0]) for item in items)
    assert len(items) == 60 and set(seats.values()) == {10} and len(seats) == 6
    both = _items(shown, "pairwise", random.Random(0), both_seats=True)
    assert len({(item.prompt, item.shown) for item in both}) == 120
    assert [item.id for item in both] == sorted(item.id for item in both)


def test_raters_have_orders_of_their_own(make):
    study = make("rating", 3)
    assert sorted(study.order("anna")) == list(range(9)) == sorted(study.order("ben"))
    assert study.order("anna") == study.order("anna") != study.order("ben")


def test_the_seed_decides(make, sources, tmp_path):
    first = make("pairwise")
    systems = [read_system(name, sources / name) for name in first.systems]
    again = make_study(systems, tmp_path / "again", mode="pairwise", seed=1)
    assert again.sha256 == first.sha256
    few = make_study(systems, tmp_path / "few", mode="pairwise", seed=2, num_prompts=2)
    assert len(few.prompts) == 2 == len(few.items) and few.sha256 != first.sha256


def test_prompts_of_folders(tmp_path):
    frames = np.zeros((2, 16, 17, 3), np.uint8)
    write_clip(tmp_path / "a.mkv", frames, 8.0, comment=json.dumps({"prompt": "long", "upsampled": {"from": "short"}}))
    write_clip(tmp_path / "a dog runs-0.mkv", frames, 8.0)
    write_clip(tmp_path / "a dog runs-1.mkv", frames, 8.0)
    system = read_system("x", tmp_path)
    assert set(system.clips) == {"short", "a dog runs"} and system.num_more == 1
    assert system.clips["a dog runs"].path.name == "a dog runs-0.mkv" and system.prompts_by == ("comment", "name")
    study = make_study([system], tmp_path / "study")
    assert read_clip(study.path(study.items[0].shown[0])).frames.shape == (2, 16, 16, 3)  # H.264 needs even sides


def test_what_is_no_study(make, sources, tmp_path):
    study = make("rating")
    one, two = (read_system(name, sources / name) for name in study.systems)
    with pytest.raises(UsageError):
        make_study([one], tmp_path / "s", mode="pairwise")
    with pytest.raises(UsageError):
        make_study([one, one], tmp_path / "s")
    with pytest.raises(UsageError, match="exists"):
        make_study([one, two], study.folder)
    with pytest.raises(UsageError, match="no study"):
        make_study([one, two], sources, overwrite=True)
    (tmp_path / "m.jsonl").write_text('{"video": "x.mp4", "prompt": "other"}\n')
    with pytest.raises(InputError, match="no prompt has"):
        make_study([one, read_system("other", tmp_path / "m.jsonl")], tmp_path / "s")
    with pytest.raises(InputError):
        read_study(tmp_path)
    value = study.to_dict()
    for key, wrong in (("format", "x"), ("items", []), ("mode", "x"), ("systems", ["other"]), ("prompts", [])):
        (tmp_path / "study.json").write_text(json.dumps(value | {key: wrong}))
        with pytest.raises(InputError):
            read_study(tmp_path)
    value["items"][0]["shown"][0][1] = "../../etc/passwd"
    (tmp_path / "study.json").write_text(json.dumps(value))
    with pytest.raises(RefusedError):
        read_study(tmp_path)
