"""Charts as SVG for the page: colours come from the page's style, so that they fit a light and a dark one."""

import math
import textwrap
from html import escape

from cogvx.evaluation.report.charts import Chart, Line, Lines, Polygon, Radar
from cogvx.evaluation.report.scales import scale_of, tick_text
from cogvx.files import clean

NUM_COLOURS = 8
_RADAR = (680, 470)
_CENTRE, _RADIUS = (340.0, 235.0), 145.0
_LINES = (640, 350)
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 628.0, 28.0, 292.0
_LONGEST, _LABEL = 40, 16  # letters
_LINE = 1.15  # em; the style makes letters larger on small screens


def svg(chart: Chart) -> str:
    """Return a chart as an SVG element; its legend is not in it."""
    return _radar(chart) if isinstance(chart, Radar) else _lines(chart)


def colour(style: str, number: int) -> str:
    """Return the name of a colour in the page's style."""
    if style == "faint" and number < 0:
        return "--faint"
    if style == "paper":
        return f"--p{number % 2}"
    return f"--c{number % NUM_COLOURS}"


def spoke(place: int, count: int, radius: float) -> tuple[float, float]:
    """Return a point on an axis of a radar chart, from the centre: the first axis points upwards, then clockwise."""
    angle = 2 * math.pi * place / count
    return radius * math.sin(angle), -radius * math.cos(angle)


def segments(polygon: Polygon) -> list[tuple[int, int]]:
    """Return the pairs of neighbouring axes that a line connects: those on which the system has a number."""
    count = len(polygon.values)
    known = [value is not None for value in polygon.values]
    return [(i, (i + 1) % count) for i in range(count) if known[i] and known[(i + 1) % count]]


def _text(text: str) -> str:
    text = clean(text)
    return escape(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def _radar(chart: Radar) -> str:
    count = len(chart.axes)
    parts = []
    for ring in (0.25, 0.5, 0.75, 1.0):
        points = " ".join(_at(spoke(i, count, ring * _RADIUS)) for i in range(count))
        parts.append(f'<polygon class="grid" points="{points}"/>')
    for i, axis in enumerate(chart.axes):
        parts.append(f'<path class="grid" d="M{_at((0, 0))}L{_at(spoke(i, count, _RADIUS))}"/>')
        parts.append(_label(spoke(i, count, _RADIUS + 14), *axis.label))
    for polygon in chart.polygons:
        parts.append(_polygon(chart, polygon))
    return _whole(_RADAR, chart.title, parts)


def _label(place: tuple[float, float], title: str, ends: str) -> str:
    """Return the words at the end of an axis, in lines that lie outside of the chart."""
    x, y = place
    lines = textwrap.wrap(clean(title), _LABEL, max_lines=3, placeholder="…")
    anchor = "middle" if abs(x) < 20 else "start" if x > 0 else "end"
    above = len(lines) if y < -_RADIUS else -0.8 if y > _RADIUS else len(lines) / 2 - 0.3
    spans = [(line, "") for line in lines] + [(ends, ' class="soft"')]
    across = f"{_CENTRE[0] + x:.1f}"
    words = "".join(
        f'<tspan{kind} x="{across}" dy="{_LINE if i else -_LINE * above:.2f}em">{escape(line)}</tspan>'
        for i, (line, kind) in enumerate(spans)
    )
    return f'<text x="{across}" y="{_CENTRE[1] + y:.1f}" text-anchor="{anchor}">{words}</text>'


def _polygon(chart: Radar, polygon: Polygon) -> str:
    count = len(chart.axes)
    shade = "--faint" if polygon.style == "faint" else colour(polygon.style, polygon.colour)
    points = {
        i: spoke(i, count, _RADIUS * axis.place(value))
        for i, (axis, value) in enumerate(zip(chart.axes, polygon.values, strict=True))
        if value is not None
    }
    path = "".join(f"M{_at(points[i])}L{_at(points[j])}" for i, j in segments(polygon))
    if len(points) == count:  # a whole one is closed, and may be filled
        path = "M" + "L".join(_at(points[i]) for i in range(count)) + "Z"
    drawn = f'<path class="{polygon.style}" d="{path}"/>' if path else ""
    if polygon.style != "faint":
        drawn += "".join(
            f'<circle cx="{_CENTRE[0] + x:.1f}" cy="{_CENTRE[1] + y:.1f}" r="{4 if polygon.style == "own" else 3}">'
            f"<title>{_text(polygon.name)}: {_text(chart.axes[i].column.title)} "
            f"{chart.axes[i].column.shown(polygon.values[i] or 0.0)}</title></circle>"
            for i, (x, y) in points.items()
        )
    return f'<g class="series" style="--series:var({shade})">{drawn}</g>'


def _at(point: tuple[float, float]) -> str:
    return f"{_CENTRE[0] + point[0]:.1f},{_CENTRE[1] + point[1]:.1f}"


def _lines(chart: Lines) -> str:
    across = scale_of([step for line in chart.lines for step in line.points[0]], margin=0.02)
    upwards = scale_of([value for line in chart.lines for value in line.points[1]], log=chart.log_y)

    def x(step: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * across.place(step)

    def y(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * upwards.place(value)

    def draw(line: Line) -> str:
        points = [(x(step), y(value)) for step, value in zip(*line.points, strict=True)]
        path = "M" + "L".join(f"{one:.1f},{other:.1f}" for one, other in points)
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        drawn = f'<path class="line {line.style}"{dash} d="{path}"/>'
        if len(points) <= 30 and line.style != "faint":
            drawn += "".join(
                f'<circle cx="{one:.1f}" cy="{other:.1f}" r="3"><title>{_text(line.name)}: {step:g}, {value:.4g}'
                "</title></circle>"
                for (one, other), step, value in zip(points, *line.points, strict=True)
            )
        return f'<g class="series" style="--series:var({colour(line.style, line.colour)})">{drawn}</g>'

    parts = []
    for tick in upwards.ticks():
        parts.append(f'<path class="grid" d="M{_LEFT},{y(tick):.1f}H{_RIGHT}"/>')
        parts.append(
            f'<text class="soft" x="{_LEFT - 7}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick_text(tick)}</text>'
        )
    for tick in across.ticks():
        parts.append(f'<path class="grid" d="M{x(tick):.1f},{_TOP}V{_BOTTOM}"/>')
        parts.append(
            f'<text class="soft" x="{x(tick):.1f}" y="{_BOTTOM + 22}" text-anchor="middle">{tick_text(tick)}</text>'
        )
    middle = (_LEFT + _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_BOTTOM + 46}" text-anchor="middle">{_text(chart.x_title)}</text>')
    scale = ", logarithmic" if chart.log_y else ""
    parts.append(f'<text x="{_LEFT}" y="{_TOP - 10}">{_text(chart.y_title + scale)}</text>')
    parts += [draw(line) for line in chart.lines]
    return _whole(_LINES, chart.title, parts)


def _whole(size: tuple[int, int], title: str, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(clean(title))}">'
        + "".join(parts)
        + "</svg>"
    )
