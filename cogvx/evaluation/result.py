"""Results of `cogvx eval`: a number never without the settings that it was made with."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cogvx import __version__
from cogvx.errors import InputError
from cogvx.files import clean, write_text

_MAX_BYTES = 1 << 30
_OWN = ("metric", "value", "n", "failed", "coverage", "failures", "per_video", "protocol", "backend", "version")


@dataclass(frozen=True)
class Result:
    """What a metric found.

    Attributes:
        metric: Its name; that of a substitute names the substitute, as in "human_action@videomae".
        value: The number, or several by name; None where none can be given.
        n: Clips that the value is made from.
        per_video: What is told about each clip: "input", "value", ….
        protocol: Every setting that changes the number.
        backend: Which network computed it and from where: "name", "sha256", …; empty for plain arithmetic.
        version: Of cogvx.
        failed: Clips that could not be used: "input" and "error".
        more: What else the metric tells; written beside the other fields.
    """

    metric: str
    value: float | dict[str, Any] | None
    n: int
    per_video: list[dict[str, Any]]
    protocol: dict[str, Any]
    backend: dict[str, Any]
    version: str = __version__
    failed: list[dict[str, Any]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def coverage(self) -> float:
        """The share of clips that could be used, 0 to 1."""
        total = self.n + len(self.failed)
        return self.n / total if total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return what the file holds: "failed" counts the clips, "failures" names them."""
        return {
            "metric": self.metric,
            "value": self.value,
            "n": self.n,
            "failed": len(self.failed),
            "coverage": self.coverage,
            **{key: value for key, value in self.more.items() if key not in _OWN},
            "failures": self.failed,
            "per_video": self.per_video,
            "protocol": self.protocol,
            "backend": self.backend,
            "version": self.version,
        }

    def to_json(self) -> str:
        """Return the text of the file.

        Raises:
            InputError: It holds something that JSON cannot, such as NaN.
        """
        try:
            return json.dumps(self.to_dict(), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise InputError(f"the result of {self.metric} cannot be written as JSON: {clean(str(error))}") from error


def write_result(path: Path | str, result: Result, *, overwrite: bool = False) -> None:
    """Write a result as JSON, whole or not at all.

    Raises:
        UsageError: The file exists.
        InputError: It holds something that JSON cannot.
        MissingError: The disk is full.
    """
    write_text(path, result.to_json(), overwrite=overwrite)


def read_result(path: Path | str) -> Result:
    """Read a result of any metric.

    Raises:
        InputError: The file cannot be read, or holds no result.
    """
    name = clean(str(path))
    try:
        if Path(path).stat().st_size > _MAX_BYTES:
            raise InputError(f"{name}: too large for a result")
        table = json.loads(Path(path).read_bytes(), parse_constant=_no_constant)
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not JSON, so no result of `cogvx eval`") from error
    if not isinstance(table, dict):
        raise InputError(f"{name}: no result of `cogvx eval`: a JSON object is needed")
    return _parse(table, name)


def same_protocol(a: Result, b: Result) -> list[str]:
    """Return the names of the settings in which two results differ, sorted; none: their numbers may be compared.

    The metric and the network ("metric", "backend.name", "backend.sha256") count as settings. What belongs to the
    measured set, not to the way of measuring, does not: keys under "set".
    """
    left, right = (_settings(one) for one in (a, b))
    return sorted(key for key in {*left, *right} if left.get(key) != right.get(key))


def _settings(result: Result) -> dict[str, Any]:
    settings: dict[str, Any] = {"metric": result.metric}
    settings |= {f"backend.{key}": result.backend.get(key) for key in ("name", "sha256") if key in result.backend}
    return settings | {key: value for key, value in _flat(result.protocol) if not key.startswith("set.")}


def _flat(table: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Return the settings of nested tables, named as "above.key"."""
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        found += _flat(value, f"{above}{key}.") if isinstance(value, dict) else [(f"{above}{key}", value)]
    return found


def _parse(table: dict[str, Any], name: str) -> Result:
    def take(key: str, kind: type | tuple[type, ...], wanted: str) -> Any:
        if not isinstance(table.get(key), kind) or isinstance(table.get(key), bool):
            raise InputError(f"{name}: no result of `cogvx eval`: {key!r} must be {wanted}")
        return table[key]

    backend = take("backend", (dict, str), "an object or text")
    failed = table.get("failures", table.get("failed", []))
    value = table.get("value")
    if value is not None:
        take("value", (int, float, dict), "a number or an object of numbers")
    return Result(
        metric=take("metric", str, "text"),
        value=value,
        n=take("n", int, "a whole number"),
        per_video=take("per_video", list, "a list"),
        protocol=take("protocol", dict, "an object"),
        backend=backend if isinstance(backend, dict) else {"name": backend},
        version=take("version", str, "text"),
        # Some results only count what failed.
        failed=failed if isinstance(failed, list) else [{}] * (failed if isinstance(failed, int) else 0),
        more={key: value for key, value in table.items() if key not in _OWN},
    )


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")
