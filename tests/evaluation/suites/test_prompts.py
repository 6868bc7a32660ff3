"""Rows of prompts: names, seeds, and what of an entry stays."""

import json

import pytest

from cogvx.errors import InputError, RefusedError
from cogvx.evaluation.suites.prompts import RowOptions, prompt_rows


def rows(path, **options):
    return list(prompt_rows(path, RowOptions(**options)))


def jsonl(path, *entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_lines(tmp_path):
    (tmp_path / "p.txt").write_text("a cat\n\n  a dog/in ../ the rain \n")
    found = rows(tmp_path / "p.txt", seed=7, videos=2)
    assert [row["prompt"] for row in found] == ["a cat", "a cat", "a dog/in ../ the rain", "a dog/in ../ the rain"]
    assert [row["seed"] for row in found] == [7, 8, 107, 108]
    assert [row["video"] for row in found][:2] == ["0000-a-cat-0.mp4", "0000-a-cat-1.mp4"]
    assert all(row["video"] == row["output"] and "/" not in row["video"] for row in found)


def test_a_manifest_gives_its_captions_and_names_and_keeps_no_size(tmp_path):
    entry = {"video": "clips/000001.mp4", "caption": "short", "captions": {"dense": "long"}, "num_frames": 17}
    jsonl(
        tmp_path / "manifest.jsonl",
        entry | {"grade": "low", "truth": {"scene": "sea"}, "fps": 8.0},
        entry | {"video": "b.mp4"},
    )
    first, second = rows(tmp_path)
    assert first == {
        "video": "000001.mp4",
        "output": "000001.mp4",
        "prompt": "short",
        "seed": 0,
        "grade": "low",
        "truth": {"scene": "sea"},
    }
    assert second["video"] == "b.mp4" and second["seed"] == 100
    assert rows(tmp_path, caption="dense", limit=1, suffix=".mkv")[0]["prompt"] == "long"
    assert rows(tmp_path, limit=1, suffix=".mkv")[0]["video"] == "000001.mkv"


def test_rows_with_names_and_seeds_of_their_own_keep_them(tmp_path):
    path = jsonl(
        tmp_path / "p.jsonl", {"prompt": "a", "seed": 5, "output": "a-0.mp4", "steps": 3, "vbench": {"index": 0}}
    )
    assert rows(path) == [
        {"prompt": "a", "seed": 5, "output": "a-0.mp4", "video": "a-0.mp4", "steps": 3, "vbench": {"index": 0}}
    ]
    assert [row["video"] for row in rows(path, videos=2)] == ["a-0-0.mp4", "a-0-1.mp4"]


@pytest.mark.parametrize(
    "entries,error,words",
    [
        ([{"video": "a.mp4"}], InputError, r"p\.jsonl:1: no text under 'prompt'"),
        ([{"prompt": "a", "seed": -1}], InputError, r"p\.jsonl:1: seed"),
        ([{"prompt": "a", "output": "../x.mp4"}], RefusedError, "leaves"),
        ([{"prompt": "a", "output": "x.mp4"}, {"prompt": "b", "output": "X.mp4"}], InputError, "as that of"),
        ([], InputError, "no prompts"),
    ],
)
def test_what_cannot_be_a_row(tmp_path, entries, error, words):
    with pytest.raises(error, match=words):
        rows(jsonl(tmp_path / "p.jsonl", *entries))
