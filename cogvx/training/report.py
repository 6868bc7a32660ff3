"""What a running training shows: a live line on a terminal, plain lines elsewhere, TensorBoard and W&B where asked.

Metrics that must be the same on every run belong to the engine's metrics.jsonl; speed and time left live only here.
"""

import json
import os
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cogvx.errors import MissingError
from cogvx.files import clean, write_text
from cogvx.training.options_toml import dump_options
from cogvx.training.recipe import Recipe

SECONDS_BETWEEN_LINES = 5.0
# Dense bf16 operations a second of whole devices, from their makers' data sheets; the longer name is looked for first.
_PEAKS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H800": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H20": 148e12,
    "A800": 312e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A40": 150e12,
    "A6000": 155e12,
    "RTX 6000 Ada": 364e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 5090": 210e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def peak_flops(device_name: str) -> float | None:
    """Return a device's dense bf16 operations a second, None where they are not known (a CPU, say)."""
    found = [name for name in _PEAKS if name.lower() in device_name.lower()]
    return _PEAKS[max(found, key=len)] if found else None


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a token costs, to tell how much of the device is used.

    Attributes:
        flops_per_token: Operations of forward and backward that every token costs.
        flops_per_pair: Those that every pair of tokens of a clip costs (attention).
        peak: Operations a second of all devices together; None: not known.
    """

    flops_per_token: float
    flops_per_pair: float
    peak: float | None

    def flops(self, *, tokens: float, clips: float) -> float:
        """Return the operations of some clips; too few where their lengths differ, for attention grows faster."""
        pairs = tokens * tokens / clips if clips else 0.0
        return tokens * self.flops_per_token + pairs * self.flops_per_pair


class Report:
    """Shows a run while it goes on; the engine of rank 0 tells it what happens."""

    def __init__(self, recipe: Recipe, folder: Path, *, quiet: bool = False, work: Work | None = None) -> None:
        """Take what is needed to show; nothing is opened before `begin`.

        Args:
            recipe: Of the run.
            folder: Of the run.
            quiet: Show nothing on stderr.
            work: What a token costs, for the utilisation of the device.
        """
        self._recipe, self._folder, self._work = recipe, folder, work
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._view: _View = _View() if quiet else _Live() if terminal else _Lines()
        self._sinks: list[Any] = []
        self._first = self._step = 0
        self._num_steps = recipe.num_steps
        self._speed = _Speed()

    def begin(self, step: int) -> None:
        """Start showing; the run folder gets the recipe as it was resolved.

        Args:
            step: How many steps are done: 0, or those of the checkpoint that the run goes on from.

        Raises:
            MissingError: The recipe asks for a logger that is not installed.
        """
        self._first = self._step = step
        write_text(self._folder / "recipe.toml", dump_options(self._recipe))
        self._sinks = _open_sinks(self._recipe, self._folder, step)
        self._speed.start(step)
        self._view.open(step, self._num_steps)

    def step(self, step: int) -> None:
        """Say that so many steps are done; cheap, called after every one."""
        self._step = step
        self._speed.steps(step)
        self._view.show(step, self._num_steps, {"left": self._speed.left(self._num_steps)}, due=False)

    def log(self, record: Mapping[str, Any]) -> None:
        """Show a record of metrics.jsonl, as the engine wrote it.

        Args:
            record: "step", and numbers. In a record of training: "loss", "lr", and "tokens" and "clips", the sums over
                all ranks and all steps since the record before.
        """
        speed = self._speed.record(record, self._work)
        step = int(record.get("step", self._step))
        for sink in self._sinks:
            sink.write(step, {key: value for key, value in {**record, **speed}.items() if key != "step"})
        self._view.show(step, self._num_steps, {**record, **speed}, due=True)
        self._speed.mark()

    def note(self, text: str) -> None:
        """Say something in a line of its own: a checkpoint, a clip that could not be read."""
        self._view.note(text)
        self._speed.mark()

    def warn(self, text: str) -> None:
        """Say what the user should know, even when nothing else is shown."""
        if type(self._view) is _View:
            print(clean(f"cogvx: warning: {text}"), file=sys.stderr, flush=True)
        else:
            self._view.note(f"warning: {text}")

    def close(self) -> None:
        """Leave the terminal as it was and finish the logs; may be called again."""
        self._view.close()
        for sink in self._sinks:
            sink.close()
        self._sinks = []


class _Speed:
    """Throughput of the steps since the record before, and time left.

    What happens between two steps, such as a validation, counts for the time left and not for throughput.
    """

    def __init__(self) -> None:
        self._begun = self._mark = time.monotonic()
        self._first = self._step = 0
        self._busy = 0.0

    def start(self, step: int) -> None:
        """Begin at a step."""
        self._begun = self._mark = time.monotonic()
        self._first = self._step = step
        self._busy = 0.0

    def steps(self, step: int) -> None:
        """Count the time since the last mark as that of a step."""
        self._step = step
        self._busy += time.monotonic() - self._mark
        self.mark()

    def mark(self) -> None:
        """Say that the next step begins now at the earliest."""
        self._mark = time.monotonic()

    def left(self, num_steps: int) -> float | None:
        """Return the seconds until the end, None at the start."""
        done = self._step - self._first
        return (time.monotonic() - self._begun) / done * (num_steps - self._step) if done else None

    def record(self, record: Mapping[str, Any], work: Work | None) -> dict[str, float]:
        """Return what a training record says about speed; other records say nothing."""
        tokens, clips = record.get("tokens"), record.get("clips")
        if not tokens and not clips:
            return {}
        seconds, self._busy = max(self._busy, 1e-9), 0.0
        speed = {"clips_per_s": (clips or 0) / seconds, "tokens_per_s": (tokens or 0) / seconds}
        if work is not None and work.peak and tokens and clips:
            speed["mfu"] = work.flops(tokens=tokens, clips=clips) / seconds / work.peak
        return speed


class _View:
    """Shows nothing; the others show something on stderr."""

    def open(self, step: int, num_steps: int) -> None:
        """Begin at a step."""

    def show(self, step: int, num_steps: int, record: Mapping[str, Any], *, due: bool) -> None:
        """Show how far the run is; `due` with new numbers."""

    def note(self, text: str) -> None:
        """Write a line."""

    def close(self) -> None:
        """Leave."""


class _Lines(_View):
    """One line at most every few seconds, as logs want it; validation always has its line."""

    def __init__(self) -> None:
        self._last = -SECONDS_BETWEEN_LINES
        self._left: float | None = None

    def show(self, step: int, num_steps: int, record: Mapping[str, Any], *, due: bool) -> None:
        self._left = record.get("left", self._left)
        now = time.monotonic()
        if due and (_is_validation(record) or step == num_steps or now - self._last >= SECONDS_BETWEEN_LINES):
            self._last = now
            left = f" · {duration(self._left)} left" if self._left else ""
            self.note(f"{step}/{num_steps} {describe(record)}{left}")

    def note(self, text: str) -> None:
        print(clean(f"cogvx: {text}"), file=sys.stderr, flush=True)


class _Live(_View):
    """A bar that moves, the newest numbers beside it, and a line for each validation above."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None

    def open(self, step: int, num_steps: int) -> None:
        import rich.console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        numbers = TextColumn("{task.fields[numbers]}", markup=False)
        left = TextColumn("{task.fields[left]}", markup=False)
        columns = [TextColumn("train", markup=False), BarColumn(bar_width=20), MofNCompleteColumn(), left, numbers]
        self._progress = Progress(*columns, console=rich.console.Console(stderr=True), transient=True)
        self._task = self._progress.add_task("train", total=num_steps, completed=step, numbers="", left="")
        self._progress.start()

    def show(self, step: int, num_steps: int, record: Mapping[str, Any], *, due: bool) -> None:
        changes: dict[str, Any] = {"completed": step}
        if record.get("left"):
            changes["left"] = f"{duration(record['left'])} left"
        if due and _is_validation(record):
            self.note(f"{step}/{num_steps} {describe(record)}")
        elif due:
            changes["numbers"] = describe(record)
        self._progress.update(self._task, **changes)

    def note(self, text: str) -> None:
        if self._progress is None:
            print(clean(f"cogvx: {text}"), file=sys.stderr, flush=True)
        else:
            self._progress.console.print(clean(f"cogvx: {text}"), markup=False, highlight=False)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def describe(record: Mapping[str, Any]) -> str:
    """Return the numbers of a record as people read them: "loss 0.1312 · lr 1.0e-04 · 2.1 clips/s · 37.1k tokens/s"."""
    units = {"clips_per_s": "clips/s", "tokens_per_s": "tokens/s"}
    words = []
    for key, value in record.items():
        if key in ("step", "tokens", "clips", "left") or not isinstance(value, int | float):
            continue
        if key in units:
            words.append(f"{_short(value)} {units[key]}")
        elif key == "mfu":
            words.append(f"{value:.1%} of peak")
        else:
            words.append(f"{key} {value:.1e}" if key == "lr" else f"{key} {value:.4g}")
    return " · ".join(words)


def duration(seconds: float) -> str:
    """Return a duration in the largest units that say enough: "3 d 4 h", "2 h 05 min", "1 min 20 s"."""
    seconds = round(seconds)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min {seconds % 60:02d} s" if minutes else f"{seconds} s"


def _short(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f}{unit}"
    return f"{value:.3g}"


def _is_validation(record: Mapping[str, Any]) -> bool:
    return "loss" not in record and any(isinstance(v, float) for k, v in record.items() if k != "left")


def _open_sinks(recipe: Recipe, folder: Path, step: int) -> list[Any]:
    sinks: list[Any] = []
    if recipe.run.tensorboard:
        sinks.append(_TensorBoard(folder, step))
    if recipe.run.wandb:
        sinks.append(_WandB(recipe, folder))
    return sinks


class _TensorBoard:
    """Event files under `tensorboard/` of the run."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingError(
                "run.tensorboard needs the package tensorboard: pip install 'cogvx[tensorboard]', "
                "or --set run.tensorboard=false"
            ) from error
        # What a killed run wrote past its checkpoint is dropped from the curves.
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, numbers: Mapping[str, Any]) -> None:
        for key, value in numbers.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    """A run of Weights & Biases; its id lies in the run folder, so that a run that goes on stays one curve."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingError(
                "run.wandb needs the package wandb: pip install 'cogvx[wandb]', or --set run.wandb=''"
            ) from error
        place = folder / "wandb-id.json"
        if not place.exists():
            write_text(place, json.dumps({"id": secrets.token_hex(8)}) + "\n")
        self._run: Any = wandb.init(
            project=recipe.run.wandb,
            name=folder.resolve().name,
            id=json.loads(place.read_text())["id"],
            resume="allow",
            dir=str(folder),
            config=asdict(recipe),
        )

    def write(self, step: int, numbers: Mapping[str, Any]) -> None:
        self._run.log({key: value for key, value in numbers.items() if isinstance(value, int | float)}, step=step)

    def close(self) -> None:
        self._run.finish()
