import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed():
    settings = PROJECT["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("cogvx/**/__init__.py")}
    expected = {".".join(folder.parts) for folder in folders} | set(settings["package-dir"])
    assert set(settings["packages"]) == expected


def test_torch_stays_in_the_range_with_a_cpu_build():
    assert "torch>=2.7,<2.14" in PROJECT["project"]["dependencies"]
    assert not any(
        name.startswith(("torchvision", "lpips", "flash-attn")) for name in PROJECT["project"]["dependencies"]
    )


def test_the_command_line_does_not_import_torch():
    heavy = "{'torch', 'transformers', 'numpy', 'av', 'PIL', 'diffusers'}"
    code = f"import sys, cogvx.commands; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


def test_no_pickle_is_shipped():
    names = [path.name for path in ROOT.glob("cogvx/**/*") if path.suffix in {".pt", ".pth", ".bin", ".ckpt", ".pkl"}]
    assert names == []


def test_embedded_models_are_small():
    files = [path for path in (ROOT / "cogvx" / "embedded").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40_000_000
