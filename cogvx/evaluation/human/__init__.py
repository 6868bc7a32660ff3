"""Blind studies in which people judge clips of several systems: made, served as a page, and reported."""

from cogvx.evaluation.human.report import Report, report_study
from cogvx.evaluation.human.serve import DEFAULT_PORT, open_study_page
from cogvx.evaluation.human.sources import read_system
from cogvx.evaluation.human.study import Study, make_study, read_study

__all__ = [
    "DEFAULT_PORT",
    "Report",
    "Study",
    "make_study",
    "open_study_page",
    "read_study",
    "read_system",
    "report_study",
]
