"""The command line before any work: help, version, names of commands and flags."""

import os
import resource
import subprocess
import sys

import pytest

from cogvx import __version__
from cogvx.commands import COMMANDS

HEAVY = ("torch", "transformers", "numpy", "av", "PIL", "huggingface_hub", "rich")


def test_help_imports_nothing_heavy_and_is_quick(tmp_path):
    code = f"""
import sys
sys.argv = ["cogvx", "--help"]
from cogvx.commands import main
try:
    main()
except SystemExit as leave:
    assert leave.code == 0
heavy = [name for name in {HEAVY} if name in sys.modules]
assert not heavy, heavy
"""
    # As installed, with compiled modules; the processor's time, since other work may wait for it too.
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    seconds = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < 0.3
    assert all(name in done.stdout for name in COMMANDS)


def test_no_arguments_and_help_show_help(cogvx):
    for arguments in ([], ["help"], ["-h"], ["--help"]):
        result = cogvx(*arguments)
        assert result.exit_code == 0
        assert "cogvx sample" in result.stdout and result.stderr == ""


def test_version(cogvx):
    result = cogvx("--version")
    assert (result.exit_code, result.stdout.strip()) == (0, f"cogvx {__version__}")


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_help_has_an_example(cogvx, command, flag):
    result = cogvx(command, flag)
    assert result.exit_code == 0
    assert "Examples:" in result.stdout and f"\n    cogvx {command}" in result.stdout


@pytest.mark.parametrize("group", ["vae", "models"])
def test_group_without_subcommand_shows_its_help(cogvx, group):
    result = cogvx(group)
    assert result.exit_code == 0
    assert "Commands:" in result.stdout
    assert result.stderr == ""


def test_subcommands_have_examples(cogvx):
    for arguments in (
        ["vae", "encode"],
        ["vae", "decode"],
        ["vae", "roundtrip"],
        ["models", "list"],
        ["models", "show"],
    ):
        assert "Examples:" in cogvx(*arguments, "--help").stdout


@pytest.mark.parametrize("later", ["--quantize", "--cache", "--compile"])
def test_options_of_later_are_not_there(cogvx, later):
    assert later not in cogvx("sample", "--help").stdout
    assert cogvx("sample", "x", later).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sampel"], "no such command: sampel; did you mean sample"),
        (["sample", "x", "--step", "3"], "did you mean --steps"),
        (["vae", "encod"], "did you mean"),
        (["sample", "x", "--frames", "many"], "--frames"),
        (["sample", "x", "--memory", "all"], "'auto', 'none', 'model', 'layer'"),
        (["sample", "x", "--dtype", "int3"], "expected auto, bf16, fp16 or fp32"),
        (["v2v"], "missing argument"),
        (["--frobnicate"], "no such option"),
    ],
)
def test_wrong_usage_is_one_line_and_two(cogvx, arguments, words):
    result = cogvx(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("cogvx: error: ")
    assert words.lower() in lines[0].lower()


def test_other_names_of_flags(cogvx, model_folder):
    long = ["--num_inference_steps", 5, "--guidance_scale", 2, "--num_frames", 9, "--output_path", "x.mp4"]
    long += ["--model_path", model_folder("5b"), "--dtype", "float32", "--dry_run", "--json"]
    short = [
        "--steps",
        5,
        "--guidance",
        2,
        "--frames",
        9,
        "-o",
        "x.mp4",
        "-m",
        model_folder("5b"),
        "--dry-run",
        "--json",
    ]
    one, two = (cogvx("sample", "a red star", *flags) for flags in (long, short))
    assert one.exit_code == two.exit_code == 0, one.stderr + two.stderr
    import json

    ours = ("num_steps", "guidance_scale", "num_frames", "output", "model")
    records = [json.loads(result.stdout) for result in (one, two)]
    assert [records[0][key] for key in ours] == [records[1][key] for key in ours] == [5, 2.0, 9, "x.mp4", "tiny-5b"]


def test_module_entry_point():
    done = subprocess.run([sys.executable, "-m", "cogvx", "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == f"cogvx {__version__}"
