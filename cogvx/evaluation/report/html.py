"""A report as one page that needs nothing else: no script, no network, every text escaped."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from cogvx import __version__
from cogvx.evaluation.report.charts import Chart, legend
from cogvx.evaluation.report.clips import Shown
from cogvx.evaluation.report.content import (
    Report,
    beside_cell,
    settings_lines,
    told_backend,
    told_count,
    told_share,
)
from cogvx.evaluation.report.paper import paper_source
from cogvx.evaluation.report.sources import Source
from cogvx.evaluation.report.svg import colour, svg
from cogvx.evaluation.report.tables import Row, Table
from cogvx.files import clean

# The page may not run or load anything, whatever a result smuggles in; clips beside it are files of its folder.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data: 'self' file:"
_MARKS = "= comparable with the paper's number; ≈ to be compared with care; ≠ not comparable. The reasons stand below."


def page(report: Report) -> str:
    """Return the page."""
    style = files("cogvx.evaluation.report").joinpath("page.css").read_text(encoding="utf-8")
    sections = [_section(report, table) for table in report.tables]
    left = [key for key, _ in report.charts if key not in {table.family.key for table in report.tables}]
    if left:
        charts = [chart for key, chart in report.charts if key in left]
        sections.append(f'<section id="curves"><h2>Training</h2>{_charts(charts)}</section>')
    links = [(table.family.key, table.family.title) for table in report.tables]
    links += [("curves", "Training")] if left else []
    if report.clips:
        sections.append(_clips(report.clips))
        links.append(("clips", "Clips"))
    if report.sources:
        sections.append(_sources(report.sources))
        links.append(("results", "Results and protocols"))
    contents = "".join(f'<li><a href="#{key}">{_text(title)}</a></li>' for key, title in links)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="cogvx eval report {escape(__version__)}">
<title>{_text(report.title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{_text(report.title)}</h1>
{_systems(report)}
<nav aria-label="Contents"><ul>{contents}</ul></nav>
{_warnings(report)}
</header>
<main>
{"".join(sections)}
</main>
<footer>
<p>The paper's numbers: {_text(paper_source())}.</p>
<p>Written by cogvx {_text(__version__)}.</p>
</footer>
</body>
</html>
"""


def _text(text: str) -> str:
    return escape(clean(str(text)))


def _systems(report: Report) -> str:
    if not report.systems:
        return ""
    names = "".join(f"<li>{_text(name)}</li>" for name in report.systems)
    return f'<ul class="systems" aria-label="Systems">{names}</ul>'


def _warnings(report: Report) -> str:
    lines = list(report.remarks)
    conflicts = [one for table in report.tables for one in table.conflicts]
    if conflicts:
        lines.append(
            "Some numbers were made in different ways. They stand side by side without an order: "
            + ", ".join(dict.fromkeys(one.column.title for one in conflicts))
        )
    if not lines:
        return ""
    return f'<div class="warn"><ul>{"".join(f"<li>{_text(line)}</li>" for line in lines)}</ul></div>'


def _section(report: Report, table: Table) -> str:
    charts = [chart for key, chart in report.charts if key == table.family.key]
    notes = "".join(f"<li>{_text(line)}</li>" for line in table.remarks)
    marks = f"<small>{_MARKS}</small>" if any(cell.mark for row in table.rows for cell in row.cells.values()) else ""
    return (
        f'<section id="{table.family.key}"><h2>{_text(table.family.title)}</h2><p>{_text(table.family.about)}</p>'
        f"{_table(report, table)}{marks}"
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + (_charts(charts) if charts else "")
        + "</section>"
    )


def _table(report: Report, table: Table) -> str:
    head = "".join(f"<th>{_text(column.heading)}</th>" for column in table.columns)
    told = table.family.key != "held_out"
    first = "Run" if not told else "Label" if table.family.key == "filters" else "System"
    body = "".join(_row(report, table, row, told=told) for row in table.rows)
    for paper in table.papers:
        named = f"<b>{_text(paper.label)} of the paper: {_text(paper.title)}.</b> {_text(paper.protocol)}"
        body += (
            f'<tr class="about"><th colspan="{len(table.columns) + 1}" scope="rowgroup"><span>{named}</span></th></tr>'
        )
        for name in paper.rows:
            cells = "".join(f"<td>{paper.shown(name, column.key)}</td>" for column in table.columns)
            body += f'<tr class="paper"><th scope="row">{_text(name)}</th>{cells}</tr>'
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{_text(table.family.title)}"><table><thead><tr>'
        f"<th>{first}</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(report: Report, table: Table, row: Row, *, told: bool) -> str:
    cells = "".join(_cell(row, column.key) for column in table.columns)
    about = ""
    if told:
        number = row.common("source")
        backend = told_backend(report.source(number).result.backend)
        about = (
            f'<small><a href="#r{number}" title="{_text(backend)}">R{number}</a>, n {told_count(row.common("n"))}, '
            f"{told_share(row.common('coverage'))}</small>"
        )
    return f'<tr><th scope="row">{_text(row.system)}{about}</th>{cells}</tr>'


def _cell(row: Row, key: str) -> str:
    cell = row.cells.get(key)
    if cell is None:
        return "<td>–</td>"
    rank = ""
    if cell.rank is not None:
        first = " first" if cell.rank == 1 else ""
        rank = f'<span class="rank{first}" title="place among your systems">{cell.rank}</span>'
    value = f"<b>{_text(cell.text)}</b>" if cell.rank == 1 else _text(cell.text)
    mark = f'<span class="mark" title="{_text(cell.beside.why)}">{cell.mark}</span>' if cell.beside else ""
    small = "".join(f"<small>{_text(line)}</small>" for line in beside_cell(row, key))
    return f'<td><span class="value">{rank}{value}{mark}</span>{small}</td>'


def _charts(charts: Sequence[Chart]) -> str:
    drawn = []
    for chart in charts:
        entries = "".join(
            f'<li><i style="--series:var({colour(one.style, one.colour)})"{" class=dashed" if one.dashed else ""}></i>'
            f"{_text(one.name)}</li>"
            for one in legend(chart)
        )
        notes = "".join(f"<li>{_text(line)}</li>" for line in chart.notes)
        drawn.append(
            f'<figure id="{chart.name}"><b>{_text(chart.title)}</b><div class="chart">{svg(chart)}</div>'
            f'<ul class="legend">{entries}</ul>' + (f'<ul class="notes">{notes}</ul>' if notes else "") + "</figure>"
        )
    return f'<div class="charts">{"".join(drawn)}</div>'


def _clips(groups: Sequence[Sequence[Shown]]) -> str:
    """Return clips of the same text side by side, and the others by their systems."""
    parts = [_together(group[0].text or group[0].name, group) for group in groups if len(group) > 1]
    single: dict[str, list[Shown]] = {}
    for group in groups:
        if len(group) == 1:
            single.setdefault(group[0].system, []).append(group[0])
    parts += [_together(system, clips) for system, clips in single.items()]
    about = "Made for this page from the clips: H.264, at most 640 pixels wide or high. Judge quality by the clips."
    return f'<section id="clips"><h2>Clips</h2><p><small>{about}</small></p>{"".join(parts)}</section>'


def _together(title: str, clips: Sequence[Shown]) -> str:
    shown = []
    for one in clips:
        words = one.system if one.system != title else one.text or one.name
        name = f" <small>{_text(one.name)}</small>" if one.name != words else ""
        shown.append(
            f'<figure><video controls muted loop playsinline preload="metadata" src="{escape(one.url)}" '
            f'aria-label="{_text(one.system)}: {_text(one.text or one.name)}"></video>'
            f"<figcaption>{_text(words)}{name}</figcaption></figure>"
        )
    return f'<h3>{_text(title)}</h3><div class="clips">{"".join(shown)}</div>'


def _sources(sources: Sequence[Source]) -> str:
    parts = []
    for source in sources:
        result = source.result
        rows = [("clips", told_count(result.n)), ("failed", told_count(len(result.failed)))]
        rows += [("coverage", told_share(result.coverage)), ("cogvx", result.version), ("file", source.path.name)]
        parts.append(
            f"<details><summary><b>R{source.number}</b> {_text(source.system)}: "
            f"{_text(result.metric)} <small>n {told_count(result.n)}, {told_share(result.coverage)}, "
            f"{_text(told_backend(result.backend))}</small></summary>"
            f'<dl id="r{source.number}">{_pairs(rows)}'
            f"<h4>Protocol</h4>{_pairs(settings_lines(result.protocol))}"
            f"<h4>Backend</h4>{_pairs(settings_lines(result.backend) or [('', 'plain arithmetic')])}</dl></details>"
        )
    about = "Every number above names the result that it is from; here is how each was made."
    return f'<section id="results"><h2>Results and protocols</h2><p>{about}</p>{"".join(parts)}</section>'


def _pairs(rows: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in rows)
