"""Reading results: names, and what is refused because it is too large, too deep or no result."""

import json
import os

import pytest

from cogvx.errors import InputError, UsageError
from cogvx.evaluation.report import read_source, split_name
from cogvx.evaluation.report.clips import Wanted, beside_results, choose
from cogvx.evaluation.result import Result, write_result

GOOD = {"metric": "fvd", "value": 1.0, "n": 3, "per_video": [], "protocol": {}, "backend": {}, "version": "1"}


def test_a_system_is_called_by_its_name_or_its_folder(tmp_path):
    folder = tmp_path / "ours"
    folder.mkdir()
    write_result(folder / "a=b.json", Result("fvd", 1.0, 3, [], {}, {}))
    assert read_source(folder / "a=b.json").system == "ours"
    assert split_name(str(folder / "a=b.json")) == (None, folder / "a=b.json")  # a path that is there
    name, path = split_name(f" my\x1b[31m model ={folder}/x.json")
    assert name == "my[31m model" and path == folder / "x.json"
    for wrong in ("=x.json", "name=", "x" * 90 + "=x.json"):
        with pytest.raises(UsageError, match="NAME=PATH"):
            split_name(wrong)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"metric": 3}, "'metric' must be text"),
        ({"metric": " "}, "'metric' must be a name"),
        ({"n": -1}, "'n' must be a number of clips"),
        ({"n": 2.5}, "'n' must be a whole number"),
        ({"protocol": []}, "'protocol' must be an object"),
        ({"per_video": {}}, "'per_video' must be a list"),
        ({"value": "1"}, "'value' must be a number"),
        ({"protocol": {str(i): i for i in range(10_001)}}, "'protocol' has more than 10000 settings"),
        ({"backend": json.loads('{"a":' * 30 + "1" + "}" * 30)}, "'backend' .* nests too deep"),
    ],
)
def test_what_is_no_result_is_told_in_one_line(tmp_path, change, told):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(InputError, match=told) as caught:
        read_source(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none_are_told(tmp_path, value):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(GOOD).replace("1.0", value))
    with pytest.raises(InputError, match="not JSON|not finite"):
        read_source(path)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"metric": "fvd"}', "[" * 100_000, b"\xff\xfe\x00"])
def test_no_json_is_told(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"r\.json: "):
        read_source(path)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "r.json"
    with open(path, "wb") as file:
        os.truncate(file.fileno(), 1 << 40)  # sparse
    with pytest.raises(InputError, match="too much for a result"):
        read_source(path)
    with pytest.raises(InputError, match="No such file"):
        read_source(tmp_path / "missing.json")


def test_clips_are_taken_from_the_results_folder_only(tmp_path):
    (tmp_path / "private.mp4").write_bytes(b"x")
    folder = tmp_path / "ours"
    (folder / "clips").mkdir(parents=True)
    for name in ("a.mp4", "clips/b.webm", "notes.txt"):
        (folder / name).write_bytes(b"x")
    (folder / "link.mp4").symlink_to(tmp_path / "private.mp4")
    rows = [{"input": str(tmp_path / "private.mp4")}, {"input": "../private.mp4"}, {"input": "link.mp4"}]
    rows += [{"input": "elsewhere/a.mp4", "text": "a text"}, {"input": "clips/b.webm"}, {"input": "notes.txt"}]
    rows += [{"input": 3}, 7, {"input": "a.mp4"}, {"input": "a\0.mp4"}, {"input": ""}]
    path = folder / "r.json"
    path.write_text(json.dumps(GOOD | {"per_video": rows}))
    found = beside_results([read_source(path)])
    assert found == [Wanted("ours", folder / "a.mp4", "a text"), Wanted("ours", folder / "clips" / "b.webm")]


def test_clips_that_all_systems_have_come_first(tmp_path):
    wanted = [Wanted(system, tmp_path / f"{system}{text}.mp4", text) for system in "ab" for text in ("x", system, "y")]
    groups = choose(wanted, 2)
    assert [[(one.system, one.text) for one in group] for group in groups] == [
        [("a", "x"), ("b", "x")],
        [("a", "y"), ("b", "y")],
    ]
    nameless = choose([Wanted(system, tmp_path / system / "1.mp4") for system in "ab"], 5)
    assert [len(group) for group in nameless] == [2]  # the same file name
