"""Results of `cogvx eval` as one page: the paper's tables and the user's, charts, curves, clips, and every protocol."""

from cogvx.evaluation.report.clips import Wanted, beside_results, choose, playable, with_text
from cogvx.evaluation.report.content import Report, build_report
from cogvx.evaluation.report.png import check_plotting
from cogvx.evaluation.report.runs import Run, make_run
from cogvx.evaluation.report.sources import (
    FILTER,
    Source,
    folder_name,
    is_result,
    read_source,
    result_files,
    split_name,
)
from cogvx.evaluation.report.write import Written, check_folder, write_report

__all__ = [
    "FILTER",
    "Report",
    "Run",
    "Source",
    "Wanted",
    "Written",
    "beside_results",
    "build_report",
    "check_folder",
    "check_plotting",
    "choose",
    "folder_name",
    "is_result",
    "make_run",
    "playable",
    "read_source",
    "result_files",
    "split_name",
    "with_text",
    "write_report",
]
