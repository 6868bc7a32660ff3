"""A report as files: the page, the Markdown file, charts as PNG, and clips that are too large for the page."""

import os
from dataclasses import dataclass
from pathlib import Path

from cogvx.errors import UsageError
from cogvx.evaluation.report.clips import written
from cogvx.evaluation.report.content import Report
from cogvx.evaluation.report.html import page
from cogvx.evaluation.report.markdown import markdown
from cogvx.evaluation.report.png import write_png
from cogvx.files import clean, write_bytes, write_text

PAGE, MARKDOWN = "index.html", "report.md"


@dataclass(frozen=True)
class Written:
    """The files of a report.

    Attributes:
        page: The page; it needs no other file but the clips.
        markdown: The tables.
        charts: As PNG.
        clips: Those that are not in the page.
    """

    page: Path
    markdown: Path
    charts: list[Path]
    clips: list[Path]


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse, before the work, a folder that a report cannot be written into.

    Raises:
        UsageError: It is a file, or there is something in it that may not be replaced.
    """
    if folder.suffix.lower() in (".html", ".htm", ".md") and not folder.is_dir():
        raise UsageError(f"{clean(str(folder))}: a report is a folder, with {PAGE} in it; pass -o DIR")
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"{clean(str(folder))} is no folder")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{clean(str(folder))} has files in it; pass --overwrite to replace those of the same names")


def write_report(report: Report, folder: Path, *, png: bool = True, overwrite: bool = False) -> Written:
    """Write a report; the page comes last, so that it is there only if all is.

    Args:
        report: It.
        folder: Made if it is missing.
        png: Whether charts are written as PNG.
        overwrite: Whether files of the same names are replaced.

    Raises:
        UsageError: A file exists.
        MissingError: Matplotlib is not installed, or the disk is full.
    """
    charts, images, clips = [], [], []
    if png:
        for _, chart in report.charts:
            path = folder / f"{chart.name}.png"
            write_png(chart, path, overwrite=overwrite)
            charts.append(path)
            images.append((path.name, chart.title))
    for name, data in written(report.clips):
        write_bytes(folder / name, data, overwrite=overwrite)
        clips.append(folder / name)
    write_text(folder / MARKDOWN, markdown(report, images), overwrite=overwrite)
    write_text(folder / PAGE, page(report), overwrite=overwrite)
    return Written(folder / PAGE, folder / MARKDOWN, charts, clips)
