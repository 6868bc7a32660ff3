"""A report as Markdown: the same tables, with every protocol below them."""

import re
from collections.abc import Sequence

from cogvx import __version__
from cogvx.evaluation.report.content import (
    Report,
    beside_cell,
    settings_lines,
    told_backend,
    told_count,
    told_share,
)
from cogvx.evaluation.report.paper import paper_source
from cogvx.evaluation.report.tables import Row, Table
from cogvx.files import clean

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&@])")


def markdown(report: Report, images: Sequence[tuple[str, str]] = ()) -> str:
    """Return the text.

    Args:
        report: What it says.
        images: Charts that were written as PNG: file name and title.
    """
    lines = [f"# {plain(report.title)}", ""]
    if report.systems:
        lines += [f"Systems: {', '.join(map(plain, report.systems))}.", ""]
    lines += [f"> {plain(line)}" for line in report.remarks] + ([""] if report.remarks else [])
    for table in report.tables:
        lines += _table(report, table)
    if images:
        lines += ["## Charts", ""]
        for name, title in images:
            lines += [f"![{plain(title)}]({name})", ""]
    if report.sources:
        lines += ["## Results and protocols", ""]
    for source in report.sources:
        result = source.result
        about = f"n {told_count(result.n)}, coverage {told_share(result.coverage)}, {told_backend(result.backend)}"
        lines += [f"### R{source.number}: {plain(source.system)}, {plain(result.metric)}", "", plain(about), ""]
        rows = [("protocol", *one) for one in settings_lines(result.protocol)]
        rows += [("backend", *one) for one in settings_lines(result.backend)]
        rows += [("file", "", source.path.name), ("cogvx", "", result.version)]
        lines += [*_grid(["", "setting", "value"], [[plain(cell) for cell in row] for row in rows]), ""]
    lines += [f"The paper's numbers: {plain(paper_source())}. Written by cogvx {plain(__version__)}."]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Return a text that Markdown shows as it is: nothing in it is a link, a tag or the end of a cell."""
    text = _SPECIAL.sub(r"\\\1", clean(str(text))).replace("://", ":\\//").replace("www.", "www\\.")
    return f"\\{text}" if text[:1] in ("-", "=", "#", "+") else text


def _table(report: Report, table: Table) -> list[str]:
    told = table.family.key != "held_out"
    first = "Run" if not told else "Label" if table.family.key == "filters" else "System"
    header = [first, *(["From", "n", "Coverage"] if told else [])]
    header += [plain(column.heading) for column in table.columns]
    rows = [_row(table, row, told=told) for row in table.rows]
    tail = ["paper", "", ""] if told else []
    for paper in table.papers:
        for name in paper.rows:
            cells = [paper.shown(name, one.key) for one in table.columns]
            rows.append([f"*{plain(name)} (paper, {plain(paper.label)})*", *tail, *cells])
    lines = [f"## {plain(table.family.title)}", "", plain(table.family.about), "", *_grid(header, rows), ""]
    notes = [f"the paper's {paper.label}: {paper.protocol}" for paper in table.papers] + table.remarks
    return lines + [f"- {plain(line)}" for line in notes] + ([""] if notes else [])


def _row(table: Table, row: Row, *, told: bool) -> list[str]:
    cells = []
    for column in table.columns:
        cell = row.cells.get(column.key)
        if cell is None:
            cells.append("–")
            continue
        text = f"**{plain(cell.text)}**" if cell.rank == 1 else plain(cell.text)
        text += f" {cell.mark}" if cell.mark else ""
        more = [f"place {cell.rank}"] if cell.rank is not None else []
        more += beside_cell(row, column.key)
        cells.append(text + (f" ({plain('; '.join(more))})" if more else ""))
    tail = []
    if told:
        tail = [f"R{row.common('source')}", told_count(row.common("n")), told_share(row.common("coverage"))]
    return [plain(row.system), *tail, *cells]


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
