"""`cogvx eval storyboard`: a world is found right, its swapped captions wrong, broken clips are counted."""

import json

import pytest

from cogvx.data.manifest import read_manifest, write_manifest
from cogvx.data.storyboard import StoryboardOptions, plain_caption, render, spec_at
from cogvx.data.video import write_clip

FLAT = StoryboardOptions(split="test", counts={1: 1.0}, styles={"flat": 1.0}, colours={"red": 1.0})
SPECS = [spec_at(51, 0, FLAT), spec_at(51, 0, StoryboardOptions(counts={2: 1.0}, styles={"flat": 1.0}))]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two clips: one of one object, one of two."""
    folder = tmp_path_factory.mktemp("drawn")
    for index, spec in enumerate(SPECS):
        write_clip(folder / f"{index}.mp4", render(spec), 8.0, comment=json.dumps({"prompt": plain_caption(spec)}))
    return folder


@pytest.fixture
def world(drawn, tmp_path):
    """Their manifest, world/manifest.jsonl, beside links to the clips."""
    folder = tmp_path / "world"
    folder.mkdir()
    rows = []
    for index, spec in enumerate(SPECS):
        (folder / f"{index}.mp4").symlink_to(drawn / f"{index}.mp4")
        rows.append({"video": f"{index}.mp4", "caption": plain_caption(spec), "truth": spec.to_dict()})
    write_manifest(folder / "manifest.jsonl", rows)
    return folder


def change(world, index, **fields):
    rows = read_manifest(world / "manifest.jsonl", root="/").entries
    rows[index] = {key: value for key, value in (rows[index] | fields).items() if value is not None}
    write_manifest(world / "manifest.jsonl", rows, overwrite=True)


def records(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_drawn_world_is_right(cogvx, world):
    result = cogvx("eval", "storyboard", "world/manifest.jsonl", "--root", "/", "-o", "result.json")
    assert result.exit_code == 0, result.stderr
    table = [line.split() for line in result.stdout.splitlines()]
    assert table[0][:3] == ["attribute", "right", "accuracy"]
    assert ["scene", "2/2", "100.0"] == table[1][:3] and ["action", "3/3", "100.0"] == table[8][:3]
    found = json.load(open("result.json"))
    assert found["metric"] == "storyboard" and found["value"] == 1.0 and found["n"] == 2 and found["failed"] == 0
    assert found["two_objects"]["n"] == 1 and found["two_objects"]["exact"]["accuracy"] == 1.0
    assert found["protocol"]["set"]["asked_by"] == {"truth": 2} and found["mistakes"] == {} and found["coverage"] == 1.0
    assert found["protocol"]["set"]["clips"] == {"17x64x96 at 8 fps": 2} and found["backend"] and found["version"]
    video = found["per_video"][0]
    assert (
        video["exact"] and video["seen"]["objects"][0]["colour"] == "red" and video["asked"]["scene"] == SPECS[0].scene
    )
    assert {one["attribute"] for one in video["findings"]} >= {"scene", "count", "object", "size"}
    again = cogvx("eval", "storyboard", "world/manifest.jsonl", "--root", "/", "-o", "result.json")
    assert again.exit_code == 2 and "--overwrite" in again.stderr


def test_a_wrong_caption_is_found_out(cogvx, world):
    caption = plain_caption(SPECS[0])
    other = next(name for name in ("pink", "orange", "purple") if name not in caption)
    assert caption.startswith(("a red ", "a person in red"))
    change(world, 0, truth=None, caption=caption.replace("red", other, 1))
    result = cogvx("eval", "storyboard", "world/manifest.jsonl", "--root", "/", "--json")
    assert result.exit_code == 0, result.stderr
    *videos, summary = records(result)
    assert [(one["attribute"], one["asked"], one["seen"]) for one in videos[0]["findings"] if not one["right"]] == [
        ("colour", other, "red")
    ]
    assert [video["exact"] for video in videos] == [False, True] and "per_video" not in summary
    assert summary["protocol"]["set"]["asked_by"] == {"caption": 1, "truth": 1}
    assert summary["mistakes"] == {"colour": [{"asked": other, "seen": "red", "count": 1}]}


def test_what_a_clip_says_of_itself(cogvx, drawn):
    result = cogvx("eval", "storyboard", drawn, "--json", "-q")
    assert result.exit_code == 0 and result.stderr == ""
    *videos, summary = records(result)
    assert [video["asked_by"] for video in videos] == ["prompt"] * 2 and summary["value"] == 1.0
    assert "size" not in summary["attributes"]  # no plain caption says one


def test_clips_that_cannot_be_judged_are_counted(cogvx, world):
    (world / "broken.mp4").write_text("no clip")
    rows = read_manifest(world / "manifest.jsonl", root="/").entries[:1]
    rows += [{"video": "broken.mp4", "caption": "a red star"}, {"video": "none.mp4", "caption": "a red star"}]
    rows += [{"video": "0.mp4", "caption": "a cat runs"}, {"video": "1.mp4"}, {"caption": "a red star"}]
    write_manifest(world / "manifest.jsonl", rows, overwrite=True)
    result = cogvx("eval", "storyboard", world, "--root", "/", "--json", "-o", "result.json")
    assert result.exit_code == 3
    assert all(
        text in result.stderr for text in ("broken.mp4", "none.mp4", "names no object", "nothing says", "'video'")
    )
    found = json.load(open("result.json"))
    assert found["n"] == 1 and found["failed"] == 5 and found["coverage"] == pytest.approx(1 / 6)
    assert sum("error" in record and "input" in record for record in records(result)) == 5
    assert len(found["failures"]) == 5 and all(row["error"] for row in found["failures"])


def test_the_result_on_stdout(cogvx, drawn, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "0.mp4").write_bytes((drawn / "0.mp4").read_bytes())
    result = cogvx("eval", "storyboard", "one", "-o", "-", "-q")
    assert result.exit_code == 0 and json.loads(result.stdout)["n"] == 1


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [("nowhere.jsonl", 3, "nowhere.jsonl"), ("empty", 3, "no clips"), ("bad.jsonl", 3, "bad.jsonl:1")],
)
def test_nothing_to_judge(cogvx, tmp_path, source, code, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jsonl").write_text("nonsense\n")
    result = cogvx("eval", "storyboard", source)
    assert result.exit_code == code and words in result.stderr and result.stdout == ""
