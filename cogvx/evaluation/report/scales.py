"""Scales of line charts: what is shown, and where the ticks are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A part of the numbers, from low to high.

    Attributes:
        low: At 0.
        high: At 1.
        log: Whether it is logarithmic; both ends are then above 0.
    """

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a number stands, 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return a few round numbers in it."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            for digits in ((1,), (1, 2, 5), tuple(range(1, 10))):
                found = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
                inside = [value for value in found if self.low <= value <= self.high]
                if len(inside) >= 3:
                    return inside[:: -(-len(inside) // 8)]
        span = self.high - self.low
        step = 10 ** math.floor(math.log10(span / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [round(k * step, 12) for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale_of(values: Sequence[float], *, log: bool = False, margin: float = 0.05) -> Scale:
    """Return a scale that shows all of some numbers, with a margin.

    Args:
        values: At least one; above 0 for a logarithmic scale.
        log: See Scale.
        margin: Share of the span on either side.
    """
    low, high = min(values), max(values)
    if log:
        room = (high / low) ** margin
        return Scale(low / room, high * room, log=True)
    span = (high - low) or abs(high) * 0.1 or 1.0
    return Scale(low - margin * span, high + margin * span)


def tick_text(value: float) -> str:
    """Return a tick's number: thousands as 10k."""
    return f"{value / 1000:g}k" if abs(value) >= 10_000 and value % 100 == 0 else f"{value:g}"
