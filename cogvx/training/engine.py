"""The training loop: it knows a task's losses and a recipe's numbers, and nothing about what is trained."""

import json
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import cogvx
from cogvx.distributed import World, all_sum, wait_for_all
from cogvx.errors import UsageError
from cogvx.files import atomic_path
from cogvx.training.checkpoint import State, choose, differences, read_note, save
from cogvx.training.optim import EMA, local_slice, lr_factor
from cogvx.training.parallel import Parallel, blocks_of
from cogvx.training.recipe import Recipe
from cogvx.training.report import Report
from cogvx.training.run_folder import Metrics, checkpoint_path, checkpoints, lock, on_first_rank, prune, set_aside
from cogvx.training.signals import SIGNALS, Stop, stop_between_steps
from cogvx.training.task import Task

# What a run may change when it goes on: where things lie, and what is shown when.
_FREE = (
    "data.train",
    "data.validation",
    "data.root",
    "data.cache",
    "data.workers",
    "run.log_every",
    "run.save_every",
    "run.keep",
    "run.validate_every",
    "run.preview_every",
    "run.tensorboard",
    "run.wandb",
    "validation.",
    "preview.",
)
# Fields that older checkpoints do not know; left out while they say what those did, so that they go on exactly.
_LATER = {"where": "", "rejected": False}


def train(
    task: Task,
    recipe: Recipe,
    folder: Path,
    *,
    world: World,
    resume: str | None = None,
    report: Report | None = None,
    allow_changes: bool = False,
) -> None:
    """Train to the end of the recipe, and write the result to `model/` of the run folder.

    A run that was killed at any moment and goes on ends with the same bits as one that was not, on the same devices,
    versions and number of threads. Every rank calls this; they share the folder.

    Args:
        task: What is trained.
        recipe: How.
        folder: The run folder, made if it is missing.
        world: The ranks.
        resume: None: start anew, in a folder without checkpoints; "latest" or a checkpoint's path: go on from there.
        report: Shows the run; used on rank 0 only.
        allow_changes: Go on although the result will not be that of one run from the start.

    Raises:
        UsageError: The folder is in use, has checkpoints although the run starts anew, or has none to go on from; the
            run differs from the one it would go on from; the loss or a gradient stopped being a number.
        InputError: A checkpoint is damaged, or of another model.
        MissingError: The disk is full; the last checkpoint is whole.
    """
    with ExitStack() as stack:
        stack.enter_context(lock(folder, world))
        if report is not None and world.rank == 0:
            stack.callback(report.close)
        run = _Run(task, recipe, folder, world, report if world.rank == 0 else None)
        run.begin(resume, allow_changes=allow_changes)
        stack.callback(run.close)
        with stop_between_steps() as stop:
            run.train(stop)
        run.finish()


def arithmetic_dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    """Return the type that networks compute in: that of the recipe, or bf16 on CUDA and fp32 elsewhere."""
    name = recipe.run.dtype
    if name == "auto":
        name = "bf16" if device.type == "cuda" else "fp32"
    return torch.bfloat16 if name == "bf16" else torch.float32


def fingerprint(task: Task, recipe: Recipe, world: World) -> dict[str, Any]:
    """Return everything that decides the bits of a run: recipe, data, ranks, device and versions."""
    tables = json.loads(json.dumps(asdict(recipe)))
    for table in (tables["data"], *tables["stages"]):
        for name, default in _LATER.items():
            if table.get(name) == default:
                del table[name]
    entries = _flat(tables, "")
    found = {name: value for name, value in entries.items() if not name.startswith(_FREE)}
    return found | {
        **{f"task.{name}": value for name, value in getattr(task, "identity", {}).items()},
        "dtype": str(arithmetic_dtype(recipe, world.device)).removeprefix("torch."),
        "ranks": world.size,
        "device": torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else world.device.type,
        "threads": torch.get_num_threads() if world.device.type == "cpu" else 0,
        "torch": torch.__version__,
    }


class _Run:
    """One run from its first step to its result."""

    def __init__(self, task: Task, recipe: Recipe, folder: Path, world: World, report: Report | None) -> None:
        self.task, self.recipe, self.folder, self.world, self.report = task, recipe, folder, world, report
        self.step = 0
        self.validated = False  # whether the validation and the previews that are due at this step are done
        self.sums: dict[str, float] = {}  # of the steps since the last line of metrics
        self.metrics: Metrics | None = None
        self.speed: Metrics | None = None
        self.logged_at = time.monotonic()
        task.parts.to(world.device)
        if recipe.run.compile:
            for block in blocks_of(task.parts):
                block.compile()
        self.parallel = Parallel(task.parts, world, shard=recipe.run.shard)
        self.weights = [weight for weight in task.parts.parameters() if weight.requires_grad]
        self.optimizers = task.optimizers()
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.ema = EMA(task.parts, recipe.optim.ema) if recipe.optim.ema else None
        self.state = State(task.parts, self.optimizers, self.ema)
        self.fingerprint = fingerprint(task, recipe, world)

    def begin(self, resume: str | None, *, allow_changes: bool) -> None:
        """Start anew, or put everything as it was at a checkpoint."""
        size = 0
        if resume is None:
            if on_first_rank(self.world, lambda: len(checkpoints(self.folder))):
                raise UsageError(f"{self.folder} has checkpoints; pass --resume latest, or take another folder")
        else:
            size = self._restore(choose(self.folder, resume, world=self.world, tell=self._tell), allow_changes)
        if self.world.rank == 0:
            self.metrics = Metrics(self.folder / "metrics.jsonl", size=size, step=self.step)
            speed = self.folder / "speed.jsonl"
            self.speed = Metrics(speed, size=speed.stat().st_size if size and speed.exists() else 0, step=self.step)
        if self.report is not None:
            self.report.begin(self.step)

    def train(self, stop: Stop) -> None:
        """Take the steps that are left."""
        self._validate()
        saved = self.step
        while self.step < self.recipe.num_steps:
            stopped = self._take_step(stop, saved)
            self.step += 1
            last = self.step == self.recipe.num_steps
            if self.report is not None:
                self.report.step(self.step)
            if self.step % self.recipe.run.log_every == 0 or last:
                self._log()
            self.validated = False
            if stopped is None:
                self._validate()
            if self.step % self.recipe.run.save_every == 0 or last or stopped is not None:
                self._save()
                saved = self.step
            if stopped is not None:
                self._tell(f"stopped after step {self.step}; --resume latest goes on")
                self.close()
                stop.again(stopped)

    def finish(self) -> None:
        """Write the result."""
        target = self.folder / "model"

        def export() -> None:
            with atomic_path(target) as path:
                path.mkdir()
                self.task.export(path)

        with self._mean_weights(), self.parallel.whole():
            on_first_rank(self.world, export)
        self._tell(f"the model is in {target}")

    def close(self) -> None:
        """Close the logs; may be called again."""
        for log in (self.metrics, self.speed):
            if log is not None:
                log.close()
        self.metrics = self.speed = None

    def _restore(self, path: Path, allow_changes: bool) -> int:
        """Put everything as it was at a checkpoint; return the bytes of the metrics then."""
        note = read_note(path)
        changes = differences(note["fingerprint"], self.fingerprint)
        for name in getattr(self.task, "fixed", ()):
            now = self.fingerprint[f"task.{name}"]
            if note["fingerprint"].get(f"task.{name}", now) != now:
                raise UsageError(f"cannot go on from {path}: its weights were trained with other {name}; start anew")
        if changes and not allow_changes:
            raise UsageError(
                f"cannot go on exactly from {path}: {'; '.join(changes)}. --resume-allow-changes goes on anyway; the "
                "result is then not that of one run"
            )
        for change in changes:
            self._tell(f"changed since {path.name}: {change}")
        self.state.restore(path, note["numbers"], world=self.world)
        if self.ema is not None:
            self.ema.num_updates = note["ema_updates"]
        self.step, self.validated, self.sums = note["step"], note["validated"], note["sums"]
        on_first_rank(self.world, lambda: self._set_later_ones_aside(path))
        return note["metrics_bytes"]

    def _set_later_ones_aside(self, path: Path) -> None:
        """Keep what came after the chosen checkpoint from being taken for this run's."""
        for step, other in checkpoints(self.folder).items():
            if step > self.step or (step == self.step and other.resolve() != path.resolve()):
                self._tell(f"{other.name} is now {set_aside(other).name}: this run goes on from {path}")

    def _take_step(self, stop: Stop, saved: int) -> int | None:
        """Take one step; return the signal that asks any rank to stop after it."""
        self._set_rates()
        totals = self._backward(stop)
        self.parallel.sum_gradients(self.weights)
        norm = float(self.parallel.gradient_norm(self.weights))
        if not math.isfinite(totals["loss"]) or not math.isfinite(norm):
            self._give_up(totals["loss"], norm, saved)
        clip = self.recipe.optim.clip
        if clip and norm > clip:
            torch._foreach_mul_([local_slice(w.grad) for w in self.weights if w.grad is not None], clip / norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.task.parts)
        signals = [totals.pop(f"signal.{number}") for number in SIGNALS]
        for name, value in {**totals, "grad_norm": norm, "steps": 1.0}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        return next((int(number) for number, count in zip(SIGNALS, signals, strict=True) if count), None)

    def _backward(self, stop: Stop) -> dict[str, float]:
        """Leave this rank's gradients in the weights; return numbers of the step summed over all ranks."""
        device = self.world.device
        loss = torch.zeros((), dtype=torch.float64, device=device)
        sums: dict[str, float] = {}
        tokens = clips = 0
        for micro in range(self.task.num_micro_batches(self.step)):
            with self._autocast():
                found = self.parallel.loss(lambda micro=micro: self.task.loss(self.step, micro))  # type: ignore[misc]
            torch.autograd.backward(found.value)
            loss += found.value.detach()
            for name, value in found.metrics.items():
                sums[name] = sums.get(name, 0.0) + value
            tokens, clips = tokens + found.tokens, clips + found.clips
        names = sorted(sums)
        # The ranks of a context group share their clips; each clip counts once.
        counts = [tokens / self.world.context_size, clips / self.world.context_size, *stop.caught()]
        numbers = torch.tensor([*(sums[name] for name in names), *counts], dtype=torch.float64, device=device)
        total = all_sum(torch.cat([numbers, loss[None]]), world=self.world).tolist()
        # The loop's own come last: a task's metric of the same name must not take their place.
        keys = [*names, "tokens", "clips", *(f"signal.{number}" for number in SIGNALS), "loss"]
        return dict(zip(keys, total, strict=True))

    def _rate(self, step: int) -> float:
        """Return the learning rate of a step, of a group that has the recipe's own."""
        optim = self.recipe.optim
        stage = self.recipe.stages[self.recipe.stage_at(step)[0]]
        factor = lr_factor(step, self.recipe.num_steps, warmup=optim.warmup, decay=optim.decay)
        return (stage.lr or optim.lr) * factor

    def _set_rates(self) -> None:
        """Set this step's learning rates; groups with another rate than the recipe's keep the ratio."""
        share = self._rate(self.step) / self.recipe.optim.lr
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share

    def _give_up(self, loss: float, norm: float, saved: int) -> None:
        """Stop with the last good state on the disk: the weights have not moved in this step."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        if self.step and saved != self.step:
            self._save()
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
        kept = f"the state before it is in {checkpoint_path(self.folder, self.step)}; " if self.step else ""
        raise UsageError(
            f"{what} in step {self.step + 1}, so training stops; {kept}look at the clips of that step, or try a lower "
            "optim.lr, more optim.warmup or run.dtype=fp32"
        )

    def _log(self) -> None:
        """Write the means of the steps since the last line, and how long they took."""
        steps = self.sums.pop("steps", 0.0)
        totals: dict[str, float] = {name: self.sums.pop(name) for name in ("tokens", "clips") if name in self.sums}
        means = {name: total / steps for name, total in self.sums.items()}
        self.sums = {}
        record: dict[str, Any] = {"step": self.step}
        if len(self.recipe.stages) > 1:
            record["stage"] = self.recipe.stage_at(self.step - 1)[0]
        record |= {"loss": means.pop("loss"), "lr": self._rate(self.step - 1), **means}
        record |= {name: round(total) for name, total in totals.items()}
        self._write(record)
        now = time.monotonic()
        speed: dict[str, float] = {
            "step": self.step,
            "steps": round(steps),
            "seconds": round(now - self.logged_at, 3),
            **totals,
        }
        if self.world.device.type == "cuda":
            speed["peak_bytes"] = torch.cuda.max_memory_allocated(self.world.device)
        self.logged_at = now
        if self.speed is not None:
            self.speed.write(speed)

    def _validate(self) -> None:
        """Validate and make previews where they are due at this step, and have not been made."""
        if self.validated:
            return
        run, last = self.recipe.run, self.step == self.recipe.num_steps
        if run.validate_every and (self.step % run.validate_every == 0 or last):
            with self._autocast():
                numbers = self.parallel.call(self.task.validate)
                if self.ema is not None and self.step:
                    with self._mean_weights():
                        found = self.parallel.call(self.task.validate)
                    numbers |= {f"ema_{name}": value for name, value in found.items()}
            if numbers:
                self._write({"step": self.step, **numbers})
        if run.preview_every and self.step and (self.step % run.preview_every == 0 or last):
            samples = self.folder / "samples" / f"step-{self.step:06d}"
            on_first_rank(self.world, lambda: samples.mkdir(parents=True, exist_ok=True))
            with self._mean_weights(), self._autocast():
                self.parallel.call(lambda: self.task.preview(samples))
        wait_for_all(self.world)
        self.logged_at = time.monotonic()
        self.validated = True

    def _save(self) -> None:
        """Write a checkpoint, then remove old ones."""
        if self.metrics is not None:
            self.metrics.flush()
        note = {
            "fingerprint": self.fingerprint,
            "ema_updates": self.ema.num_updates if self.ema is not None else 0,
            "validated": self.validated,
            "sums": self.sums,
            "metrics_bytes": self.metrics.size if self.metrics is not None else 0,
            "version": cogvx.__version__,
        }
        started = time.monotonic()
        path = save(self.folder, self.step, self.state, note, world=self.world)
        on_first_rank(self.world, lambda: prune(self.folder, keep=self.recipe.run.keep))
        self._tell(f"wrote {path}")
        self.logged_at += time.monotonic() - started  # not part of the speed of training

    def _write(self, record: Mapping[str, Any]) -> None:
        if self.metrics is not None:
            self.metrics.write(record)
        if self.report is not None:
            self.report.log(record)

    def _tell(self, text: str) -> None:
        if self.report is not None:
            self.report.note(text)

    def _mean_weights(self) -> AbstractContextManager[None]:
        return self.ema.in_place(self.task.parts) if self.ema is not None else nullcontext()

    def _autocast(self) -> torch.autocast:
        dtype = arithmetic_dtype(self.recipe, self.world.device)
        return torch.autocast(self.world.device.type, dtype=dtype, enabled=dtype != torch.float32)


def _flat(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return nested tables as one, with dotted names."""
    found: dict[str, Any] = {}
    for name, value in entries.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
