"""Tasks small enough to be trained in a moment, and a report that remembers."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cogvx.training.engine import train
from cogvx.training.optim import make_optimizers
from cogvx.training.recipe import OptimOptions, Recipe, RunOptions, Stage
from cogvx.training.task import Loss

BATCH = 8


def toy_recipe(steps=12, *, optim=None, stages=None, seed=0, **run):
    run = {"log_every": 2, "save_every": 3, "validate_every": 4, **run}
    return Recipe(
        kind="dit",
        seed=seed,
        optim=OptimOptions(**{"lr": 1e-2, "warmup": 3, "ema": 0.9, **(optim or {})}),
        run=RunOptions(**run),
        stages=stages or (Stage(steps=steps),),
    )


class ToyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 10)
        self.blocks = nn.ModuleList([nn.Linear(10, 10), nn.Linear(10, 10)])
        self.last = nn.Linear(10, 3)
        self.register_buffer("count", torch.zeros(()))

    def inside(self, x):  # not forward: tasks may call any method of a part
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.last(x)


class ToyTask:
    """Regression of a fixed function; each step has BATCH examples, cut over ranks and micro batches."""

    def __init__(self, recipe, world, *, nan_at=None, before_loss=None):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            self.parts = nn.ModuleDict({"net": ToyNet()})
        self.recipe, self.world, self.nan_at = recipe, world, nan_at
        self.before_loss = before_loss or (lambda step: None)
        self.identity = {"data": "toy"}

    def optimizers(self):
        optim = self.recipe.optim
        return make_optimizers(
            self.parts["net"], lr=optim.lr, name=optim.name, betas=optim.betas, weight_decay=optim.weight_decay
        )

    def num_micro_batches(self, step):
        return self.recipe.run.accumulate

    def loss(self, step, micro):
        self.before_loss(step)
        generator = torch.Generator().manual_seed(self.recipe.seed * 1000 + step)
        x = torch.randn(BATCH, 6, generator=generator)
        pieces = x.chunk(self.world.data_size * self.recipe.run.accumulate)
        x = pieces[self.world.data_rank * self.recipe.run.accumulate + micro].to(self.world.device)
        net = self.parts["net"]
        net.count += 1
        errors = (net.inside(net.first(x)) - x[:, :3].sin()).square()
        if step == self.nan_at:
            errors = errors * float("nan")
        value = errors.sum() / (3 * BATCH * self.world.context_size)
        return Loss(value=value, metrics={"again": float(value.detach())}, tokens=6 * len(x), clips=len(x))

    def validate(self):
        x = torch.linspace(-1, 1, 24, device=self.world.device).reshape(4, 6)
        net = self.parts["net"]
        return {"held_out": float((net.inside(net.first(x)) - x[:, :3].sin()).square().mean())}

    def preview(self, folder):
        numbers = self.validate()
        if self.world.rank == 0:
            (folder / "numbers.json").write_text(json.dumps(numbers))

    def export(self, folder):
        save_file(dict(self.parts["net"].state_dict()), folder / "net.safetensors")


def tiny_transformer():
    from cogvx.models.transformer import ExpertTransformer, TransformerConfig

    config = TransformerConfig(
        num_layers=2,
        num_heads=2,
        head_dim=16,
        in_channels=4,
        out_channels=4,
        text_size=8,
        time_size=8,
        max_text_length=3,
        sample_height=4,
        sample_width=4,
        sample_frames=5,
        rotary=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return ExpertTransformer(config)


class TransformerTask(ToyTask):
    """A transformer of two layers that predicts random velocities."""

    def __init__(self, recipe, world, **options):
        super().__init__(recipe, world, **options)
        self.parts = nn.ModuleDict({"transformer": tiny_transformer()})

    def optimizers(self):
        return make_optimizers(self.parts["transformer"], lr=self.recipe.optim.lr, name=self.recipe.optim.name)

    def loss(self, step, micro):
        self.before_loss(step)
        generator = torch.Generator().manual_seed(step)
        latents, target = torch.randn(2, 4, 4, 2, 4, 4, generator=generator)
        text = torch.randn(4, 3, 8, generator=generator)
        timestep = torch.randint(1000, (4,), generator=generator)
        places = torch.arange(4).chunk(self.world.data_size * self.recipe.run.accumulate)
        place = places[self.world.data_rank * self.recipe.run.accumulate + micro]
        velocity = self.parts["transformer"](latents[place], text[place], timestep[place])
        return Loss(value=(velocity - target[place]).square().sum() / target.numel(), clips=len(place), tokens=1)

    def validate(self):
        return {}

    def export(self, folder):
        save_file(dict(self.parts["transformer"].state_dict()), folder / "transformer.safetensors")


TASKS = {"toy": ToyTask, "transformer": TransformerTask}


class Notes:
    """A report that keeps what it is told."""

    def __init__(self):
        self.begun, self.steps, self.records, self.notes, self.closed = [], [], [], [], 0

    def begin(self, step):
        self.begun.append(step)

    def step(self, step):
        self.steps.append(step)

    def log(self, record):
        self.records.append(dict(record))

    def note(self, text):
        self.notes.append(text)

    def close(self):
        self.closed += 1


def run(world, folder, recipe, *, task="toy", resume=None, allow_changes=False, **options):
    """Train a toy; return the report."""
    report = Notes()
    made = TASKS[task](recipe, world, **options)
    train(made, recipe, Path(folder), world=world, resume=resume, report=report, allow_changes=allow_changes)
    return report


def losses(folder):
    records = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def digest(folder):
    """sha256 of what a finished run leaves: every tensor, the metrics and the result."""
    folder = Path(folder)
    newest = max(path for path in folder.glob("checkpoint-*") if path.suffix == "")
    found = {"newest": newest.name, "metrics": hashlib.sha256((folder / "metrics.jsonl").read_bytes()).hexdigest()}
    for path in [*newest.glob("*.safetensors"), *folder.glob("model/*.safetensors")]:
        for name, tensor in load_file(path).items():
            found[f"{path.parent.name}:{name}"] = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
    return found
