"""`cogvx doctor`: what this machine can do, and what is missing."""

from typing import Any

import typer

from ._options import Json

# Package to import -> what it adds, and the command that brings it.
_EXTRAS = {
    "flash_attn": ("faster attention on CUDA", "pip install 'cogvx[flash]'"),
    "lpips": ("LPIPS in `vae roundtrip`", "pip install 'cogvx[metrics]'"),
    "peft": ("training of LoRAs", "pip install 'cogvx[train]'"),
    "matplotlib": ("curves of `cogvx train plot`", "pip install 'cogvx[plot]'"),
    "tensorboard": ("TensorBoard's files of a run", "pip install 'cogvx[tensorboard]'"),
    "diffusers": ("parity checks of `cogvx verify`", "pip install 'cogvx[test]'"),
}
_ENCODERS = {"libx264": "mp4", "libvpx-vp9": "webm", "ffv1": "mkv (lossless)"}


def doctor(json: Json = False) -> None:
    r"""Show what this machine can do and what is missing.

    What is missing comes with the command that adds it. Nothing is downloaded and no network is used. Exits with 4 when
    something that cogvx cannot do without is missing.

    \b
    Examples:
      cogvx doctor
      cogvx doctor --json
    """
    from ._console import Console

    checks = _checks()
    console = Console(json=json)
    if json:
        console.result("", {"ok": all(item["ok"] for item in checks if item["needed"]), "checks": checks})
    else:
        for item in checks:
            mark = "ok     " if item["ok"] else "MISSING" if item["needed"] else "-      "
            fix = f"; {item['fix']}" if not item["ok"] and item.get("fix") else ""
            console.result(f"{mark}  {item['name']}: {item['value']}{fix}", {})
    if not all(item["ok"] for item in checks if item["needed"]):
        raise typer.Exit(4)


def _checks() -> list[dict[str, Any]]:
    import platform
    import sys

    from cogvx import __version__

    checks = [
        _check("cogvx", __version__),
        _check("python", sys.version.split()[0], ok=sys.version_info >= (3, 11), fix="install Python 3.11 or newer"),
        _check("system", f"{platform.system()} {platform.machine()}"),
    ]
    checks += [*_torch(), *_packages(), *_space(), *_codecs(), *_models()]
    return checks


def _check(name: str, value: Any, *, ok: bool = True, needed: bool = True, fix: str | None = None) -> dict[str, Any]:
    return {"name": name, "value": value, "ok": ok, "needed": needed, "fix": fix}


def _torch() -> list[dict[str, Any]]:
    try:
        import torch
    except ImportError as error:
        return [_check("torch", str(error), ok=False, fix="pip install torch")]
    checks = [_check("torch", torch.__version__), _check("threads", torch.get_num_threads())]
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = ", ".join(f"cuda:{i} {gpu.name}, {gpu.total_memory / 1e9:.0f} GB" for i, gpu in enumerate(gpus))
    mps = torch.backends.mps.is_available()
    found = names or ("mps" if mps else "none; the CPU is used")
    return [*checks, _check("accelerator", found, ok=bool(names or mps), needed=False)]


def _packages() -> list[dict[str, Any]]:
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    checks = []
    for package in (
        "transformers",
        "sentencepiece",
        "safetensors",
        "einops",
        "numpy",
        "av",
        "pillow",
        "huggingface-hub",
    ):
        try:
            checks.append(_check(package, version(package)))
        except PackageNotFoundError:
            checks.append(_check(package, "not installed", ok=False, fix=f"pip install {package}"))
    for package, (purpose, command) in _EXTRAS.items():
        here = find_spec(package) is not None
        value = purpose if here else f"not installed ({purpose})"
        checks.append(_check(package, value, ok=here, needed=False, fix=command))
    return checks


def _space() -> list[dict[str, Any]]:
    import tempfile
    from pathlib import Path

    import psutil

    from cogvx.files import free_bytes

    memory = psutil.virtual_memory()
    checks = [_check("memory", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free")]
    for name, folder in (("disk here", Path.cwd()), ("disk for temporary files", Path(tempfile.gettempdir()))):
        free = free_bytes(folder)
        checks.append(_check(name, f"{free / 1e9:.1f} GB free", ok=free > 1e8, needed=False, fix="free some space"))
    return checks


def _codecs() -> list[dict[str, Any]]:
    try:
        import av
    except ImportError as error:
        return [_check("video", str(error), ok=False, fix="pip install av")]
    versions = ".".join(str(number) for number in av.library_versions["libavcodec"])
    checks = [_check("libavcodec", versions)]
    for codec, purpose in _ENCODERS.items():
        here = codec in av.codecs_available
        value = f"writes {purpose}" if here else "not in this build of av"
        checks.append(_check(codec, value, ok=here, needed=codec == "libx264", fix="pip install --upgrade av"))
    return checks


def _models() -> list[dict[str, Any]]:
    from cogvx.presets import EMBEDDED, PRESETS, cached_path

    checks = []
    for preset in PRESETS.values():
        if preset.repo is None:
            here = (EMBEDDED / preset.name / "model_index.json").is_file()
            value = "embedded" if here else "not in this build"
        else:
            here = cached_path(preset) is not None
            value = "in the Hugging Face cache" if here else "not downloaded"
        checks.append(
            _check(f"model {preset.name}", value, ok=here, needed=False, fix=f"cogvx models pull {preset.name}")
        )
        if preset.repo is None:
            checks[-1]["fix"] = None
    return checks
