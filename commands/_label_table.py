"""The table of labels and how well they are recognised, in the form of the CogVideoX paper's Table 14."""

from collections.abc import Mapping
from typing import Any

HEADER = ["Classifier", "TP", "FP", "TN", "FN", "Acc", "clips", "majority", "AUC", "threshold"]


def table_rows(per_label: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and a row for each label; TP, FP, TN, FN are shares of the clips, as in the paper."""
    more = any("held_out_accuracy" in row for row in per_label.values())
    header = [*HEADER, "held-out Acc"] if more else HEADER
    rows = []
    for label, row in per_label.items():
        shares = [f"{row['shares'][name]:.2f}" for name in ("TP", "FP", "TN", "FN")]
        cells = [label, *shares, _two(row["accuracy"]), str(row["n"]), _two(row["majority"]), _two(row["auc"])]
        cells.append(f"{row['threshold']:.3f}")
        rows.append([*cells, _two(row.get("held_out_accuracy"))] if more else cells)
    return header, rows


def table_lines(per_label: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the table as lines of aligned columns."""
    header, rows = table_rows(per_label)
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
