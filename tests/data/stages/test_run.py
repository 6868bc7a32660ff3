"""Running stages: order, resuming, what a former result saves, and what one bad item costs."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import toy_stages
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stages import Halves, Length, Unable

from cogvx.data.stages import RunOptions, run_stage
from cogvx.data.stages.journal import Journal
from cogvx.data.stages.run import plan_stage
from cogvx.data.stages.source import Part, iter_items
from cogvx.data.stages.stage import digest
from cogvx.errors import InputError, MissingError, UsageError

HERE = RunOptions(workers=0)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, names, **more):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(json.dumps({"video": f"{name}.mp4", **more}) + "\n" for name in names))


def rows(path="out.jsonl"):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def run(stage, source="m.jsonl", target="out.jsonl", options=HERE, **more):
    failures = []
    result = run_stage(
        stage, source, target, options=options, on_failure=lambda item, error: failures.append(told(error)), **more
    )
    return result, failures


def told(error):
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def calls(log="log"):
    return sorted(path.name.split("-")[-2] for path in Path(log).iterdir())


def counts(result):
    return result.done, result.kept, result.failed, result.exit_code


def test_rows_come_in_order_and_a_bad_item_costs_only_itself(tmp_path):
    names = ["a", "kill", "bb", "bad", "hang", *(f"c{i}" for i in range(40)), "nan", "fault"]
    write("m.jsonl", names)
    result, failures = run(Length(), options=RunOptions(workers=2, item_seconds=1))
    assert [row["video"] for row in rows()] == [f"{name}.mp4" for name in names]
    assert counts(result) == (42, 0, 5, 1)  # 1: there was a fault
    errors = {row["video"]: row["errors"] for row in rows() if "errors" in row}
    assert {name: [error["exit_code"] for error in found] for name, found in errors.items()} == {
        "kill.mp4": [3],
        "bad.mp4": [3],
        "hang.mp4": [3],
        "nan.mp4": [3],
        "fault.mp4": [1],
    }
    assert "SIGKILL" in errors["kill.mp4"][0]["error"] and "1 s" in errors["hang.mp4"][0]["error"]
    assert errors["bad.mp4"][0] == {"stage": "length", "error": "cannot read bad.mp4: it is bad", "exit_code": 3}
    assert "KeyError" in errors["fault.mp4"][0]["error"]
    assert all(row["scores"]["length"] == len(row["video"]) - 4 for row in rows() if "errors" not in row)
    assert sum("in process" in text for text in failures) == 1  # the traceback of the fault
    assert len(failures) == 5 and sorted(os.listdir()) == ["m.jsonl", "out.jsonl"]
    assert str(tmp_path) not in Path("out.jsonl").read_text()


def test_running_again_does_what_is_missing_has_failed_or_has_other_settings(tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    write("m.jsonl", ["a", "bad", "b"])
    assert counts(run(Length(log=str(log)))[0]) == (2, 0, 1, 3)
    before = rows()
    assert counts(run(Length(log=str(log)))[0]) == (0, 2, 1, 3)
    assert rows() == before and calls() == ["a", "b", "bad", "bad"]
    write("m.jsonl", ["0", "b", "a"])  # one more, another order, one less
    assert counts(run(Length(log=str(log)))[0]) == (1, 2, 0, 0)
    assert [row["video"] for row in rows()] == ["0.mp4", "b.mp4", "a.mp4"]
    assert counts(run(Length(2, log=str(log)))[0]) == (3, 0, 0, 0)
    assert rows()[0]["scores"] == {"length": 2}
    assert counts(run(Length(2), options=RunOptions(workers=0, overwrite=True))[0]) == (3, 0, 0, 0)
    assert counts(run(Length(2), "out.jsonl", "again.jsonl")[0]) == (0, 3, 0, 0)
    assert rows("again.jsonl") == rows()


def test_what_the_stage_added_is_taken_over_into_entries_that_have_changed():
    write("m.jsonl", ["a"], scores={"other": 1})
    run(Length())
    write("m.jsonl", ["a"], scores={"other": 2}, caption="new")
    assert counts(run(Length())[0]) == (0, 1, 0, 0)
    assert rows()[0]["scores"] == {"other": 2, "length": 1} and rows()[0]["caption"] == "new"
    write("m.jsonl", ["a"], sha256="0" * 64)
    run(Length())
    write("m.jsonl", ["a"], sha256="1" * 64)  # another file of the same name
    assert counts(run(Length())[0]) == (1, 0, 0, 0)


def test_several_rows_of_an_entry_are_taken_over_together_if_it_has_not_changed(tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    write("m.jsonl", ["a", "b"])
    run(Halves(str(log)))
    before = rows()
    assert [(row["video"], row["start"]) for row in before] == [("a.mp4", 0), ("a.mp4", 1), ("b.mp4", 0), ("b.mp4", 1)]
    assert counts(run(Halves(str(log)))[0]) == (0, 2, 0, 0) and rows() == before
    Path("m.jsonl").write_text('{"video": "b.mp4"}\n{"video": "a.mp4", "caption": "new"}\n')
    assert counts(run(Halves(str(log)))[0]) == (1, 1, 0, 0)
    assert rows()[:2] == before[2:] and [row.get("caption") for row in rows()[2:]] == ["new", "new"]
    assert calls() == ["a", "a", "b"]


def test_a_file_that_would_be_lost_is_not_replaced():
    write("m.jsonl", ["a"])
    write("out.jsonl", ["z"])
    with pytest.raises(UsageError, match="lists other clips"):
        run(Length())
    write("out.jsonl", ["a"], scores={"other": 1})
    with pytest.raises(UsageError, match=r"scores\.other"):
        run(Length())
    Path("out.jsonl").write_text("precious notes\n")
    with pytest.raises(UsageError, match="no manifest"):
        run(Length())
    with pytest.raises(UsageError, match="is the manifest that is read"):
        run(Length(), target="./m.jsonl")
    assert Path("out.jsonl").read_text() == "precious notes\n" and sorted(os.listdir()) == ["m.jsonl", "out.jsonl"]
    assert counts(run(Length(), options=RunOptions(workers=0, overwrite=True))[0]) == (1, 0, 0, 0)


def journal_of(names, **more):
    """Write the journal of a run that has done these, and return its bytes."""
    journal = Journal(Path("out.jsonl"), **{"stage": "length", "settings": {"factor": 1}, "overwrite": False} | more)
    for item in iter_items(Part("m.jsonl", "out.jsonl"), None, lambda *_: None):
        if item.path.stem in names:
            row = item.entry | {"scores": {"length": 100}}  # not what the stage would make
            journal.append(digest(item), (json.dumps(row) + "\n").encode(), None)
    journal.close()
    return journal.path.read_bytes()


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(1, 400), tail=st.binary(max_size=30))
def test_a_journal_torn_anywhere_is_gone_on_with(tmp_path_factory, cut, tail):
    os.chdir(tmp_path_factory.mktemp("torn"))
    write("m.jsonl", "abcdef")
    whole = journal_of("abcd")
    torn = whole[:cut] + (b"" if cut >= len(whole) else tail.replace(b"\n", b""))
    Path("out.jsonl.journal").write_bytes(torn)
    assert counts(run(Length())[0])[2:] == (0, 0)
    found = [row["scores"]["length"] for row in rows()]
    committed = [line for line in torn.split(b"\n")[:-1] if line.startswith(b"#")]
    kept = max(len(committed) - 1, 0)  # the first one is the header
    assert [row["video"][0] for row in rows()] == list("abcdef") and found == [100] * kept + [1] * (6 - kept)
    assert sorted(os.listdir()) == ["m.jsonl", "out.jsonl"]


def test_a_journal_counts_as_far_as_its_entries_are_those_of_the_source():
    write("m.jsonl", "abcd")
    journal_of("abcd")
    write("m.jsonl", "abxcd")
    assert counts(run(Length())[0]) == (3, 2, 0, 0)
    assert [row["scores"]["length"] for row in rows()] == [100, 100, 1, 1, 1]
    write("m.jsonl", "abcd")
    journal_of("abcd")
    write("m.jsonl", "ab")
    assert counts(run(Length())[0]) == (0, 2, 0, 0) and len(rows()) == 2


def test_the_journal_of_another_run_is_neither_gone_on_with_nor_lost():
    write("m.jsonl", "abcd")
    before = journal_of("abc", settings={"factor": 7})
    with pytest.raises(UsageError, match=r"other settings \(factor\)"):
        run(Length())
    assert Path("out.jsonl.journal").read_bytes() == before
    with pytest.raises(UsageError, match="another stage"):
        run(Halves())
    assert counts(run(Length(), options=RunOptions(workers=0, overwrite=True))[0]) == (4, 0, 0, 0)
    Path("out.jsonl.journal").write_text("precious notes\n")
    with pytest.raises(UsageError, match="no journal"):
        run(Length())
    assert Path("out.jsonl.journal").read_text() == "precious notes\n"


def test_one_run_at_a_time_writes_a_result():
    write("m.jsonl", "ab")
    first = Journal(Path("out.jsonl"), stage="length", settings={}, overwrite=False)
    with pytest.raises(UsageError, match="another run"):
        run(Length())
    first.close()


def test_paths_stay_inside_and_lead_to_the_same_files_from_the_result():
    write("deep/m.jsonl", ["a", "sub/b", "../outside", "/etc/passwd", "c/../../../x"])
    result, failures = run(Length(), "deep/m.jsonl", "other/folder/out.jsonl")
    assert counts(result) == (2, 0, 3, 5) and all("m.jsonl:" in text and "refused" in text for text in failures)
    assert [row["video"] for row in rows("other/folder/out.jsonl")] == ["../../deep/a.mp4", "../../deep/sub/b.mp4"]
    assert result.levels_up == 2
    result, _ = run(Length(), "deep/m.jsonl", "wide.jsonl", root=".")
    assert counts(result) == (3, 0, 2, 5) and rows("wide.jsonl")[2]["video"] == "outside.mp4"


def test_5000_broken_lines_are_told_one_by_one_in_bounded_memory():
    with open("m.jsonl", "w") as file:
        for number in range(5000):
            file.write("{broken\n")
            if number % 10 == 0:
                file.write(json.dumps({"video": f"{number}.mp4", "caption": "x" * 40_000}) + "\n")
    errors = []
    tracemalloc.start()
    result = run_stage(
        Length(), "m.jsonl", "out.jsonl", options=HERE, on_failure=lambda item, error: errors.append(str(error)[:40])
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts(result) == (500, 0, 5000, 3) and len(rows()) == 500
    assert errors[0].startswith("m.jsonl:1: not JSON") and errors[-1].startswith("m.jsonl:5500: not JSON")
    assert Path("m.jsonl").stat().st_size > 20e6 and peak < 4e6


def test_a_source_without_entries():
    Path("m.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match="no entries"):
        run(Length())
    Path("m.jsonl").write_text("{\n")
    assert counts(run(Length())[0]) == (0, 0, 1, 3)
    with pytest.raises(InputError, match=r"missing\.jsonl"):
        run(Length(), "missing.jsonl")
    assert os.listdir() == ["m.jsonl"]


def test_what_is_missing_for_every_item_ends_the_run_and_marks_none():
    write("m.jsonl", ["a", "missing0", "b", *(f"missing{i}" for i in range(1, 20))])
    with pytest.raises(MissingError, match="a network is missing"):
        run(Length())
    assert len(Path("out.jsonl.journal").read_bytes().splitlines()) == 1 + 2 * 3  # a, missing0, b
    write("m.jsonl", ["a", "missing0", "b", "c"])
    assert counts(run(Length())[0]) == (1, 2, 1, 3)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stage_that_cannot_be_opened(workers):
    write("m.jsonl", "ab")
    with pytest.raises(MissingError, match="the extra is missing"):
        run(Unable(), options=RunOptions(workers=workers))


def test_workers_that_die_as_they_start():
    write("m.jsonl", "ab")
    with pytest.raises(MissingError, match="SIGKILL.*memory"):
        run(Unable(dies=True), options=RunOptions(workers=1))


def test_shards(monkeypatch):
    for number in (1, 2, 10):
        write(f"in/{number}.jsonl", [f"{number}a", f"{number}b"])
    seen = []
    result, _ = run(Length(), "in", "out", report=lambda done, total: seen.append((done, total)))
    assert counts(result) == (6, 0, 0, 0) and seen == [(i, 6) for i in range(1, 7)]
    assert sorted(os.listdir("out")) == ["1.jsonl", "10.jsonl", "2.jsonl"]
    assert rows("out/10.jsonl")[1] == {
        "video": "../in/10b.mp4",
        "scores": {"length": 3},
        "made": {"length": {"factor": 1}},
    }
    result, _ = run(Length(), "in/*.jsonl", "part/", options=RunOptions(workers=0, shard=(2, 2)))
    assert os.listdir("part") == ["2.jsonl"] and result.done == 2  # 1, 2, 10: the second of each two
    write("m.jsonl", "abcde")
    for index in (1, 2):
        run(Length(), target=f"{index}.jsonl", options=RunOptions(workers=0, shard=(index, 2)))
    assert [row["video"][0] for row in rows("1.jsonl") + rows("2.jsonl")] == list("acebd")
    with pytest.raises(UsageError, match="folder"):
        run(Length(), "in", "m.jsonl")
    with pytest.raises(InputError, match="no \\*.jsonl"):
        os.mkdir("empty")
        run(Length(), "empty", "out")


def test_a_plan_writes_nothing():
    write("m.jsonl", ["a", "b"])
    run(Length())
    write("m.jsonl", ["a", "b", "c"])
    before = Path("out.jsonl").read_bytes()
    plan = plan_stage(Length(), "m.jsonl", "out.jsonl", options=HERE)
    assert (plan.todo, plan.kept, plan.failed) == (1, 2, 0)
    assert Path("out.jsonl").read_bytes() == before and sorted(os.listdir()) == ["m.jsonl", "out.jsonl"]


def script(target, seconds, workers=2):
    """Start a run of its own."""
    command = [sys.executable, toy_stages.__file__, "m.jsonl", target, str(workers), "log", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(what):
    end = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def lines(path):
    return Path(path).read_bytes().count(b"\n#") if Path(path).exists() else 0


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_ended_goes_on_where_it_was(number):
    os.mkdir("log")
    names = [f"clip{i}" for i in range(60)]
    write("m.jsonl", names)
    process = script("out.jsonl", 0.05)
    wait_for(lambda: lines("out.jsonl.journal") >= 5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert not Path("out.jsonl").exists()
    workers = {int(path.name.split("-")[0]) for path in Path("log").iterdir()}
    wait_for(lambda: not any(map(alive, workers)))
    done, begun = lines("out.jsonl.journal"), len(calls())
    assert 5 <= done < 60
    if number != signal.SIGKILL:
        assert "stopping" in errors and "Traceback" not in errors
        assert begun == done  # what had begun was ended
    assert counts(run(Length(log="log"))[0]) == (60 - done, done, 0, 0)
    assert [row["video"] for row in rows()] == [f"{name}.mp4" for name in names]
    again = set(calls())
    assert again == set(names) and len(calls()) == begun + 60 - done
    run(Length(), target="whole.jsonl")
    assert Path("whole.jsonl").read_bytes() == Path("out.jsonl").read_bytes()
    assert sorted(os.listdir()) == ["log", "m.jsonl", "out.jsonl", "whole.jsonl"]


def test_in_a_pipe_rows_come_as_they_are_done_and_nothing_else():
    os.mkdir("log")
    command = [sys.executable, toy_stages.__file__, "-", "-", "1", "log", "0"]
    settings = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, bufsize=0, **settings)  # a buffer would keep rows from communicate()
    process.stdin.write(b'{"video": "a.mp4"}\nbroken\n{"video": "bb.mp4"}\n{"video": "ccc.mp4"}\n')
    assert json.loads(process.stdout.readline())["scores"] == {"length": 1}  # before the input ends
    process.stdin.write(b'{"video": "bad.mp4"}\n')
    out, err = process.communicate(timeout=60)
    assert [json.loads(line)["video"] for line in out.splitlines()] == ["bb.mp4", "ccc.mp4", "bad.mp4"]
    assert process.returncode == 0 and b"failed=2" in err and sorted(os.listdir()) == ["log"]
