"""Imports go down only; units on one floor do not import each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"cogvx.errors"},
    {"cogvx.shapes", "cogvx.files", "cogvx.distributed"},
    {"cogvx.hub"},
    {"cogvx.models", "cogvx.diffusion", "cogvx.data", "cogvx.metrics"},
    {"cogvx.presets", "cogvx.checkpoints", "cogvx.embedded", "cogvx.language", "cogvx.serving"},
    {"cogvx.generate"},
    {"cogvx.training", "cogvx.captioning", "cogvx.curation", "cogvx.evaluation"},
    {"cogvx.commands"},
]
# The package's own name and version, and the module that starts the command line, stand outside the house.
OUTSIDE = {"cogvx", "cogvx.__main__"}
FLOOR = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}


def modules():
    for path in sorted([*ROOT.glob("cogvx/**/*.py"), *ROOT.glob("commands/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts if parts[0] == "cogvx" else ("cogvx", *parts)).removesuffix(".__init__")
        yield name, path


def imports(name, path):
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def unit_of(name):
    return next((unit for unit in FLOOR if name == unit or name.startswith(unit + ".")), None)


def wrong_imports(name, path):
    own = unit_of(name)
    for target in imports(name, path):
        unit = unit_of(target)
        if unit and unit != own and FLOOR[unit] >= FLOOR[own]:
            yield f"{name} imports {target}"


@pytest.mark.parametrize("name,path", list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_go_down(name, path):
    if name not in OUTSIDE:
        assert unit_of(name), f"{name} stands on no floor"
        assert not list(wrong_imports(name, path))


def test_a_wrong_import_is_seen(tmp_path):
    path = tmp_path / "rope.py"
    path.write_text("from cogvx.data import video\nimport cogvx.commands\n")
    assert len(list(wrong_imports("cogvx.models.rope", path))) == 3
