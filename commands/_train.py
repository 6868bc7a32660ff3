"""From a recipe to a run: read it, plan it, train it, say where the result is."""

import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cogvx.errors import CogvxError, MissingError, UsageError

from ._console import Console, quiet_libraries

if TYPE_CHECKING:
    import torch

    from cogvx.distributed import World
    from cogvx.training.networks import Networks
    from cogvx.training.plan import Plan
    from cogvx.training.recipe import Kind, Recipe
    from cogvx.training.report import Work
    from cogvx.training.task import Task

    from .train import TrainFlags

CURVES = "curves.png"


def run_training(kind: "Kind", source: str, manifest: str | None, flags: "TrainFlags") -> None:
    """Train from a recipe, or with --dry-run print what it would need."""
    quiet_libraries()
    rank = int(os.environ.get("RANK", "0"))
    console = Console(quiet=flags.quiet or rank > 0, json=flags.json, silent_stdout=rank > 0)
    try:
        recipe = _read(kind, source, manifest, flags)
        networks, plan = _plan(recipe, flags)
        folder = _run_folder(source, flags)
        if flags.dry_run:
            if rank == 0:
                print_plan(console, recipe, networks, plan, flags, folder)
            return
        _check_before(recipe, flags, folder)
        _check_machine(console, recipe, plan, flags, folder)
    except CogvxError as error:
        if rank > 0:  # rank 0 says it
            raise typer.Exit(error.exit_code) from error
        raise
    _train(console, recipe, networks, flags, folder)


def plot_runs(runs: list[Path], output: Path | None, *, overwrite: bool, json: bool) -> None:
    """Draw the curves of runs and print the file's path."""
    from cogvx.training.plot import plot

    target = output or runs[0] / CURVES
    own = target.name == CURVES and any(target.resolve().parent == run.resolve() for run in runs)
    if target.exists() and not overwrite and not own:
        raise UsageError(f"{target} exists; pass --overwrite to replace it")
    plot(runs, target)
    Console(json=json).result(target, {"output": str(target), "runs": [str(run) for run in runs]})


def print_plan(
    console: Console, recipe: "Recipe", networks: "Networks", plan: "Plan", flags: "TrainFlags", folder: Path
) -> None:
    """Print what a run would need: tables, or with --json one object."""
    from cogvx.files import free_bytes
    from cogvx.training.report import duration

    device = _device(flags.device)
    free, disk = _free_memory(device), free_bytes(folder)
    seconds = _seconds(plan, device, bf16=_is_bf16(recipe, device)) if plan.num_devices == 1 else None
    if console.json:
        record = {"output": str(folder), "dry_run": True, **plan.to_dict(), "free_bytes": free, "free_disk_bytes": disk}
        console.result("", record | {"seconds": seconds})
        return
    rows = [[name, f"{count:,}"] for name, count in plan.parameters.items()]
    console.table([*rows, ["trained", f"{plan.trained:,}"]], header=["network", "parameters"])
    typer.echo()
    columns = ["stage", "steps", "largest clip", "clips/step", "tokens/step", "each device"]
    columns += ["activations", "checkpointed"]
    console.table([_stage_row(stage) for stage in plan.stages], header=columns)
    typer.echo()
    memory = {
        "weights": plan.weight_bytes,
        "gradients": plan.gradient_bytes,
        "optimizer": plan.optimizer_bytes,
        "running mean": plan.ema_bytes,
        "peak": plan.peak_bytes,
        "peak without checkpointing": plan.peak_without_checkpointing,
        "peak with checkpointing": plan.peak_with_checkpointing,
    }
    console.table([[name, _size(value)] for name, value in memory.items()], header=["memory of a device", ""])
    typer.echo()
    count = plan.num_devices
    where = f"{_size(free)} free here" if free is not None else "no such device here"
    typer.echo(f"devices: {count}, {plan.data_ranks} of them with clips of their own ({where})")
    typer.echo(f"steps: {plan.num_steps:,}, {sum(stage.flops * stage.steps for stage in plan.stages):.2e} operations")
    if seconds is not None:
        typer.echo(f"time: about {duration(seconds)} on this device")
    typer.echo(f"disk: {_size(plan.disk_bytes)}, {_size(plan.checkpoint_bytes)} a checkpoint ({_size(disk)} free)")


def _read(kind: "Kind", source: str, manifest: str | None, flags: "TrainFlags") -> "Recipe":
    from cogvx.training.recipe_toml import read_recipe

    recipe = read_recipe(source, changes=flags.changes or (), kind=kind)
    return recipe if manifest is None else replace(recipe, data=replace(recipe.data, train=(manifest,)))


def _run_folder(source: str, flags: "TrainFlags") -> Path:
    """Return the run folder: as told, that of the recipe or checkpoint that was named, or one named like the recipe."""
    if flags.output is not None:
        return flags.output
    if flags.resume is not None and flags.resume != "latest":
        return Path(flags.resume).parent
    path = Path(source)
    if path.is_dir():
        return path
    if path.name == "recipe.toml" and (path.parent / "metrics.jsonl").exists():
        return path.parent
    return Path("runs") / ("run" if source == "-" else path.stem)


def _plan(recipe: "Recipe", flags: "TrainFlags") -> "tuple[Networks, Plan]":
    from cogvx.training.costs import Machine
    from cogvx.training.networks import read_networks
    from cogvx.training.plan import make_plan

    if flags.devices is not None and not flags.dry_run:
        raise UsageError("--devices plans for other machines: add --dry-run, or start N processes with torchrun")
    device = _device(flags.device)
    networks = read_networks(recipe)
    # A plan alone may be of a recipe for many devices: the fewest that it can run on.
    fewest = recipe.run.context if flags.dry_run else 1
    count = flags.devices or max(int(os.environ.get("WORLD_SIZE", "1")), fewest)
    bf16, cuda = _is_bf16(recipe, device), device.type == "cuda"
    return networks, make_plan(recipe, networks, Machine(num_devices=count, bf16=bf16, cuda=cuda))


def _check_before(recipe: "Recipe", flags: "TrainFlags", folder: Path) -> None:
    """Refuse what would only show after a long time."""
    from cogvx.training.run_folder import checkpoints

    if not recipe.data.train:
        raise UsageError("there is nothing to train on: add a MANIFEST, or data.train to the recipe")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a run needs a folder")
    if flags.plot and importlib.util.find_spec("matplotlib") is None:
        raise MissingError("--plot needs the package matplotlib: pip install 'cogvx[plot]'")
    if flags.resume is None and flags.allow_changes:
        raise UsageError("--resume-allow-changes is of use with --resume only")
    found = checkpoints(folder)
    if flags.resume is None and found:
        raise UsageError(f"{folder} has checkpoints; pass --resume latest, or take another folder")
    if flags.resume == "latest" and not found:
        raise UsageError(f"{folder} has no checkpoint to go on from; start without --resume")
    if flags.resume not in (None, "latest") and not Path(str(flags.resume)).is_dir():
        raise UsageError(f"no checkpoint {flags.resume}; give a folder such as {folder}/checkpoint-000500, or latest")


def _check_machine(console: Console, recipe: "Recipe", plan: "Plan", flags: "TrainFlags", folder: Path) -> None:
    """Refuse a disk that is too small, and say so when the memory may be."""
    from cogvx.files import free_bytes

    free, disk = _free_memory(_device(flags.device)), free_bytes(folder)
    if flags.resume is None and plan.disk_bytes > disk:
        raise MissingError(
            f"the run needs about {_size(plan.disk_bytes)} at {folder}, {_size(disk)} are free; "
            "take another folder, or a smaller run.keep"
        )
    if free is not None and plan.peak_bytes > free:
        advice = ""
        if plan.peak_with_checkpointing < plan.peak_bytes and not recipe.run.activation_checkpointing:
            advice = f"; with run.activation_checkpointing=true: {_size(plan.peak_with_checkpointing)}"
        console.warn(f"the run may need {_size(plan.peak_bytes)} of memory, {_size(free)} are free{advice}")


def _train(console: Console, recipe: "Recipe", networks: "Networks", flags: "TrainFlags", folder: Path) -> None:
    from cogvx.distributed import start, stop
    from cogvx.training.engine import train
    from cogvx.training.plot import curves, plot, read_metrics
    from cogvx.training.report import Report

    started = time.monotonic()
    world = start(context=recipe.run.context, device=flags.device or "auto")
    try:
        report = Report(recipe, folder, quiet=console.quiet, work=_work(recipe, networks, world))
        task = open_task(recipe, folder, world=world, announce=report.note)
        train(
            task,
            recipe,
            folder,
            world=world,
            resume=flags.resume,
            report=report,
            allow_changes=flags.allow_changes,
        )
    finally:
        stop(world)
    if world.rank > 0:
        return
    last = {name: values[-1] for name, (_, values) in curves(read_metrics(folder)).items()}
    numbers = {name: value for name, value in last.items() if name == "loss" or name.startswith("val_")}
    record = {"output": str(folder / "model"), "run": str(folder), "steps": recipe.num_steps, **numbers}
    if flags.plot:
        plot([folder], folder / CURVES)
        console.note(f"the curves are in {folder / CURVES}")
        record["plot"] = str(folder / CURVES)
    console.result(folder / "model", record | {"seconds": round(time.monotonic() - started, 1)})


def open_task(recipe: "Recipe", folder: Path, *, world: "World", announce: Callable[[str], None]) -> "Task":
    """Open what a recipe trains, with its data."""
    if recipe.kind == "vae":
        from cogvx.training import vae_task

        return vae_task.make_task(recipe, folder, world=world, announce=announce)
    if recipe.kind == "captioner":
        from cogvx.training import captioner_task

        return captioner_task.make_task(recipe, folder, world=world, announce=announce)
    if recipe.kind == "dual-encoder":
        from cogvx.training import dual_encoder_task

        return dual_encoder_task.make_task(recipe, folder, world=world, announce=announce)
    from cogvx.training import dit_task

    return dit_task.make_task(recipe, folder, world=world, announce=announce)


def _work(recipe: "Recipe", networks: "Networks", world: "World") -> "Work | None":
    """Return what a token costs, where the devices' peak is known."""
    import torch

    from cogvx.training.costs import flops_of_blocks, passes
    from cogvx.training.report import Work, peak_flops

    if networks.transformer is None or world.device.type != "cuda" or not _is_bf16(recipe, world.device):
        return None
    peak = peak_flops(torch.cuda.get_device_name(world.device))
    token, pair = (passes(recipe) * flops for flops in flops_of_blocks(networks.transformer))
    return Work(flops_per_token=token, flops_per_pair=pair, peak=peak * world.size if peak else None)


def _device(name: str | None) -> "torch.device":
    import torch

    if name in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(str(name))
    except RuntimeError as error:
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N") from error


def _is_bf16(recipe: "Recipe", device: "torch.device") -> bool:
    return recipe.run.dtype == "bf16" or (recipe.run.dtype == "auto" and device.type == "cuda")


def _free_memory(device: "torch.device") -> int | None:
    """Return the bytes that are free on a device; None where it is not."""
    import torch

    from cogvx.generate.estimate import free_memory

    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        return None
    return free_memory(device)


def _seconds(plan: "Plan", device: "torch.device", *, bf16: bool) -> float | None:
    """Return about how long the steps take, from a short measurement of the device."""
    import torch

    from cogvx.generate.estimate import measure_flops
    from cogvx.generate.options import Runtime

    if _free_memory(device) is None:
        return None
    speed = measure_flops(Runtime(device=device, dtype=torch.bfloat16 if bf16 else torch.float32))
    return sum(stage.flops * stage.steps for stage in plan.stages) / speed


def _stage_row(stage: Any) -> list[str]:
    return [
        stage.name or "-",
        f"{stage.steps:,}",
        f"{stage.width}x{stage.height}x{stage.num_frames}",
        f"{stage.clips:,}",
        f"{stage.tokens:,}",
        f"{stage.micro_batches:,} x {stage.micro_tokens:,}",
        _size(stage.activation_bytes),
        _size(stage.checkpointed_bytes),
    ]


def _size(num_bytes: float) -> str:
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if num_bytes >= limit:
            return f"{num_bytes / limit:.1f} {unit}"
    return f"{num_bytes / 1e3:.0f} kB"
