"""Selections over files: reasons, what stays as it was, shares of the best, missing columns, memory."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogvx.data.select import Selector, Shard, make_options
from cogvx.errors import InputError, RefusedError, UsageError


def write(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def select(source, target, where=None, *, on_failure=None, overwrite=True, **settings):
    shard = Shard(source, target, source.parent, source.parent)
    selector = Selector(make_options(where, **settings), [shard], on_failure=on_failure)
    selector.look()
    return selector.write(overwrite=overwrite)


def scored(*values, name="x"):
    return [{"video": f"{i}.mp4", "scores": {} if value is None else {name: value}} for i, value in enumerate(values)]


def kept(path):
    return [row["video"] for row in read(path) if not row.get("rejected")]


def test_each_part_that_fails_is_a_reason(tmp_path):
    rows = scored(0.11, 0.5, 0.9, 1.4, 0.6)
    for row, aesthetic in zip(rows, (4.0, 5.0, 4.0, 5.0, 5.0), strict=True):
        row["scores"]["aesthetic"] = aesthetic
        row["split"] = "train"
    rows[4]["split"] = "test"
    where = "q0.25 <= x < 1 and 4.5 <= aesthetic and split == 'train' and not (x > 0.8 and aesthetic < 4.5)"
    result = select(write(tmp_path / "m.jsonl", rows), tmp_path / "o.jsonl", where)
    assert [row.get("rejected") for row in read(tmp_path / "o.jsonl")] == [
        ["select: x 0.11 < q0.25 = 0.5", "select: aesthetic 4 < 4.5"],
        None,
        ["select: aesthetic 4 < 4.5",
         "select: not fulfilled: not (x > 0.8 and aesthetic < 4.5) (x 0.9, aesthetic 4)"],
        ["select: x 1.4 >= 1"],
        ['select: split "test" != "train"'],
    ]  # fmt: skip
    assert (result.total, result.kept, result.rejected, result.before) == (5, 1, 4, 0)
    assert result.reasons["q0.25 <= x (q0.25 = 0.5)"] == 1 and result.reasons["4.5 <= aesthetic"] == 2
    assert result.thresholds == {"q0.25 of x": 0.5}


def test_reasons_say_what_is_there_and_never_contradict_themselves(tmp_path):
    rows = [{"video": "0.mp4", "scores": {"x": 0.3}, "errors": ["e"]}, {"video": "1.mp4", "scores": {"x": 0.1 + 0.2}}]
    source = write(tmp_path / "m.jsonl", rows)
    select(source, tmp_path / "o.jsonl", "x > 0.3 and missing(errors)")
    first, second = (row.get("rejected") for row in read(tmp_path / "o.jsonl"))
    assert first == ["select: x 0.3 <= 0.3", "select: it has errors"] and second is None
    select(source, tmp_path / "o.jsonl", "x <= 0.3 and x / 2 < 10 and rejected", name="again")
    first, second = (row.get("rejected") for row in read(tmp_path / "o.jsonl"))
    assert first == ["again: not rejected otherwise"]
    assert second == ["again: x 0.30000000000000004 > 0.3", "again: not rejected otherwise"]


def test_a_second_run_replaces_its_own_reasons_only(tmp_path):
    rows = scored(1, 2, 3, 4)
    rows[0]["rejected"] = ["blurred", 7]
    path = write(tmp_path / "m.jsonl", rows)
    select(path, path, "x > 3")
    select(path, path, "x != 4", name="hand")
    assert [row.get("rejected") for row in read(path)] == [
        ["blurred", 7, "select: x 1 <= 3"], ["select: x 2 <= 3"], ["select: x 3 <= 3"], ["hand: x 4 == 4"],
    ]  # fmt: skip
    once = path.read_bytes()
    select(path, path, "x > 3")
    assert path.read_bytes() == once
    select(path, path, "x > 2")
    assert [row.get("rejected") for row in read(path)] == [
        ["blurred", 7, "select: x 1 <= 2"], ["select: x 2 <= 2"], None, ["hand: x 4 == 4"],
    ]  # fmt: skip


def test_quantiles_and_shares_leave_out_what_others_rejected(tmp_path):
    rows = scored(*range(10), 1000, 2000)
    for row in rows[10:]:
        row["rejected"] = ["dark"]
    path = write(tmp_path / "m.jsonl", rows)
    result = select(path, tmp_path / "o.jsonl", "x >= q0.5")
    assert result.thresholds == {"q0.5 of x": 4.5} and result.before == 2
    assert kept(tmp_path / "o.jsonl") == [f"{i}.mp4" for i in range(5, 10)]
    result = select(path, tmp_path / "o.jsonl", top="20%", by="x")
    assert kept(tmp_path / "o.jsonl") == ["8.mp4", "9.mp4"] and read(tmp_path / "o.jsonl")[10]["rejected"] == ["dark"]


def test_lines_that_are_kept_stay_byte_for_byte(tmp_path):
    lines = ['{"video":"0.mp4",  "scores":{"x":1.50},"mine":{"a":[1e3]}}', '{"video": "1.mp4", "scores": {"x": 0}}']
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\n".join(lines).encode())
    select(path, tmp_path / "o.jsonl", "x > 1")
    first, second = (tmp_path / "o.jsonl").read_text().splitlines()
    assert first == lines[0] and json.loads(second)["rejected"] == ["select: x 0 <= 1"]
    select(path, tmp_path / "k.jsonl", "x > 1", keep_only=True)
    assert (tmp_path / "k.jsonl").read_text() == lines[0] + "\n"


def test_paths_follow_the_manifest_into_another_folder(tmp_path):
    row = {"video": "clips/a.mp4", "latents": "l/a.safetensors", "texts": {"caption": "t/a"}, "scores": {"x": 1}}
    path = write(tmp_path / "data" / "m.jsonl", [row])
    result = select(path, tmp_path / "out" / "o.jsonl", "x > 0")
    moved = read(tmp_path / "out" / "o.jsonl")[0]
    assert (moved["video"], moved["texts"]["caption"]) == ("../data/clips/a.mp4", "../data/t/a")
    assert result.levels_up == 1
    write(path, [row | {"video": "../../etc/passwd"}])
    with pytest.raises(RefusedError):
        select(path, tmp_path / "out" / "o.jsonl", "x > 0")
    assert read(tmp_path / "out" / "o.jsonl") == [moved]


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(0, 5), min_size=1, max_size=40),
    top=st.integers(1, 100).map("{}%".format) | st.integers(1, 50).map(str),
    grouped=st.booleans(),
)
def test_the_best_are_the_best(tmp_path_factory, values, top, grouped):
    folder = tmp_path_factory.mktemp("top")
    rows = scored(*values)
    for i, row in enumerate(rows):
        row |= {"split": "ab"[i % 2]} if i % 3 else {}
    path = write(folder / "m.jsonl", rows)
    select(path, folder / "o.jsonl", "x > 0", top=top, by="x", within="split" if grouped else None)
    expected = set()
    for group in ("a", "b", None) if grouped else ("all",):
        member = [i for i, row in enumerate(rows) if values[i] > 0 and (group == "all" or row.get("split") == group)]
        size = int(float(top[:-1]) / 100 * len(member) + 0.5) if top.endswith("%") else int(top)
        expected |= set(sorted(member, key=lambda i: (-values[i], i))[:size])
    assert kept(folder / "o.jsonl") == [f"{i}.mp4" for i in sorted(expected)]


def test_why_one_is_not_among_the_best(tmp_path):
    path = write(tmp_path / "m.jsonl", scored(1, 3, 2))
    select(path, tmp_path / "o.jsonl", top="1", by="2 * x", within="split", missing="keep")
    assert read(tmp_path / "o.jsonl")[0]["rejected"] == [
        "select: 2 * x 2 is not in the top 1 by 2 * x within each split"
    ]


def test_few_may_lack_a_column_and_many_are_refused(tmp_path):
    path = write(tmp_path / "m.jsonl", scored(*[1] * 99, None))
    select(path, tmp_path / "o.jsonl", "x > 0")
    assert read(tmp_path / "o.jsonl")[99]["rejected"] == ["select: no x"]
    path = write(tmp_path / "m.jsonl", scored(*[1] * 97, None, None, 0))
    with pytest.raises(InputError, match=r"of 100 entries 2 lack x, more than 1%.*missing\(x\).*--allow-missing"):
        select(path, tmp_path / "o.jsonl", "x > 0")
    with pytest.raises(InputError, match="2 lack x"):
        select(path, tmp_path / "o.jsonl", top="20%", by="x")
    for where, count in (("x > 0", 98), ("not x > 0", 99), ("x > 0 and x < 9", 98)):
        result = select(path, tmp_path / "o.jsonl", where, missing="reject")
        assert result.rejected == count if where.startswith("not") else result.kept == 97
        result = select(path, tmp_path / "o.jsonl", where, missing="keep")
        assert result.kept == (3 if where.startswith("not") else 99)
    select(path, tmp_path / "o.jsonl", "x > 0", missing="keep")
    assert [row.get("rejected") for row in read(tmp_path / "o.jsonl")[97:]] == [None, None, ["select: x 0 <= 0"]]


def test_a_condition_can_say_itself_what_is_missing(tmp_path):
    path = write(tmp_path / "m.jsonl", scored(1, None, 0, None))
    assert select(path, tmp_path / "o.jsonl", "missing(x) or x > 0").kept == 3
    assert select(path, tmp_path / "o.jsonl", "has(x) and x > 0").kept == 1
    assert [row.get("rejected") for row in read(tmp_path / "o.jsonl")][1:3] == [["select: no x"], ["select: x 0 <= 0"]]


def test_a_division_by_zero_is_nothing(tmp_path):
    path = write(tmp_path / "m.jsonl", scored(1, 0))
    with pytest.raises(InputError, match="1 lack a value of 1 / x > 0"):
        select(path, tmp_path / "o.jsonl", "1 / x > 0")
    select(path, tmp_path / "o.jsonl", "1 / x > 0", missing="reject")
    assert read(tmp_path / "o.jsonl")[1]["rejected"] == ["select: 1 / x > 0 has no value"]


def test_a_name_that_nobody_has_is_answered_with_those_there_are(tmp_path):
    path = write(tmp_path / "m.jsonl", scored(1, 2, name="aesthetic"))
    with pytest.raises(UsageError, match="no entry has asthetic; did you mean aesthetic"):
        select(path, tmp_path / "o.jsonl", "asthetic > 1")
    with pytest.raises(UsageError, match="no entry has zzz; they have aesthetic"):
        select(path, tmp_path / "o.jsonl", top="20%", by="zzz")
    assert not (tmp_path / "o.jsonl").exists()


def test_broken_lines_are_told_and_the_others_done(tmp_path):
    path = write(tmp_path / "m.jsonl", scored(1, 2))
    path.write_bytes(b'{]\n[]\n{"scores": {"x": "a"}}\n' + path.read_bytes() + b"\xff\n{")
    told = []
    result = select(path, tmp_path / "o.jsonl", "x > 1", on_failure=lambda place, error: told.append(place))
    assert [place.rpartition(":")[2] for place in told] == ["1", "2", "3", "6", "7"] and result.failed == 5
    assert kept(tmp_path / "o.jsonl") == ["1.mp4"] and len(read(tmp_path / "o.jsonl")) == 2
    with pytest.raises(InputError, match="m.jsonl:1: not JSON"):
        select(path, tmp_path / "o.jsonl", "x > 1")


def test_a_manifest_that_changes_meanwhile_is_an_error(tmp_path):
    path = write(tmp_path / "m.jsonl", scored(1, 2, 3))
    selector = Selector(make_options("x > 1"), [Shard(path, tmp_path / "o.jsonl", tmp_path, tmp_path)])
    selector.look()
    write(path, scored(1, 2))
    with pytest.raises(InputError, match="changed while it was read"):
        selector.write()
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.jsonl"]


def test_shards_share_quantiles_and_appear_together(tmp_path):
    parts = [scored(*range(6)), scored(*range(6, 11))]
    shards = [
        Shard(write(tmp_path / "in" / f"{i}.jsonl", rows), tmp_path / "out" / f"{i}.jsonl", tmp_path / "in", tmp_path)
        for i, rows in enumerate(parts)
    ]
    selector = Selector(make_options("x >= q0.7"), shards)
    assert selector.look().thresholds == {"q0.7 of x": 7.0}
    selector.write()
    assert kept(tmp_path / "out" / "0.jsonl") == []
    assert kept(tmp_path / "out" / "1.jsonl") == [f"../in/{i}.mp4" for i in (1, 2, 3, 4)]
    selector = Selector(make_options("x >= q0.5"), shards)
    selector.look()
    shards[1].source.unlink()
    before = (tmp_path / "out" / "0.jsonl").read_bytes()
    with pytest.raises(InputError):
        selector.write(overwrite=True)
    assert (tmp_path / "out" / "0.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "say what to select"),
        ({"where": "x >"}, "--where: the expression ends"),
        ({"top": "20%"}, "needs --by"),
        ({"where": "x > 1", "by": "x"}, "--by needs --top"),
        ({"where": "x > 1", "within": "split"}, "--within needs --top"),
        ({"top": "0%", "by": "x"}, "above 0"),
        ({"top": "101%", "by": "x"}, "at most 100"),
        ({"top": "2.5", "by": "x"}, "give a share, such as 20%, or a count"),
        ({"top": "-3", "by": "x"}, "give a share"),
        ({"top": "20%", "by": "x > 1"}, "--by: a number is needed"),
        ({"top": "20%", "by": "x", "within": "x + 1"}, "--within x + 1: the name of a column"),
        ({"where": "x > 1", "name": "a\nb"}, "--name"),
    ],
)
def test_impossible_selections(settings, words):
    with pytest.raises(UsageError) as error:
        make_options(settings.pop("where", None), **settings)
    assert words in str(error.value)


def peak_memory(*, reset=False):
    """The most bytes of memory that this process has had since the last reset."""
    if reset:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pytest.skip("the system cannot measure the peak anew")
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def test_a_hundred_thousand_lines_take_little_memory(tmp_path):
    count, draw = 100_000, random.Random(0)
    values = [round(draw.random(), 6) for _ in range(count)]
    with open(tmp_path / "m.jsonl", "w") as file:
        for i, value in enumerate(values):
            file.write(f'{{"video":"{i}.mp4","scores":{{"x":{value}}}}}\n')
    before = peak_memory(reset=True)
    result = select(tmp_path / "m.jsonl", tmp_path / "o.jsonl", "x >= q0.1", top="90%", by="x")
    assert peak_memory() - before < 25e6  # the entries as objects would be seventy millions
    cut = np.quantile(values, 0.1)
    assert result.thresholds["q0.1 of x"] == cut
    assert result.kept == int(0.9 * sum(value >= cut for value in values) + 0.5)
    assert sum(1 for _ in Path(tmp_path / "o.jsonl").open()) == count
