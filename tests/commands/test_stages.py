"""What all commands that run a stage have in common: flags, summary, failures, exit codes."""

import json
import os

import pytest
import typer
from toy_stages import Length
from typer.testing import CliRunner

from cogvx.commands._options import with_flags
from cogvx.commands._stages import StageFlags, _Speed, run_command


@with_flags(StageFlags)
def length(source: str, *, flags: StageFlags) -> None:
    run_command(Length(), source, flags)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the toy stage's command on a manifest of these names."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(length)

    def run(names, *arguments, **more):
        (tmp_path / "m.jsonl").write_text("".join(json.dumps({"video": f"{name}.mp4"}) + "\n" for name in names))
        source = "-" if "input" in more else "m.jsonl"
        return CliRunner().invoke(app, [source, "--workers", "0", *arguments], **more)

    return run


def test_a_result_in_a_file(run):
    result = run(["a", "bb"], "-o", "out.jsonl")
    assert result.exit_code == 0 and result.stdout.endswith("out.jsonl\n")
    assert "length: 2 done, 0 kept, 0 failed" in result.stderr and "clips/s" in result.stderr
    result = run(["a", "bb"], "-o", "out.jsonl", "--json", "-q")
    record = json.loads(result.stdout)
    assert record | {"seconds": 0} == {
        "output": "out.jsonl",
        "done": 0,
        "kept": 2,
        "failed": 0,
        "seconds": 0,
        "clips_per_second": 0.0,
    }
    assert result.stderr == ""


def test_failures_are_told_and_the_others_done(run):
    result = run(["a", "bad", "b"], "-o", "out.jsonl", "--json")
    error, record = (json.loads(line) for line in result.stdout.splitlines() if line.startswith("{"))
    assert result.exit_code == 3 and (record["done"], record["failed"]) == (2, 1)
    assert error == {"input": "m.jsonl:2 (bad.mp4)", "error": "cannot read bad.mp4: it is bad", "exit_code": 3}
    assert "m.jsonl:2 (bad.mp4)" in result.stderr and "Traceback" not in result.stderr


def test_a_fault_is_told_with_its_place(run):
    result = run(["a", "fault", "fault2"], "-o", "out.jsonl")
    assert result.exit_code == 1 and result.stderr.count("Traceback") == 1 and "please report" in result.stderr


def test_standard_streams(run):
    result = run([], input='{"video": "a.mp4"}\n{\n')
    rows = [line for line in result.stdout.splitlines() if line.startswith("{")]
    assert result.exit_code == 3 and [json.loads(row)["scores"] for row in rows] == [{"length": 1}]
    assert "<stdin>:2: not JSON" in result.stderr


def test_a_dry_run_and_paths_that_lead_out(run):
    result = run(["a", "b"], "-o", "deep/out.jsonl", "--dry-run", "--json")
    assert json.loads(result.stdout) == {"output": "deep/out.jsonl", "todo": 2, "kept": 0, "failed": 0}
    assert os.listdir() == ["m.jsonl"]
    result = run(["a", "b"], "-o", "deep/out.jsonl")
    assert "--root" in result.stderr and json.loads(open("deep/out.jsonl").readline())["video"] == "../a.mp4"


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "x/2", "1/0"])
def test_wrong_shards(run, shard):
    assert "--shard" in str(run(["a"], "--shard", shard).exception)


def test_the_time_left_is_that_of_the_last_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    speed = _Speed()
    now[0] = 1.0
    assert speed.text(1000, 2000).startswith("1000/2000, 1000.0 clips/s, 0:01 left")  # they were kept
    for second in range(2, 200):
        now[0] = float(second)
        speed.note(1000 + second)
    assert speed.text(1199, 2000) == "1199/2000, 1.0 clips/s, 13:21 left"
    assert _Speed().text(5, 0) == "5, 0.0 clips/s"
