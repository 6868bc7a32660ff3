"""Histograms of a manifest's columns as PNG."""

import hashlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cogvx.curation.stats import QUANTILES, Column
from cogvx.errors import MissingError, UsageError
from cogvx.files import atomic_path, clean

_MOST_BINS = 80
_SIZE, _DPI = (6.4, 3.6), 100  # inches, pixels an inch


def write_histograms(columns: Sequence[Column], folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write a histogram of each column, with its quantiles as lines, and return the files.

    Args:
        columns: With at least one number each.
        folder: Made if it is missing.
        overwrite: Whether files are replaced.

    Raises:
        UsageError: A file exists.
        MissingError: Matplotlib is not installed, or the disk is full.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError("histograms need the package matplotlib: pip install 'cogvx[plot]'") from error
    paths = [folder / _file_name(column.name) for column in columns]
    taken = next((path for path in paths if path.exists()), None)
    if taken is not None and not overwrite:
        raise UsageError(f"{taken} exists; pass --overwrite to replace it")
    for column, path in zip(columns, paths, strict=True):
        counts, edges = histogram(column.values)
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.stairs(counts, edges, fill=True, color="#0072b2")
        for value in np.quantile(column.values, QUANTILES):
            axes.axvline(value, color="#d55e00", linewidth=0.8)
        name = clean(column.name).replace("$", r"\$")  # no mathematics
        note = f", {column.missing:,} missing" if column.missing else ""
        axes.set(title=f"{name}: {len(column.values):,} values{note}", ylabel="entries")
        axes.set_xlabel("lines: " + ", ".join(f"q{q:g}" for q in QUANTILES))
        with atomic_path(path, overwrite=overwrite) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of letters that the font lacks
            figure.savefig(temporary, dpi=_DPI, format="png")
    return paths


def histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return counts and edges of bins of equal width, as many as the spread of the values asks for.

    Args:
        values: At least one.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.array([len(values)]), np.array([low - 0.5, low + 0.5])
    whole = bool(np.all(values == np.round(values)))
    if whole and high - low < _MOST_BINS:
        return np.histogram(values, bins=np.arange(low - 0.5, high + 1.0))
    # Freedman and Diaconis; far outliers would ask for millions of bins.
    width = 2 * float(np.subtract(*np.quantile(values, (0.75, 0.25)))) / len(values) ** (1 / 3)
    count = min(_MOST_BINS, int(np.ceil((high - low) / width))) if width > 0 else _MOST_BINS
    return np.histogram(values, bins=max(count, 1), range=(low, high))


def _file_name(name: str) -> str:
    """Return a column's file name, whatever the column is called."""
    safe = re.sub(r"[^\w.-]+", "-", clean(name), flags=re.ASCII).strip("-.")[:80]
    if safe != name.replace(" ", "-"):
        safe = f"{safe or 'column'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return f"{safe}.png"
