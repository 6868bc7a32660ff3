"""Charts as PNG, for papers and chats."""

import math
import warnings
from pathlib import Path
from typing import Any

from cogvx.errors import MissingError
from cogvx.evaluation.report.charts import Chart, Lines, Radar, legend
from cogvx.evaluation.report.scales import scale_of
from cogvx.evaluation.report.svg import NUM_COLOURS, segments
from cogvx.files import atomic_path, clean

# The same as in page.css, on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a8479b", "#8a6d00", "#3f8fbf", "#7f3b08", "#00695c")
PAPER_COLOURS = ("#111111", "#6b6b6b")
FAINT = "#c4c4c0"
_DPI = 120
_LONGEST = 60

assert len(COLOURS) == NUM_COLOURS


def check_plotting() -> None:
    """Refuse before the work what could not be drawn after it.

    Raises:
        MissingError: Matplotlib is not installed.
    """
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise MissingError(
            "charts as PNG need the package matplotlib: pip install 'cogvx[plot]', or pass --no-png; "
            "the page has its charts without it"
        )


def write_png(chart: Chart, path: Path, *, overwrite: bool = False) -> None:
    """Draw a chart.

    Raises:
        UsageError: The file exists.
        MissingError: Matplotlib is not installed, or the disk is full.
    """
    check_plotting()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 6.2) if isinstance(chart, Radar) else (7.6, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    if isinstance(chart, Radar):
        _radar(figure, chart)
    else:
        _lines(figure, chart)
    with atomic_path(path, overwrite=overwrite) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of letters that the font lacks
        figure.savefig(temporary, dpi=_DPI, format="png")


def _radar(figure: Any, chart: Radar) -> None:
    axes = figure.add_subplot(projection="polar")
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    count = len(chart.axes)
    angles = [2 * math.pi * i / count for i in range(count)]
    for polygon in chart.polygons:
        places = [
            None if value is None else axis.place(value) for axis, value in zip(chart.axes, polygon.values, strict=True)
        ]
        colour, faint = _colour(polygon.style, polygon.colour), polygon.style == "faint"
        # Each line apart, so that none leads over an axis without a number.
        for i, j in segments(polygon):
            axes.plot(
                [angles[i], angles[j]],
                [places[i], places[j]],
                color=FAINT if faint else colour,
                linewidth=0.8 if faint else 2.2 if polygon.style == "own" else 1.6,
            )
        known = [(angle, place) for angle, place in zip(angles, places, strict=True) if place is not None]
        axes.plot(*zip(*known, strict=True), "o", markersize=0 if faint else 5, color=colour)
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75, 1.0], labels=[])
    axes.set_xticks(angles, labels=["\n".join(map(_name, axis.label)) for axis in chart.axes], fontsize=8)
    axes.tick_params(axis="x", pad=6)
    axes.grid(color="#e6e6e3", linewidth=0.8)
    axes.spines["polar"].set_color("#e6e6e3")
    for angle, label in zip(angles, axes.get_xticklabels(), strict=True):
        side = math.sin(angle)
        label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    axes.set_title(_name(chart.title, 90), fontsize=10, pad=18)
    for entry in legend(chart):
        marker = "" if entry.style == "faint" else "o"
        shade = FAINT if entry.style == "faint" else _colour(entry.style, entry.colour)
        axes.plot([], [], color=shade, marker=marker, markersize=5, label=_name(entry.name))
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=8, frameon=False)


def _lines(figure: Any, chart: Lines) -> None:
    axes = figure.subplots()
    for line in chart.lines:
        faint = line.style == "faint"
        axes.plot(
            *line.points,
            color=_colour(line.style, line.colour),
            alpha=0.25 if faint else 1.0,
            linewidth=1 if faint else 1.8,
            linestyle="--" if line.dashed else "-",
            marker="." if len(line.points[0]) <= 30 and not faint else None,
            label=_name(line.name) if line.name else None,
        )
    if chart.log_y:
        axes.set_yscale("log")
    scale = scale_of([value for line in chart.lines for value in line.points[1]], log=chart.log_y)
    axes.set_ylim(scale.low, scale.high)
    axes.set_title(_name(chart.title, 90), fontsize=10)
    axes.set(xlabel=_name(chart.x_title), ylabel=_name(chart.y_title))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _colour(style: str, number: int) -> str:
    return PAPER_COLOURS[number % 2] if style == "paper" else COLOURS[number % NUM_COLOURS]


def _name(text: str, longest: int = _LONGEST) -> str:
    text = clean(text)
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    text = text.replace("$", r"\$")  # no mathematics
    return f" {text}" if text.startswith("_") else text  # else it would be no name for a legend
