"""Stages of the data pipeline: an entry in, entries out, over any number of processes and machines."""

from cogvx.data.stages.run import RunOptions, RunResult, run_stage
from cogvx.data.stages.stage import Item, Stage

__all__ = ["Item", "RunOptions", "RunResult", "Stage", "run_stage"]
