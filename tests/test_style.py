"""The house's tools find nothing: lint and types are part of the suite."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("tool", [["ruff", "check", "cogvx", "commands", "tests"], ["mypy"]], ids=["ruff", "mypy"])
def test_the_tools_find_nothing(tool):
    pytest.importorskip(tool[0])
    run = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
