"""What the charts of a report show, as data: two drawers turn it into SVG for the page and PNG beside it."""

from dataclasses import dataclass, field
from typing import Literal

from cogvx.evaluation.report.families import Column
from cogvx.evaluation.report.runs import Curve

Style = Literal["own", "paper", "faint"]  # a colour; black or grey; pale and thin


@dataclass(frozen=True)
class Axis:
    """One axis of a radar chart.

    Attributes:
        column: What it shows.
        low: The number at the inner ring.
        high: That at the rim.
        inner: Where the inner ring is, as a share of the radius.
    """

    column: Column
    low: float
    high: float
    inner: float = 0.0

    def place(self, value: float) -> float:
        """Return where a number stands, 0 in the centre to 1 at the rim."""
        share = 1.0 if self.high == self.low else (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, self.inner + (1 - self.inner) * share))

    @property
    def label(self) -> tuple[str, str]:
        """Its title and its ends."""
        return self.column.title, f"{self.column.shown(self.low)} to {self.column.shown(self.high)}"


@dataclass(frozen=True)
class Polygon:
    """One system in a radar chart.

    Attributes:
        name: It.
        values: A number an axis; None is left out, and so are the lines to it.
        style: Whose it is.
        colour: Which of the colours.
    """

    name: str
    values: list[float | None]
    style: Style
    colour: int


@dataclass(frozen=True)
class Radar:
    """A radar chart.

    Attributes:
        name: Of its file.
        title: For people.
        axes: At least three.
        polygons: The systems.
        notes: What is left out, and why.
    """

    name: str
    title: str
    axes: list[Axis]
    polygons: list[Polygon]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Line:
    """One line of a line chart.

    Attributes:
        name: In the legend; "" keeps it out of it.
        points: Steps and values.
        style: Black or grey is the paper's, and a mean of the others.
        colour: Which of the colours.
        dashed: Whether it is.
    """

    name: str
    points: Curve
    style: Style
    colour: int
    dashed: bool = False


@dataclass(frozen=True)
class Lines:
    """A line chart.

    Attributes:
        name: Of its file.
        title: For people.
        x_title: What runs to the right.
        y_title: What runs upwards.
        lines: At least one, with points.
        log_y: Whether the scale is logarithmic.
        notes: What a reader should know.
    """

    name: str
    title: str
    x_title: str
    y_title: str
    lines: list[Line]
    log_y: bool = False
    notes: list[str] = field(default_factory=list)


Chart = Radar | Lines


@dataclass(frozen=True)
class Entry:
    """One line of a legend.

    Attributes:
        name: What is said.
        style: As that of what it explains.
        colour: Likewise; below 0 for several at once.
        dashed: Likewise.
    """

    name: str
    style: Style
    colour: int
    dashed: bool = False


def legend(chart: Chart) -> list[Entry]:
    """Return the legend of a chart: the user's own systems first, the paper's pale ones together and last."""
    if isinstance(chart, Lines):
        return [Entry(one.name, one.style, one.colour, one.dashed) for one in chart.lines if one.name]
    ranked = sorted(chart.polygons, key=lambda one: (one.style != "own", one.colour))
    found = [Entry(one.name, one.style, one.colour) for one in ranked if one.style != "faint"]
    pale = any(one.style == "faint" for one in ranked)
    return [*found, Entry("the paper's other systems", "faint", -1)] if pale else found
