"""`cogvx train`: from a recipe to a plan, a run, a resume, curves."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cogvx.commands import _train
from cogvx.training.recipe_toml import read_recipe
from cogvx.training.task import Loss

RECIPE = """
kind = "{kind}"
[model]
base = "tiny"
[data]
train = "clips.jsonl"
fps = 8
[optim]
lr = 1e-2
warmup = 2
ema = 0.5
[run]
dtype = "fp32"
log_every = 2
save_every = 4
validate_every = 4
[[stages]]
steps = 8
sizes = [[64, 96]]
max_frames = 17
packs = 2
batch_size = 2
"""


class ToyTask:
    """A line through points: two micro batches a step, split over the ranks."""

    def __init__(self, recipe, folder, *, world, announce):
        self.world, self.recipe = world, recipe
        generator = torch.Generator().manual_seed(recipe.seed)
        self.parts = nn.ModuleDict({"net": nn.Linear(3, 1)})
        for weight in self.parts.parameters():
            weight.data.normal_(generator=generator)
        announce("opened")

    def optimizers(self):
        return [torch.optim.AdamW(self.parts.parameters(), lr=self.recipe.optim.lr)]

    def num_micro_batches(self, step):
        return 2 // self.world.data_size

    def loss(self, step, micro):
        place = self.world.data_rank * self.num_micro_batches(step) + micro
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(100 * step + place))
        value = (self.parts["net"](x) - x.sum(1, keepdim=True)).square().mean() / 2
        return Loss(value=value, tokens=40, clips=4)

    def validate(self):
        return {"val_loss": float(self.parts["net"].weight.detach().sub(1).square().mean()), "val_loss_100": 0.5}

    def preview(self, folder):
        pass

    def export(self, folder):
        save_file(
            {key: value.contiguous() for key, value in self.parts.state_dict().items()}, folder / "net.safetensors"
        )


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(_train, "open_task", ToyTask)
    path = tmp_path / "toy.toml"
    path.write_text(RECIPE.format(kind="dit"))
    return path


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_from_a_recipe_to_its_result(cogvx, recipe, tmp_path):
    result = cogvx("train", "dit", recipe, "-o", "run", "--set", "optim.lr=0.02", "--set", "stages.0.steps=6")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "run/model\n"
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} >= {"recipe.toml", "metrics.jsonl", "checkpoint-000006", "model"}
    assert (run / "model" / "net.safetensors").exists()
    resolved = read_recipe(run)
    assert resolved.optim.lr == 0.02 and resolved.num_steps == 6 and resolved.data.train == ("clips.jsonl",)
    assert [record["step"] for record in records(run) if "loss" in record] == [2, 4, 6]
    lines = result.stderr.splitlines()
    assert all(line.startswith("cogvx: ") for line in lines) and any("6/6 loss" in line for line in lines)


def test_json_has_the_last_numbers(cogvx, recipe, tmp_path):
    result = cogvx("train", "dit", recipe, "other.jsonl", "--json", "-q")
    assert result.exit_code == 0 and result.stderr == ""
    record = json.loads(result.stdout)
    last = [line for line in records(tmp_path / "runs" / "toy") if "loss" in line][-1]
    assert (record["output"], record["run"], record["steps"]) == ("runs/toy/model", "runs/toy", 8)
    assert record["loss"] == last["loss"] and record["val_loss_100"] == 0.5 and record["seconds"] >= 0
    assert read_recipe(tmp_path / "runs" / "toy").data.train == ("other.jsonl",)


def test_a_run_goes_on_exactly(cogvx, recipe, tmp_path):
    assert cogvx("train", "dit", recipe, "-o", "whole", "-q").exit_code == 0
    assert cogvx("train", "dit", recipe, "-o", "run", "-q").exit_code == 0
    again = cogvx("train", "dit", recipe, "-o", "run", "-q")
    assert again.exit_code == 2 and "--resume latest" in again.stderr
    back = cogvx("train", "dit", "run", "--resume", "run/checkpoint-000004", "-q")
    assert back.exit_code == 0, back.stderr
    assert back.stdout == "run/model\n"
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    same = [(tmp_path / name / "model" / "net.safetensors").read_bytes() for name in ("run", "whole")]
    assert same[0] == same[1]
    assert cogvx("train", "dit", "run", "--resume", "latest", "-q").exit_code == 0


def test_what_differs_is_refused_unless_allowed(cogvx, recipe):
    assert cogvx("train", "dit", recipe, "-o", "run", "-q").exit_code == 0
    command = ["train", "dit", "run", "--set", "stages.0.steps=12", "--resume", "latest", "-q"]
    refused = cogvx(*command)
    assert refused.exit_code == 2 and "stages" in refused.stderr
    for flag in ("--allow-changes", "--resume-allow-changes"):
        assert cogvx(*command, flag).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.toml"], 3, "cannot read the recipe none.toml"),
        (["toy.toml", "--set", "optim.rl=1"], 2, "did you mean optim.lr"),
        (["toy.toml", "--resume", "latest"], 2, "checkpoint"),
        (["toy.toml", "--resume", "run/checkpoint-000009"], 2, "no checkpoint run/checkpoint-000009"),
        (["toy.toml", "--set", "data.train=[]"], 2, "nothing to train on"),
        (["toy.toml", "--set", "stages.0.packs=0"], 2, "stages.0.packs must be at least 1"),
        (["toy.toml", "--set", "run.context=2"], 2, "cannot form groups of"),
        (["toy.toml", "--devices", "2"], 2, "--dry-run"),
        (["toy.toml", "--allow-changes"], 2, "--resume"),
        (["toy.toml", "-o", "toy.toml"], 2, "is a file"),
        (["toy.toml", "--device", "tpu"], 2, "--device tpu"),
        (["toy.toml", "--set", "model.base=nothing"], 2, "no such model: nothing"),
        (["toy.toml", "--set", "model.transformer.num_layers=0"], 2, "num_layers cannot be 0"),
    ],
)
def test_what_is_wrong_is_one_line(cogvx, recipe, tmp_path, arguments, code, words):
    result = cogvx("train", "dit", *arguments)
    assert result.stdout == "" and words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and "Traceback" not in result.stderr
    assert result.exit_code == code and not (tmp_path / "runs").exists()


def test_a_recipe_of_another_kind_names_the_right_command(cogvx, recipe):
    result = cogvx("train", "vae", recipe)
    assert result.exit_code == 2 and "run `cogvx train dit" in result.stderr


@pytest.mark.parametrize("kind", ["vae", "dit", "i2v", "lora"])
def test_dry_run_prints_the_plan_and_writes_nothing(cogvx, recipe, tmp_path, kind):
    recipe.write_text(RECIPE.format(kind=kind))
    result = cogvx("train", kind, recipe, "--dry-run")
    assert result.exit_code == 0, result.stderr
    for word in ("network", "trained", "96x64x17", "memory of a device", "peak", "steps: 8", "disk: "):
        assert word in result.stdout
    record = json.loads(cogvx("train", kind, recipe, "--dry-run", "--json").stdout)
    assert record["dry_run"] and record["kind"] == kind and record["num_steps"] == 8
    assert record["peak_bytes"] > record["weight_bytes"] > 0 and record["trained"] <= sum(record["parameters"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["toy.toml"]


def test_dry_run_of_a_model_and_a_device_that_are_not_here(cogvx, recipe):
    changes = ["--set", "model.base=5b", "--set", "stages.0.sizes=[[480, 720]]", "--set", "run.dtype=bf16"]
    result = cogvx("train", "dit", recipe, *changes, "--dry-run", "--device", "cuda", "--devices", 2, "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["parameters"]["transformer"] == 5_570_283_072 and record["num_devices"] == 2


def test_a_disk_that_is_too_small_is_told_first(cogvx, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("cogvx.files.free_bytes", lambda path: 1000)
    result = cogvx("train", "dit", recipe)
    assert result.exit_code == 4 and "are free" in result.stderr and not (tmp_path / "runs").exists()


def test_a_memory_that_may_be_too_small_is_told(cogvx, recipe, monkeypatch):
    monkeypatch.setattr(_train, "_free_memory", lambda device: 1_000_000)
    result = cogvx("train", "dit", recipe, "-q")
    assert result.exit_code == 0 and "with run.activation_checkpointing=true" in result.stderr


def test_curves_of_a_run_and_of_runs(cogvx, recipe, tmp_path):
    pytest.importorskip("matplotlib")
    result = cogvx("train", "dit", recipe, "-o", "run", "--plot", "--json", "-q")
    assert json.loads(result.stdout)["plot"] == "run/curves.png" and (tmp_path / "run" / "curves.png").exists()
    assert cogvx("train", "plot", "run").stdout == "run/curves.png\n"
    assert cogvx("train", "plot", "run", "run", "-o", "both.png").stdout == "both.png\n"
    kept = cogvx("train", "plot", "run", "-o", "both.png")
    assert kept.exit_code == 2 and "--overwrite" in kept.stderr
    assert cogvx("train", "plot", "run", "-o", "both.png", "--overwrite").exit_code == 0
    assert cogvx("train", "plot", "elsewhere").exit_code == 3


def test_plot_without_matplotlib_is_told_first(cogvx, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(_train.importlib.util, "find_spec", lambda name: None)
    result = cogvx("train", "dit", recipe, "--plot")
    assert result.exit_code == 4 and "cogvx[plot]" in result.stderr and not (tmp_path / "runs").exists()


def test_the_recipe_may_come_from_stdin(cogvx, recipe, tmp_path):
    result = cogvx("train", "dit", "-", "-o", "run", "-q", input=recipe.read_text())
    assert result.exit_code == 0 and read_recipe(tmp_path / "run") == replace(read_recipe(recipe))


def test_help_imports_no_torch():
    code = "import sys; from cogvx.commands import app; app(sys.argv[1:], standalone_mode=False); "
    code += "sys.exit('torch' in sys.modules)"
    for arguments in (["train", "--help"], ["train", "dit", "--help"], ["train", "plot", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0 and "Examples:" in done.stdout, done.stderr


RANKS = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from test_train import ToyTask
from cogvx.commands import _train, main
_train.open_task = ToyTask
main()
"""


@pytest.mark.slow
def test_two_ranks_print_once(recipe, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    command += [os.path.dirname(__file__), "train", "dit", str(recipe), "-o", "two", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["output"] for line in done.stdout.splitlines()] == ["two/model"]
    assert done.stderr.count("8/8 loss") == 1
