"""Curves of runs as a PNG: the training loss, the held-out loss at each diffusion time, and the learning rate."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cogvx.errors import InputError, MissingError
from cogvx.files import atomic_path, clean

Curve = tuple[list[int], list[float]]
# Names of validation numbers begin so; what follows is the diffusion time, if anything does.
_HELD_OUT = "val_loss"


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run's metrics.jsonl; a last line that is being written is left out.

    Args:
        run: A run folder, or a file of metrics.

    Raises:
        InputError: There are none.
    """
    path = run / "metrics.jsonl" if run.is_dir() else run
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; is {run} a run folder?") from error
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record["step"], int):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}:{number}: not a record of metrics") from error
        records.append(record)
    if not records:
        raise InputError(f"{path} has no metrics yet")
    return records


def curves(records: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """Return name -> steps and values of every number in the records; held-out numbers are called val_…."""
    found: dict[str, Curve] = {}
    for record in records:
        for key, value in record.items():
            if key != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                # A VAE has the same numbers of its training clips; records of training have a loss.
                name = key if "loss" in record or key.startswith(("val_", "ema_val_")) else f"val_{key}"
                steps, values = found.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(float(value))
    return found


def smooth(values: Sequence[float], *, weight: float = 0.9) -> list[float]:
    """Return the running mean of values, without the pull of its start towards zero.

    Args:
        values: In order.
        weight: Share of the mean that is kept each time.
    """
    smoothed, mean, total = [], 0.0, 0.0
    for value in values:
        mean = weight * mean + (1 - weight) * value
        total = weight * total + (1 - weight)
        smoothed.append(mean / total)
    return smoothed


def plot(runs: Sequence[Path], target: Path) -> None:
    """Write the curves of some runs as one PNG; with several, each has its colour.

    Args:
        runs: Run folders.
        target: The file.

    Raises:
        InputError: A run has no metrics.
        MissingError: Matplotlib is not installed.
    """
    loaded = {clean(_name(run, runs)): curves(read_metrics(run)) for run in runs}
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError("plotting needs the package matplotlib: pip install 'cogvx[plot]'") from error
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    training, held_out, rate = figure.subplots(1, 3)
    for number, (name, found) in enumerate(loaded.items()):
        colour = f"C{number}" if len(loaded) > 1 else None
        _plot_training(training, found, name, colour or "C0")
        _plot_held_out(held_out, found, name, colour)
        _line(rate, found.get("lr"), name, color=colour or "C0")
    for axes, title in ((training, "training loss"), (held_out, "held-out"), (rate, "learning rate")):
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.lines and (axes is held_out or len(loaded) > 1):
            axes.legend(fontsize="small")
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _name(run: Path, runs: Sequence[Path]) -> str:
    """Return a run's own name; more of its path where others share it."""
    name = run.resolve().name
    return name if sum(other.resolve().name == name for other in runs) == 1 else str(run)


def _plot_training(axes: Any, found: Mapping[str, Curve], name: str, colour: str) -> None:
    if "loss" in found:
        steps, values = found["loss"]
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        axes.plot(steps, smooth(values), color=colour, label=name)
        if min(values) > 0:
            axes.set_yscale("log")


def _plot_held_out(axes: Any, found: Mapping[str, Curve], name: str, colour: str | None) -> None:
    """Draw the loss in each bin; for several runs, and for a VAE, what there is one of."""
    bins = [key for key in found if key.startswith(f"{_HELD_OUT}_")]
    if colour is None and bins:
        for number, key in enumerate(bins):
            _line(axes, found[key], f"t = {key.removeprefix(f'{_HELD_OUT}_')}", color=f"C{number}")
        _line(axes, found.get(_HELD_OUT), "mean", color="black", linestyle="--")
        _line(axes, found.get(f"ema_{_HELD_OUT}"), "mean, averaged weights", color="black")
        return
    others = [_HELD_OUT] if _HELD_OUT in found else [key for key in found if key.startswith("val_")][:1]
    for key in others:
        _line(axes, found[key], f"{name}: {key.removeprefix('val_')}", color=colour)


def _line(axes: Any, curve: Curve | None, label: str, **style: Any) -> None:
    if curve is not None:
        axes.plot(*curve, label=label, marker="." if len(curve[0]) < 30 else None, **style)
