"""The tables of the CogVideoX paper: numbers, what they are called, and how they were measured."""

import functools
import json
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        label: Such as "Table 3".
        title: What it is about.
        protocol: How its numbers were measured, as far as the paper says.
        columns: Key of a number → the paper's name of it.
        rows: System → key → number; a number that the paper does not give is not in it.
    """

    label: str
    title: str
    protocol: str
    columns: dict[str, str]
    rows: dict[str, dict[str, float]]

    def shown(self, system: str, key: str) -> str:
        """Return a number with the digits that its column has in the paper; a dash where it gives none."""
        if key not in self.columns:
            return ""
        if key not in self.rows[system]:
            return "–"
        digits = max(len(f"{row[key]:g}".partition(".")[2]) for row in self.rows.values() if key in row)
        return f"{self.rows[system][key]:.{digits}f}"


@functools.cache
def paper_tables() -> dict[str, PaperTable]:
    """Return the paper's tables by our names for them."""
    return {key: _table(table) for key, table in _data()["tables"].items()}


def paper_source() -> str:
    """Return where the numbers are from."""
    return str(_data()["source"])


@functools.cache
def _data() -> dict:
    return json.loads(files("cogvx.evaluation.report").joinpath("paper.json").read_text(encoding="utf-8"))


def _table(table: dict) -> PaperTable:
    keys = list(table["columns"])
    rows = {
        name: {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        for name, *values in table["rows"]
    }
    return PaperTable(table["label"], table["title"], table["protocol"], dict(table["columns"]), rows)
