"""What a report is made from: results of `cogvx eval`, each of a named system, checked before anything is drawn."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cogvx.errors import InputError, UsageError
from cogvx.evaluation.result import Result, read_result
from cogvx.files import clean

MAX_BYTES = 256 << 20
MAX_NAME = 80
FILTER = "filter_test_accuracy"
_MOST_SETTINGS, _MOST_DEPTH = 10_000, 20


@dataclass(frozen=True)
class Source:
    """One result.

    Attributes:
        number: Counted from 1; tables refer to it.
        system: What was measured.
        path: The file.
        result: What it holds; every number in it that is used is finite.
    """

    number: int
    system: str
    path: Path
    result: Result


def split_name(text: str) -> tuple[str | None, Path]:
    """Return the name and the path of "NAME=PATH", or None and the path where no name is given.

    Raises:
        UsageError: The name is empty or too long.
    """
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():  # a path may have an equals sign of its own
        return None, Path(text)
    name = clean(name).strip()
    if not name or not path or len(name) > MAX_NAME:
        raise UsageError(f"{clean(text)[:200]}: write NAME=PATH, with a name of at most {MAX_NAME} characters")
    return name, Path(path)


def folder_name(folder: Path) -> str:
    """Return what a system is called after its folder."""
    return clean(folder.resolve().name)[:MAX_NAME] or "results"


def result_files(folder: Path) -> list[Path]:
    """Return the JSON files of a folder, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json" and path.is_file())


def read_source(path: Path, *, system: str | None = None, number: int = 1) -> Source:
    """Read one result.

    Args:
        path: The file.
        system: What was measured; None: what its folder is called.
        number: See Source.

    Raises:
        InputError: It cannot be read, is too large, is no result, or holds a number that is not finite.
    """
    name = clean(str(path))
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    if size > MAX_BYTES:
        raise InputError(f"{name}: {size / 2**20:.0f} MiB are too much for a result; the most is {MAX_BYTES >> 20}")
    result = _read_filter(path) or read_result(path)
    _check(result, name)
    return Source(number, system or folder_name(path.parent), path, result)


def is_result(path: Path) -> bool:
    """Tell whether a JSON file could be a result; of one that cannot be read, yes, so that its error is told."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return True
        table = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return True
    return isinstance(table, dict) and "metric" in table and "protocol" in table


def number(value: Any, place: str) -> float | None:
    """Return a number that a result holds; None stays None.

    Raises:
        InputError: It is something else, or not finite.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{place} is no number")
    try:
        found = float(value)
    except OverflowError as error:
        raise InputError(f"{place} is not finite") from error
    if not math.isfinite(found):
        raise InputError(f"{place} is not finite")
    return found


def table_of(value: Any, place: str) -> dict[str, Any]:
    """Return an object that a result holds; nothing for None.

    Raises:
        InputError: It is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{place} is no object")
    return value


def _check(result: Result, name: str) -> None:
    """Refuse what no result of ours has.

    Raises:
        InputError: See read_source.
    """
    if not result.metric.strip() or len(result.metric) > 200:
        raise InputError(f"{name}: 'metric' must be a name of at most 200 characters")
    if result.n < 0 or result.n > 2**53:
        raise InputError(f"{name}: 'n' must be a number of clips")
    if isinstance(result.value, int | float):
        number(result.value, f"{name}: 'value'")
    for key, table in (("protocol", result.protocol), ("backend", result.backend)):
        if not _is_small(table):
            raise InputError(f"{name}: {key!r} has more than {_MOST_SETTINGS} settings, or nests too deep")


def _is_small(value: Any) -> bool:
    """Tell whether nested tables have not too many values, and nest not too deep."""
    waiting, count = [(value, 0)], 0
    while waiting:
        one, depth = waiting.pop()
        count += 1
        if count > _MOST_SETTINGS or depth > _MOST_DEPTH:
            return False
        inside = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        waiting += [(each, depth + 1) for each in inside]
    return True


def _read_filter(path: Path) -> Result | None:
    """Return the table that `cogvx train filter` wrote, as a result; None if the file is not such a one."""
    if path.name != "metrics.json":
        return None
    name = clean(str(path))
    try:
        table = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: not JSON") from error
    if not isinstance(table, dict) or table.get("metric") != FILTER:
        return None
    n = table.get("n")
    if isinstance(n, bool) or not isinstance(n, int):
        raise InputError(f"{name}: 'n' must be a whole number")
    result = Result(
        metric=FILTER,
        value=number(table.get("value"), f"{name}: 'value'"),
        n=n,
        per_video=[],
        protocol=table_of(table.get("protocol"), f"{name}: 'protocol'"),
        backend=table_of(table.get("frames"), f"{name}: 'frames'"),
        version=str(table.get("version", "")),
    )
    return replace(result, more={"per_label": table_of(table.get("per_label"), f"{name}: 'per_label'")})
