"""The charts of a report: the paper's Figure 2 with the user's systems in it, their own radar, and curves of runs."""

from collections.abc import Sequence

from cogvx.evaluation.report.charts import Axis, Chart, Line, Lines, Polygon, Radar, Style
from cogvx.evaluation.report.families import FAMILIES, Column
from cogvx.evaluation.report.paper import paper_tables
from cogvx.evaluation.report.runs import Curve, Run
from cogvx.evaluation.report.tables import Table

_MOST_POINTS = 1500
_PAPER_SYSTEMS = ("CogVideoX-5B", "CogVideoX-2B")
_INNER = 0.25  # where the lowest number of an axis stands, as a share of the radius
_ENDS = {"mtscore": (1.0, 5.0), "GPT4o-MTScore": (1.0, 5.0)}
_FEWEST_AXES, _MOST_AXES = 3, 10


def build_charts(tables: Sequence[Table], runs: Sequence[Run]) -> list[tuple[str, Chart]]:
    """Return the charts of a report, each with the key of the table that it stands under."""
    found: list[tuple[str, Chart]] = []
    for table in tables:
        if table.family.key == "generation" and table.papers:
            found.append(("generation", paper_radar(table)))
        own = own_radar(table)
        if own is not None:
            found.append((table.family.key, own))
    return found + [("held_out", chart) for chart in run_charts(runs)]


def paper_radar(table: Table) -> Radar:
    """Return the paper's Figure 2: the numbers of its Table 3, and those of the user that may stand beside them.

    Each axis goes from the lowest number that is shown, at the inner ring, to the highest, at the rim.
    """
    paper = paper_tables()["generation"]
    notes, polygons = [], []
    for colour, row in enumerate(table.rows):
        values: list[float | None] = []
        for key in paper.columns:
            cell = row.cells.get(key)
            fits = cell is not None and cell.beside is not None and cell.beside.level != "other"
            values.append(cell.number.value * _scale(key) if cell is not None and fits else None)
        known = sum(value is not None for value in values)
        if known:
            polygons.append(Polygon(row.system, values, "own", colour))
        missing = [title for title, value in zip(paper.columns.values(), values, strict=True) if value is None]
        if missing:
            notes.append(f"{row.system}: {'nothing' if not known else 'no'} comparable{_of(missing, known)}")
    own = len(polygons)
    names = sorted(paper.rows, key=lambda name: name not in _PAPER_SYSTEMS)
    for name in names:
        numbers = [paper.rows[name].get(key) for key in paper.columns]
        style: Style = "paper" if name in _PAPER_SYSTEMS else "faint"
        polygons.append(Polygon(f"{name} (paper)", numbers, style, names.index(name)))
    shown = [polygon.values for polygon in polygons]
    axes = []
    for place, (key, title) in enumerate(paper.columns.items()):
        column = [value for values in shown if (value := values[place]) is not None]
        digits = FAMILIES["generation"].by_key.get(key, Column(key, title, digits=2)).digits
        axes.append(Axis(Column(key, title, "higher", digits), min(column), max(column), _INNER))
    some = [name for name in names if len(paper.rows[name]) < len(paper.columns)]
    notes.append("each axis goes from the lowest number that is shown, at the inner ring, to the highest, at the rim")
    notes.append(f"the paper gives no number on some axes for {', '.join(some)}: no lines lead there")
    # The user's own are drawn last, on top.
    return Radar(
        name="radar-paper",
        title="Figure 2 of the paper, from its Table 3",
        axes=axes,
        polygons=polygons[own:][::-1] + polygons[:own],
        notes=notes,
    )


def own_radar(table: Table) -> Radar | None:
    """Return a radar chart of the user's own systems on absolute scales; None if fewer than three axes fit.

    Columns without a better way, and those whose numbers were made in different ways, are left out.
    """
    apart = {one.column.key for one in table.conflicts}
    axes = []
    for column in table.columns:
        ends = _ENDS.get(column.key.partition("@")[0])
        if ends is None and (table.family.key == "generation" or column.key.startswith("attributes.")):
            ends = (0.0, 100.0)
        if ends is None and table.family.key == "human" and column.key != "total":
            ends = (0.0, 1.0)  # the paper's aspects
        some = any(column.key in row.cells for row in table.rows)
        if ends is not None and some and column.better == "higher" and column.key not in apart:
            axes.append(Axis(Column(column.key, column.title, "higher", 0), *ends))
    if len(axes) < _FEWEST_AXES:
        return None
    left_out = [one.column.title for one in axes[_MOST_AXES:]]
    axes = axes[:_MOST_AXES]
    scales = {column.key: column.scale for column in table.columns}
    polygons, notes = [], [f"left out, too many axes: {', '.join(left_out)}"] if left_out else []
    if apart:
        titles = [one.column.title for one in table.conflicts]
        notes.append(f"left out, protocols differ: {', '.join(titles)}")
    for colour, row in enumerate(table.rows):
        values = [
            row.cells[axis.column.key].number.value * scales[axis.column.key] if axis.column.key in row.cells else None
            for axis in axes
        ]
        missing = [axis.column.title for axis, value in zip(axes, values, strict=True) if value is None]
        if len(missing) < len(axes):
            polygons.append(Polygon(row.system, values, "own", colour))
        if missing:
            notes.append(f"{row.system}: no {', no '.join(missing)}")
    title = f"{table.family.title}: your systems, from the lowest to the highest possible number"
    return Radar(f"radar-{table.family.key.replace('_', '-')}", title, axes, polygons, notes)


def run_charts(runs: Sequence[Run]) -> list[Lines]:
    """Return the curves of runs: training losses, each run's held-out losses, and the last ones beside Table 9."""
    charts = []
    training = [line for colour, run in enumerate(runs) for line in _training(run, colour)]
    if training:
        charts.append(_lines("loss", "Training loss", "step", "loss", training, notes=_left_out(runs)))
    for place, run in enumerate(runs):
        held_out = [
            Line(f"t = {time}", _thin(curve), "own", colour) for colour, (time, curve) in enumerate(run.times.items())
        ]
        if run.mean[1]:
            title = "mean" if run.times else run.mean_title
            held_out.append(Line(title, _thin(run.mean), "paper" if run.times else "own", 0, dashed=bool(run.times)))
        if held_out:
            name = "held-out" if len(runs) == 1 else f"held-out-{place + 1}"
            title = "Held-out loss" if run.times else "Held-out numbers"
            charts.append(_lines(name, f"{title}: {run.name}", "step", "loss", held_out))
    times = [
        Line(run.name, (list(run.times), [values[-1] for _, values in run.times.values()]), "own", colour)
        for colour, run in enumerate(runs)
        if run.times
    ]
    if times:
        paper = paper_tables()["held_out"]
        for number, (name, row) in enumerate(paper.rows.items()):
            points = ([int(key) for key in row], list(row.values()))
            times.append(Line(f"{name} (paper)", points, "paper", number, dashed=not number))
        notes = ["the paper's model and clips are others: its numbers show the shape, not a mark to reach"]
        title = "Last held-out loss, beside the paper's Table 9"
        charts.append(_lines("held-out-times", title, "diffusion time", "loss", times, notes=notes))
    return charts


def _training(run: Run, colour: int) -> list[Line]:
    if not run.loss[1]:
        return []
    return [
        Line("", _thin(run.loss), "faint", colour),
        Line(run.name, _thin(run.smoothed), "own", colour),
    ]


def _lines(name: str, title: str, x: str, y: str, lines: list[Line], *, notes: Sequence[str] = ()) -> Lines:
    values = [value for line in lines for value in line.points[1]]
    log_y = min(values) > 0 and max(values) > 10 * min(values)
    return Lines(name, title, x, y, lines, log_y, list(notes))


def _thin(curve: Curve) -> Curve:
    """Return at most so many points as can be seen, the last one among them."""
    step = -(-len(curve[0]) // _MOST_POINTS)
    if step <= 1:
        return curve
    places = sorted({*range(0, len(curve[0]), step), len(curve[0]) - 1})
    return [curve[0][i] for i in places], [curve[1][i] for i in places]


def _left_out(runs: Sequence[Run]) -> list[str]:
    return [f"{run.name}: {run.left_out} numbers are not finite, and not drawn" for run in runs if run.left_out]


def _scale(key: str) -> float:
    return FAMILIES["generation"].by_key[key].scale


def _of(missing: Sequence[str], known: int) -> str:
    return f" {', no comparable '.join(missing)}" if known else " on any axis"
