"""What a report tells of a training run: its curves without what cannot be drawn, and its last held-out losses."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cogvx.evaluation.report.families import FAMILIES
from cogvx.evaluation.report.numbers import Number
from cogvx.evaluation.result import Result

Curve = tuple[list[int], list[float]]

_HELD_OUT, _AVERAGED = "val_loss", "ema_val_loss"
_LAST_STEP = 2**53


@dataclass(frozen=True)
class Run:
    """The curves of one run.

    Attributes:
        name: What it is called.
        loss: Steps and training losses.
        smoothed: The running mean of the losses.
        mean: Steps and mean held-out losses; of a VAE, the first held-out number.
        mean_title: What the mean is.
        times: Diffusion time → steps and held-out losses.
        averaged: Likewise, of averaged weights.
        left_out: Numbers that are not finite, and so are not drawn.
    """

    name: str
    loss: Curve
    smoothed: Curve
    mean: Curve
    mean_title: str
    times: dict[int, Curve]
    averaged: dict[int, Curve]
    left_out: int

    def numbers(self) -> list[Number]:
        """Return the last held-out losses of the five times of the paper, as a table takes them."""
        found = []
        for title, times in ((self.name, self.times), (f"{self.name}, averaged weights", self.averaged)):
            for key in FAMILIES["held_out"].by_key:
                steps, values = times.get(int(key), ([], []))
                if values:
                    how = Result("held_out", None, 0, [], {"step": steps[-1]}, {})
                    detail = f"step {steps[-1]}"
                    found.append(Number(title, "held_out", key, values[-1], None, None, None, how, detail))
        return found


def make_run(name: str, curves: Mapping[str, Curve], *, smooth: Callable[[Sequence[float]], list[float]]) -> Run:
    """Return what is told of a run.

    Args:
        name: What it is called.
        curves: Name → steps and values, as cogvx.training.plot.curves gives them.
        smooth: Running mean of values.
    """
    clean_curves = {key: _finite(curve) for key, curve in curves.items()}
    left_out = sum(len(curve[1]) - len(clean_curves[key][1]) for key, curve in curves.items())
    loss = clean_curves.get("loss", ([], []))
    mean_key = _HELD_OUT if _HELD_OUT in curves else next((key for key in curves if key.startswith("val_")), _HELD_OUT)
    return Run(
        name=name,
        loss=loss,
        smoothed=(loss[0], smooth(loss[1])),
        mean=clean_curves.get(mean_key, ([], [])),
        mean_title=mean_key.removeprefix("val_").replace("_", " "),
        times=_times(clean_curves, _HELD_OUT),
        averaged=_times(clean_curves, _AVERAGED),
        left_out=left_out,
    )


def _finite(curve: Curve) -> Curve:
    pairs = [(step, value) for step, value in zip(*curve, strict=True) if math.isfinite(value) and step < _LAST_STEP]
    return [step for step, _ in pairs], [value for _, value in pairs]


def _times(curves: Mapping[str, Curve], prefix: str) -> dict[int, Curve]:
    found = {}
    for key, curve in curves.items():
        time = key.removeprefix(f"{prefix}_")
        if key.startswith(f"{prefix}_") and time.isascii() and time.isdigit() and len(time) < 6 and curve[1]:
            found[int(time)] = curve
    return dict(sorted(found.items()))
