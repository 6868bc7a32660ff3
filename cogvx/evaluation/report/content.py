"""A whole report as data: what the page and the Markdown file say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cogvx.evaluation.report.charts import Chart
from cogvx.evaluation.report.clips import Shown
from cogvx.evaluation.report.figures import build_charts
from cogvx.evaluation.report.numbers import numbers_of
from cogvx.evaluation.report.runs import Run
from cogvx.evaluation.report.sources import Source
from cogvx.evaluation.report.tables import Papers, Row, Table, build_tables, check_ranking

_LONGEST = 300
_MOST_SHOWN = 200


@dataclass(frozen=True)
class Report:
    """What is written.

    Attributes:
        title: Of the page.
        systems: All names, in the order in which they were given.
        sources: The results.
        tables: The numbers.
        charts: Each with the key of the table that it stands under.
        ranked: Whether numbers were to be ranked.
        clips: To play, in groups of what they should show.
        remarks: What went wrong.
    """

    title: str
    systems: list[str]
    sources: list[Source]
    tables: list[Table]
    charts: list[tuple[str, Chart]]
    ranked: bool
    clips: list[list[Shown]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def source(self, number: int) -> Source:
        """Return a result by its number."""
        return next(one for one in self.sources if one.number == number)


def build_report(
    sources: Sequence[Source],
    runs: Sequence[Run] = (),
    *,
    title: str = "Evaluation report",
    rank: bool = True,
    papers: Papers = "beside",
) -> Report:
    """Put results and runs together; clips and remarks are added by the caller.

    Args:
        sources: Results.
        runs: Training runs.
        title: Of the page.
        rank: Whether numbers are ranked.
        papers: See build_tables.

    Raises:
        InputError: A result is not what it should be.
        UsageError: Numbers would be ranked whose protocols differ, or a system has a number twice.
    """
    numbers = [number for source in sources for number in numbers_of(source)]
    numbers += [number for run in runs for number in run.numbers()]
    tables = build_tables(numbers, rank=rank, papers=papers)
    if rank:
        check_ranking(tables)
    systems = list(dict.fromkeys([one.system for one in numbers if one.family not in ("filters", "held_out")]))
    return Report(title, systems, list(sources), tables, build_charts(tables, runs), rank)


def settings_lines(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return settings as names and values, nested ones as "above.name"; what is too long is cut."""
    found = list(_flat(table, ""))
    lines = [(name, value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…") for name, value in found]
    if len(lines) > _MOST_SHOWN:
        return [*lines[:_MOST_SHOWN], ("…", f"and {len(lines) - _MOST_SHOWN} more, in the result's file")]
    return lines


def beside_cell(row: Row, key: str) -> list[str]:
    """Return what is told under a number: its detail, and of n, coverage and source what is not that of its row."""
    cell = row.cells[key]
    told = [cell.number.detail] if cell.number.detail else []
    other = []
    if cell.number.n != row.common("n"):
        other.append(f"n {told_count(cell.number.n)}")
    if cell.number.coverage != row.common("coverage"):
        other.append(told_share(cell.number.coverage))
    if cell.number.source != row.common("source"):
        other.append(f"R{cell.number.source}")
    if cell.group:
        other.append(f"protocol {cell.group}")
    return told + ([", ".join(other)] if other else [])


def told_count(n: int | None) -> str:
    """Return a count, or a dash."""
    return "-" if n is None else f"{n:,}"


def told_share(share: float | None) -> str:
    """Return a share in percent, or a dash; never rounded up to all."""
    if share is None:
        return "-"
    return "100 %" if share == 1 else f"{min(100 * share, 99.9):.1f} %"


def told_backend(backend: Mapping[str, Any]) -> str:
    """Return in a few words which network it was."""
    if "name" in backend or "network" in backend:
        name, sha256 = str(backend.get("name", backend.get("network"))), backend.get("sha256")
        return (name[:80] + (f", sha256 {str(sha256)[:12]}" if sha256 else "")) or "none"
    names = {str(one["name"]) for one in backend.values() if isinstance(one, dict) and "name" in one}
    return ", ".join(sorted(names))[:120] or "plain arithmetic"


def _flat(table: Mapping[str, Any], above: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{above}{key}.")
        else:
            found.append((f"{above}{key}", "none" if value in (None, {}) else str(value)))
    return found
