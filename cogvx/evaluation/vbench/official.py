"""The official package `vbench`, run in an environment of its own, and the files that it writes.

It needs old versions of numpy, transformers and others, so it cannot be imported here. Its own command line puts the
prompt into a line for a shell; here its Python class is called by a short program, with a list of arguments, and no
shell sees them.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogvx.errors import InputError, MissingError
from cogvx.evaluation.vbench.suite import DIMENSIONS
from cogvx.files import clean

NAME = "cogvx"
_SUFFIX = "_eval_results.json"
_MOST_BYTES = 256 << 20
_TAIL = 300
_DRIVER = """\
import json, sys
job = json.loads(sys.argv[1])
import torch
from vbench import VBench
judge = VBench(torch.device(job["device"]), job["full_info"], job["output"])
judge.evaluate(
    videos_path=job["videos"], name=job["name"], dimension_list=job["dimensions"], local=False, read_frame=False,
    mode="vbench_standard", imaging_quality_preprocessing_mode="longer",
)
"""


@dataclass(frozen=True)
class Official:
    """What the official package found in one dimension.

    Attributes:
        dimension: Its name.
        score: Raw, 0 to 1.
        videos: Name of each video → its own score, None where the file holds none.
    """

    dimension: str
    score: float
    videos: dict[str, float | None]


def official_command(
    python: Path | str,
    videos: Path | str,
    full_info: Path | str,
    output: Path | str,
    *,
    dimensions: Sequence[str],
    device: str = "cuda",
) -> list[str]:
    """Return the arguments that run the official package on a folder of videos.

    Args:
        python: The interpreter of its environment.
        videos: The folder.
        full_info: The file of prompts.
        output: Folder for its results.
        dimensions: Those to score.
        device: Where it computes; most of it needs CUDA.
    """
    job = {
        "videos": str(Path(videos).resolve()),
        "full_info": str(Path(full_info).resolve()),
        "output": str(Path(output).resolve()),
        "dimensions": list(dimensions),
        "device": device,
        "name": NAME,
    }
    return [str(python), "-I", "-c", _DRIVER, json.dumps(job)]


def run_official(command: Sequence[str], output: Path | str, *, timeout: float | None = None) -> list[Official]:
    """Run the official package, and read what it wrote.

    Args:
        command: See official_command.
        output: The folder that it names.
        timeout: Seconds.

    Raises:
        MissingError: The interpreter is not there, or the package failed in it.
        InputError: It wrote no results.
    """
    Path(output).mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd=output, timeout=timeout
        )
    except OSError as error:
        raise MissingError(f"--vbench-python {clean(command[0])}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"the official vbench was ended after {timeout:g} seconds") from error
    if done.returncode:
        tail = clean(done.stderr.decode(errors="replace").strip()[-_TAIL:])
        raise MissingError(f"the official vbench in {clean(command[0])} ended with {done.returncode}: {tail}")
    return read_official(Path(output) / f"{NAME}{_SUFFIX}")


def read_official(path: Path | str) -> list[Official]:
    """Read a file *_eval_results.json, or the newest one of a folder.

    Raises:
        InputError: There is none, or it is of another form.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob(f"*{_SUFFIX}"), key=lambda one: one.stat().st_mtime)
        if not found:
            raise InputError(f"{path}: no *{_SUFFIX} in it")
        path = found[-1]
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: too large for results of vbench")
        table = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON") from error
    if not isinstance(table, dict) or not table:
        raise InputError(f"{path}: expected an object, dimension → [score, videos]")
    return [_dimension(name, value, path) for name, value in table.items()]


def _dimension(name: str, value: Any, path: Path) -> Official:
    if name not in DIMENSIONS or not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], list):
        raise InputError(f"{path}: {clean(name)[:80]!r} is not [score, videos] of a dimension of VBench")
    score = _number(value[0])
    if score is None:
        raise InputError(f"{path}: the score of {name} is no number from 0 to 1: {clean(str(value[0]))[:80]}")
    videos: dict[str, float | None] = {}
    for row in value[1]:
        if not isinstance(row, dict) or not isinstance(row.get("video_path"), str):
            raise InputError(f"{path}: a video of {name} has no 'video_path'")
        videos[Path(row["video_path"]).name] = _number(row.get("video_results"))
    return Official(name, score, videos)


def _number(value: Any) -> float | None:
    """Return a score; truth counts as 1. None if it is no number from 0 to 1."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)
