"""Sources for reports: results made in memory, as if read from a system's folder."""

from pathlib import Path

import pytest

from cogvx.evaluation.report.sources import Source
from cogvx.evaluation.result import Result

VBENCH = {"suite_sha256": "ab" * 32, "videos": 5, "mode": "vbench_standard"}


@pytest.fixture
def source():
    """Make the next source: source(system, metric=…, value=…, …)."""
    made = []

    def make(system, **fields):
        number = len(made) + 1
        about = {"n": 10, "per_video": [], "protocol": {"frames": 16}, "backend": {"name": "a network"}} | fields
        made.append(Source(number, system, Path(system) / f"{number}.json", Result(**about)))
        return made[-1]

    return make


@pytest.fixture
def vbench(source):
    """Make VBench scores of a system, of the whole suite unless it is said otherwise."""

    def make(system, scores, *, coverage=1.0, **protocol):
        shares = dict.fromkeys(scores, coverage)
        return source(
            system,
            metric="vbench",
            value=scores,
            n=2150,
            protocol=VBENCH | protocol,
            more={"dimension_coverage": shares},
        )

    return make
