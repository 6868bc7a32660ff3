"""Suites: systems, prompts and metrics in one file, the plan of commands that they need, and what of it is done.

Nothing here runs a command; `cogvx eval run` does.
"""

from cogvx.evaluation.suites.plan import Plan, Step, make_plan
from cogvx.evaluation.suites.suite import Suite, check_suite

__all__ = ["Plan", "Step", "Suite", "check_suite", "make_plan"]
