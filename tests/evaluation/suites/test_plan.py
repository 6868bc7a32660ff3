"""Suites: what does not go together is refused with its place, and the plan is the commands that one would type."""

from pathlib import Path

import pytest

from cogvx.errors import UsageError
from cogvx.evaluation.suites import Suite, check_suite, make_plan
from cogvx.evaluation.suites.plan import flag_arguments
from cogvx.training.options_toml import dump_options, parse_placed

WHOLE = """
title = "a test"
[[prompts]]
name = "world"
source = "storyboard"
limit = 4
seed = 3
[[prompts]]
name = "wild"
file = "wild.txt"
reference = "real"
videos = 2
suffix = ".mkv"
[[systems]]
name = "ours"
model = "tiny"
flags = { steps = 5, lora = ["a.safetensors:0.5", "b.safetensors"], upsample = false }
[[systems]]
name = "theirs"
clips = { wild = "their clips" }
[[metrics]]
name = "storyboard"
prompts = "world"
[[metrics]]
name = "vbench"
prompts = "wild"
[[metrics]]
name = "dynamics"
prompts = "wild"
flags = { quality = ["subject_consistency={vbench}"] }
[[metrics]]
name = "fvd"
prompts = "wild"
label = "fvd-small"
systems = ["theirs"]
[[metrics]]
name = "reconstruction"
prompts = "world"
[[metrics]]
name = "vbench-total"
of = ["vbench"]
"""


def read(text, *changes):
    suite, place = parse_placed(Suite, text, name="s.toml", changes=changes)
    check_suite(suite, place)
    return suite


def commands(text, *changes):
    return {step.name: step.command for step in make_plan(read(text, *changes), Path("out")).steps}


def test_a_whole_plan():
    found = commands(WHOLE)
    assert list(found) == [
        *("reference world", "manifest ours world", "clips ours world", "manifest ours wild", "clips ours wild"),
        *("storyboard ours", "vbench ours", "vbench theirs", "dynamics ours", "dynamics theirs", "fvd-small theirs"),
        *("reconstruction ours", "vbench-total ours", "vbench-total theirs", "report"),
    ]
    assert found["reference world"] == "cogvx data synth --split test --seed 3 --count 4 -o out/reference/world"
    assert found["manifest ours wild"] == (
        "cogvx eval prompts wild.txt --videos 2 --suffix .mkv -o out/clips/ours/wild/manifest.jsonl"
    )
    assert found["clips ours wild"] == (
        "cogvx sample --prompts out/clips/ours/wild/manifest.jsonl -m tiny --steps 5 --lora a.safetensors:0.5 "
        "--lora b.safetensors --no-upsample -o out/clips/ours/wild/"
    )
    assert found["dynamics theirs"] == (
        "cogvx eval dynamics 'their clips' --quality subject_consistency=out/results/theirs/vbench.json "
        "-o out/results/theirs/dynamics.json"
    )
    assert found["fvd-small theirs"] == "cogvx eval fvd real 'their clips' -o out/results/theirs/fvd-small.json"
    assert found["reconstruction ours"].startswith(
        "cogvx eval reconstruction out/reference/world/manifest.jsonl -m tiny "
    )
    assert found["vbench-total ours"].startswith("cogvx eval vbench total out/results/ours/vbench.json -o ")
    assert found["report"].count("out/results/") == 9
    assert "--clips=ours=out/clips/ours/wild '--clips=theirs=their clips' --no-rank --title 'a test'" in found["report"]
    assert found["report"].endswith("-o out/report")


def test_steps_know_what_they_need():
    steps = {step.name: step for step in make_plan(read(WHOLE), Path("out")).steps}
    assert steps["clips ours world"].needs == ("manifest ours world",)
    assert steps["manifest ours world"].needs == ("reference world",)
    assert steps["dynamics ours"].needs == ("clips ours wild", "vbench ours")
    assert set(steps["dynamics theirs"].needs) == {"vbench theirs"}
    assert steps["reconstruction ours"].needs == ("reference world",)
    assert "their clips" in steps["fvd-small theirs"].reads and "real" in steps["fvd-small theirs"].reads


def test_what_is_left_out_takes_along_what_needs_it():
    plan = make_plan(read(WHOLE), Path("out")).without({"vbench ours": "no network"})
    names = [step.name for step in plan.steps]
    assert not {"vbench ours", "dynamics ours", "vbench-total ours"} & set(names)
    assert "vbench theirs" in names and "results/ours/storyboard.json" in plan.steps[-1].command
    assert "results/ours/vbench.json" not in plan.steps[-1].command


def test_the_resolved_suite_is_the_same_suite():
    suite = read(WHOLE, "systems.0.flags.steps=7")
    assert suite.systems[0].flags["steps"] == 7
    assert read(dump_options(suite)) == suite


def test_values_never_become_flags():
    assert flag_arguments({"negative_prompt": "--help", "a": True, "b": False, "c": [1, 2.5]}) == (
        ["--negative-prompt=--help", "--a", "--no-b", "--c", "1", "--c", "2.5"]
    )


@pytest.mark.parametrize(
    "change,words",
    [
        ('metrics.0.lable="x"', "unknown key metrics.0.lable; did you mean metrics.0.label?"),
        ('metrics.0.name="storybord"', "did you mean storyboard?"),
        ('metrics.0.prompts="wrld"', "no prompts called wrld; did you mean world"),
        ('metrics.0.prompts=""', "say which prompts: world, wild"),
        ('metrics.3.systems=["their"]', "no system called their; did you mean theirs?"),
        ('metrics.5.of=["vbnch"]', "no metric above it is called vbnch; did you mean vbench?"),
        ('metrics.2.flags.quality="a={nothing}"', "no metric above it is called nothing"),
        ('metrics.1.name="storyboard"', "there are two called storyboard; give it a label"),
        ('metrics.0.flags.output="x"', "metrics.0.flags.output: is decided by the suite"),
        ('systems.1.name="../up"', "cannot name a folder"),
        ("systems.1.clips={}", "name a model, or clips"),
        ("systems.1.flags.steps=3", "which needs a model"),
        ('prompts.1.suffix=".exe"', "expected .mp4"),
        ('prompts.1.file=""', "needs the file"),
        ("prompts.0.videos=0", "must be at least 1"),
        ("systems.0.flags.lora={a=1}", "expected true, false, a number"),
    ],
)
def test_what_does_not_go_together_is_refused(change, words):
    with pytest.raises(UsageError) as error:
        read(WHOLE, change)
    assert words in str(error.value)
    assert f"--set {change}" in str(error.value) or "s.toml" in str(error.value)


def test_errors_name_the_line():
    with pytest.raises(UsageError, match=r"s\.toml:\d+: metrics\.4\.prompts: there are no prompts called x"):
        read(WHOLE.replace('name = "reconstruction"\nprompts = "world"', 'name = "reconstruction"\nprompts = "x"'))
