"""`cogvx eval run`: the plan and its check, what is passed over or run again, failures, and a kill in the middle."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cogvx.data.manifest import write_manifest
from cogvx.data.video import write_clip
from cogvx.evaluation.result import read_result

ROOT = Path(__file__).parents[2]
SMALL = """
[[prompts]]
name = "moving"
source = "clips"
reference = "real"
[[systems]]
name = "a"
clips = { moving = "a" }
[[systems]]
name = "b"
clips = { moving = "b" }
[[metrics]]
name = "dynamics"
[report]
enabled = false
"""


def draw(folder, *steps):
    texture = np.random.default_rng(0).integers(0, 256, (8, 30, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    for step in steps:
        clip = np.stack([texture[:, step * t : step * t + 48] for t in range(9)])
        write_clip(folder / f"{step}.mkv", clip, 8.0, overwrite=True)
    write_manifest(
        folder / "manifest.jsonl", [{"video": f"{step}.mkv", "prompt": "x"} for step in steps], overwrite=True
    )


@pytest.fixture
def small(cogvx, tmp_path, monkeypatch):
    """A suite of two systems whose clips are there; its steps run in this process, and are counted in `ran`."""
    for name, steps in (("a", (0, 2)), ("b", (1, 5)), ("real", (1, 3))):
        draw(tmp_path / name, *steps)
    (tmp_path / "s.toml").write_text(SMALL)

    def run_step(arguments, log, place, console, *, keep_open):
        from cogvx.commands import app

        run.ran.append(place.name)
        return CliRunner().invoke(app, list(arguments)).exit_code

    monkeypatch.setattr("cogvx.commands._eval_steps.run_step", run_step)

    def run(*arguments):
        run.ran = []
        return cogvx("eval", "run", "s.toml", "-o", "out", *arguments)

    return run


def test_results_lie_where_the_plan_says_and_are_passed_over_next_time(small, cogvx, tmp_path):
    first = small("--json")
    assert first.exit_code == 0, first.stderr
    records = [json.loads(line) for line in first.stdout.splitlines()]
    assert [(one["step"], one["output"], one["exit_code"], one["skipped"]) for one in records] == [
        ("dynamics a", "out/results/a/dynamics.json", 0, False),
        ("dynamics b", "out/results/b/dynamics.json", 0, False),
    ]
    assert read_result("out/results/b/dynamics.json").n == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "results", "run.jsonl", "suite.toml"]
    second = small()
    assert small.ran == [] and second.exit_code == 0 and "done before" in second.stderr
    assert second.stdout == "out/results/a/dynamics.json\nout/results/b/dynamics.json\n"
    shutil.move("out", "elsewhere")  # the folder's own name does not matter, nor the suite's
    again = small("-o", "elsewhere", "--resume")
    assert small.ran == [] and again.exit_code == 0, again.stderr
    resolved = cogvx("eval", "run", "elsewhere")  # its suite.toml, and in that folder
    assert small.ran == [] and resolved.stdout.startswith("elsewhere/results/a/"), resolved.stderr


@pytest.mark.parametrize("change", ["clip", "flag", "version", "result", "gone", "torn"])
def test_what_changed_is_done_again_and_nothing_else(small, tmp_path, monkeypatch, change):
    assert small().exit_code == 0
    result = Path("out/results/a/dynamics.json")
    before = result.read_bytes()
    expected = ["dynamics a"]
    if change == "clip":
        draw(tmp_path / "a", 0, 3)
    elif change == "flag":
        shutil.copytree(tmp_path / "a", tmp_path / "c")
        (tmp_path / "s.toml").write_text(SMALL.replace('moving = "a"', 'moving = "c"'))
    elif change == "version":
        monkeypatch.setattr("cogvx.evaluation.suites.record.__version__", "99")
        expected = ["dynamics a", "dynamics b"]
    elif change == "result":
        result.write_text("{}")
    elif change == "gone":
        result.unlink()
    else:
        with open("out/run.jsonl", "rb+") as log:  # killed while it wrote the end of the last step
            log.truncate(os.path.getsize("out/run.jsonl") - 10)
        expected = ["dynamics b"]
    again = small()
    assert again.exit_code == 0, again.stderr
    assert small.ran == expected
    assert (result.read_bytes() == before) == (change != "clip") or change == "version"
    small()
    assert small.ran == []


def test_a_failing_step_stops_only_what_needs_it(small, tmp_path):
    (tmp_path / "b" / "1.mkv").write_bytes(b"no clip")
    (tmp_path / "b" / "5.mkv").write_bytes(b"no clip")
    (tmp_path / "s.toml").write_text(
        SMALL.replace("[report]", '[[metrics]]\nname = "vbench-total"\nof = ["dynamics"]\nsystems = ["b"]\n[report]')
    )
    result = small()
    assert result.exit_code == 3
    assert small.ran == ["dynamics a", "dynamics b"]
    assert "failed: dynamics b: exit code 3" in result.stderr
    # Its command ended with 3 and left no result, so nothing can be added up.
    assert "vbench-total b" in result.stderr
    draw(tmp_path / "b", 1, 5)
    result = small()
    assert small.ran[0] == "dynamics b" and "dynamics a" not in small.ran


def test_everything_is_checked_before_the_first_step(small, tmp_path):
    for old, new, code, words in [
        ('"dynamics"\n', '"dynamics"\nflags = { qualty = "x" }\n', 2, "did you mean --quality"),
        ('"dynamics"\n', '"dynamics"\nflag = 1\n', 2, "unknown key metrics.0.flag; did you mean metrics.0.flags?"),
        ('moving = "b"', 'moving = "nowhere"', 3, "nowhere: no such file or folder"),
        ('"dynamics"\n', '"fvd"\nflags = { feature-net = "i3d", weights = "i3d.pt" }\n', None, "i3d.pt"),
        ('"dynamics"\n', '"clip"\nflags = { backend = "clip", weights = "nobody/clip" }\n', 4, "nobody/clip"),
        (
            '"dynamics"\n',
            '"mtscore"\nflags = { lm-model = "x", lm-url = "http://127.0.0.1:9/v1" }\n',
            4,
            "nobody answers",
        ),
        ('clips = { moving = "a" }', 'model = "tiny"', 2, "systems.0: a has no clips, and no prompts for any"),
    ]:
        assert old in SMALL
        (tmp_path / "s.toml").write_text(SMALL.replace(old, new))
        result = small()
        assert result.exit_code == code if code else result.exit_code in (3, 4), (new, result.stderr)
        assert words in result.stderr, result.stderr
        assert small.ran == [] and not (tmp_path / "out").exists()


def test_an_optional_metric_is_left_out_and_said_so(small, tmp_path):
    flags = 'flags = { lm-model = "x", lm-url = "http://127.0.0.1:9/v1" }'
    mtscore = f'[[metrics]]\nname = "mtscore"\noptional = true\n{flags}\n[report]'
    (tmp_path / "s.toml").write_text(SMALL.replace("[report]", mtscore))
    result = small()
    assert result.exit_code == 0 and small.ran == ["dynamics a", "dynamics b"]
    assert "left out: mtscore a: nobody answers at 127.0.0.1:9" in result.stderr


def test_a_file_that_no_run_made_is_not_replaced_unasked(small, tmp_path):
    (tmp_path / "out/results/a").mkdir(parents=True)
    (tmp_path / "out/results/a/dynamics.json").write_text("mine")
    result = small()
    assert result.exit_code == 3 and "no run made it" in result.stderr
    assert (tmp_path / "out/results/a/dynamics.json").read_text() == "mine" and small.ran == ["dynamics b"]
    assert small("--overwrite").exit_code == 0 and small.ran == ["dynamics a"]


def test_two_runs_do_not_share_a_folder_and_resume_needs_one(small, tmp_path):
    result = small("--resume")
    assert result.exit_code == 2 and "there is no run in out" in result.stderr
    from cogvx.evaluation.suites.record import locked

    with locked(tmp_path / "out"):
        result = small()
    assert result.exit_code == 2 and f"in use by the run of process {os.getpid()}" in result.stderr


GENERATED = """
[[prompts]]
file = "p.txt"
suffix = ".mkv"
[[systems]]
name = "toy"
model = "MODEL"
flags = { steps = 6, frames = 9 }
[[metrics]]
name = "dynamics"
[report]
enabled = false
"""


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_clips_of_another_command_are_not_removed_unasked(small, model_folder, tmp_path):
    (tmp_path / "p.txt").write_text("a red star\na blue boat\n")
    (tmp_path / "s.toml").write_text(GENERATED.replace("MODEL", str(model_folder("5b"))))
    fast = ("--set", "systems.0.flags.steps=1")
    first = small(*fast)
    assert first.exit_code == 0, first.stderr
    assert small.ran == ["manifest toy prompts", "clips toy prompts", "dynamics toy"]
    clips = sorted(Path("out/clips/toy/prompts").glob("*.mkv"))
    assert [path.name for path in clips] == ["0000-a-red-star.mkv", "0001-a-blue-boat.mkv"]
    before = [path.read_bytes() for path in clips]
    refused = small("--set", "systems.0.flags.steps=2")
    assert refused.exit_code == 2 and "--steps 2" not in refused.stderr.split("--overwrite")[1]
    assert "its command has changed: 1 became 2; --overwrite makes these clips again" in refused.stderr
    assert small.ran == [] and [path.read_bytes() for path in clips] == before
    clips[1].unlink()
    assert small(*fast).exit_code == 0 and small.ran[0] == "clips toy prompts"
    assert clips[0].read_bytes() == before[0] and clips[1].exists()
    clips[0].write_bytes(before[0] + b"x")
    altered = small(*fast)
    assert altered.exit_code == 3 and "0000-a-red-star.mkv is not the file that was made" in altered.stderr
    assert small(*fast, "--overwrite").exit_code == 0 and small.ran == ["clips toy prompts", "dynamics toy"]
    assert clips[0].read_bytes()[-1:] != b"x"


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_generates_ends_as_if_it_was_not(model_folder, tmp_path):
    (tmp_path / "p.txt").write_text("".join(f"a red star moves to the right {n}\n" for n in range(6)))
    (tmp_path / "s.toml").write_text(GENERATED.replace("MODEL", str(model_folder("5b"))))

    def command(folder):
        return [sys.executable, "-m", "cogvx", "eval", "run", "s.toml", "-o", folder]

    settings = {"cwd": tmp_path, "env": os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}}
    killed = subprocess.Popen(command("killed"), stderr=subprocess.PIPE, stdout=subprocess.PIPE, **settings)
    clips = tmp_path / "killed/clips/toy/prompts"
    end = time.monotonic() + 300
    while not list(clips.glob("*.mkv")):
        assert killed.poll() is None and time.monotonic() < end, killed.communicate()
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert 0 < len(list(clips.glob("*.mkv"))) < 6
    # Its step ends with it, so the same command need not be told to wait.
    again = subprocess.run(command("killed"), capture_output=True, text=True, **settings)
    assert again.returncode == 0, again.stderr
    whole = subprocess.run(command("whole"), capture_output=True, text=True, **settings)
    assert whole.returncode == 0, whole.stderr
    results = [read_result(tmp_path / f"{name}/results/toy/dynamics.json") for name in ("killed", "whole")]
    assert results[0].n == 6 and results[0].value == results[1].value
    assert [row["value"] for row in results[0].per_video] == [row["value"] for row in results[1].per_video]
    begun = [line["step"] for line in lines_of(tmp_path / "killed/run.jsonl") if line["event"] == "begin"]
    assert begun == ["manifest toy prompts", "clips toy prompts", "clips toy prompts", "dynamics toy"]
    assert not list((tmp_path / "killed").rglob(".cogvx-tmp-*"))
    log = (tmp_path / "killed/logs/clips-toy-prompts.log").read_text()
    assert log.count("$ cogvx sample") == 2 and "exists and is kept" in log


@pytest.mark.parametrize("suite,missing", [("tiny", None), ("paper", "zai-org/CogVideoX-2b")])
def test_ready_suites(cogvx, monkeypatch, tmp_path, suite, missing):
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.chdir(ROOT)
    result = cogvx("eval", "run", f"fixtures/suites/{suite}.toml", "-o", tmp_path / "out", "--dry-run", "--json")
    steps = [json.loads(line) for line in result.stdout.splitlines() if '"step"' in line]
    assert [step["kind"] for step in steps].count("report") == 1 and steps[-1]["step"] == "report"
    assert all(step["command"][0] == "cogvx" for step in steps)
    if missing is None:
        assert result.exit_code == 0, result.stderr
        assert {"storyboard tiny", "clip tiny", "fvd tiny", "reconstruction tiny", "dynamics tiny", "vbench tiny"} < {
            step["step"] for step in steps
        }
    else:
        assert result.exit_code in (3, 4)
        assert missing in result.stderr and "mtscore 5b is left out: no key" in result.stderr
        assert "VBench_full_info.json: no such file" in result.stderr
    assert not (tmp_path / "out").exists()


def test_rows_of_prompts_are_written(cogvx, tmp_path):
    (tmp_path / "p.txt").write_text("a cat\na dog\n")
    result = cogvx("eval", "prompts", "p.txt", "-o", "clips/manifest.jsonl", "--seed", 3)
    assert (result.exit_code, result.stdout) == (0, "clips/manifest.jsonl\n")
    assert [row["seed"] for row in lines_of(tmp_path / "clips/manifest.jsonl")] == [3, 103]
    assert cogvx("eval", "prompts", "p.txt", "-o", "clips/manifest.jsonl").exit_code == 2
    assert cogvx("eval", "prompts", "p.txt", "--suffix", ".exe").exit_code == 2
