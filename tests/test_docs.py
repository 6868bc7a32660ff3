import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cogvx import __version__
from cogvx.commands import COMMANDS, app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name):
    assert f"cogvx {name}" in README


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("vae", "data", "models")])
def test_every_command_has_an_example_in_its_help(name):
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert f"cogvx {name}" in result.output


def test_the_readme_names_every_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package in settings["packages"]:
        folder = settings["package-dir"].get(package, package.replace(".", "/"))
        assert f"{folder.rsplit('/', 1)[-1]}/" in README, package


def test_the_changelog_has_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[?{re.escape(__version__)}", changelog, re.MULTILINE) or "## [Unreleased]" in changelog


def test_the_ci_runs_the_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    command = 'pip install -q -e ".[test]" && pytest -q'
    assert command in script
    assert command in README
