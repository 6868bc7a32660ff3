"""Results taken apart: each number with the clips it is made from and the settings that change it, and only those."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from cogvx.errors import InputError
from cogvx.evaluation.report.families import FAMILIES
from cogvx.evaluation.report.sources import FILTER, MAX_NAME, Source, number, table_of
from cogvx.evaluation.result import Result
from cogvx.files import clean

_MOST = 500  # numbers in one result
_DYNAMIC_QUALITY = "dynamics_quality"
_RETRIEVAL = ("text_to_video", "video_to_text")
_SHOWN_RETRIEVAL = ("recall_1", "recall_5", "median_rank")
_FILTER_COLUMNS = ("accuracy", "majority", "auc")


@dataclass(frozen=True)
class Number:
    """One number of one system.

    Attributes:
        system: What was measured.
        family: The table that it stands in.
        column: Which kind of number.
        value: It.
        n: Clips (of people: votes) that it is made from; None if nothing says so.
        coverage: Share of the clips that could be used, 0 to 1; None if the result does not say.
        source: The number of its result; None for a training run.
        how: Its settings, as a result that has only them: what same_protocol compares.
        detail: What belongs beside it, such as an interval.
    """

    system: str
    family: str
    column: str
    value: float
    n: int | None
    coverage: float | None
    source: int | None
    how: Result = field(repr=False)
    detail: str = ""


def numbers_of(source: Source) -> list[Number]:
    """Return the numbers of a result.

    Raises:
        InputError: A key is missing or has another type, or a number is not finite.
    """
    result = source.result
    found: list[Number] = []
    for one in _reader(result)(source):
        found.append(one)
        if len(found) > _MOST:
            raise InputError(f"{_name(source)}: more than {_MOST} numbers are too many for a report")
    return found


def _reader(result: Result) -> Callable[[Source], Iterator[Number]]:
    metric = result.metric
    base = metric.partition("@")[0]
    for names, reader in (
        (("reconstruction",), _reconstruction),
        (("fvd", "fvd-lite"), _fvd),
        (("vbench",), _vbench),
        (("vbench_total",), _plain("vbench_total")),
        (("dynamics",), _dynamics),
        (("mtscore", "GPT4o-MTScore"), _mtscore),
        (("human_rating", "human_pairwise"), _human),
        (("storyboard",), _storyboard),
        ((FILTER,), _filters),
    ):
        if base in names:
            return reader
    return _text if "retrieval" in result.more else _plain("other")


_MEASURED_BY = ("st_lpips", "lpips", "vmaf")  # measures of a reconstruction that a network makes


def _reconstruction(source: Source) -> Iterator[Number]:
    result = source.result
    measured = table_of(result.more.get("measured"), f"{_name(source)}: 'measured'")
    values = _values(source)
    for key, value in values.items():
        # Settings of the other measures do not change this one, and the VAE is what is measured.
        others = {name for name in values if name != key} - {key.partition("_")[0]}
        protocol = {name: one for name, one in result.protocol.items() if name not in others}
        backend = {"name": result.backend[key]} if key in _MEASURED_BY and key in result.backend else {}
        yield _number(source, "reconstruction", key, value, n=measured.get(key), protocol=protocol, backend=backend)


def _fvd(source: Source) -> Iterator[Number]:
    result = source.result
    halves = table_of(result.more.get("half_against_half"), f"{_name(source)}: 'half_against_half'")
    kernel = result.metric.replace("fvd", "kvd")
    for key, name, value in ((result.metric, "fvd", result.value), (kernel, "kvd", result.more.get(kernel))):
        if value is None:
            continue
        floors = []
        for side in ("real", "fake"):
            floor = table_of(halves.get(side), f"{_name(source)}: 'half_against_half'").get(name)
            floor = number(floor, f"{_name(source)}: 'half_against_half'")
            if floor is not None:
                floors.append(f"{side} {FAMILIES['fvd'].column(key).shown(floor)}")
        detail = f"halves: {', '.join(floors)}" if floors else ""
        yield _number(source, "fvd", key, value, detail=detail)


def _text(source: Source) -> Iterator[Number]:
    result = source.result
    if result.value is not None:
        yield _number(source, "text", result.metric, result.value)
    ways = table_of(result.more.get("retrieval"), f"{_name(source)}: 'retrieval'")
    for way in _RETRIEVAL:
        table = table_of(ways.get(way), f"{_name(source)}: 'retrieval'")
        for key in _SHOWN_RETRIEVAL:
            if table.get(key) is not None:
                yield _number(source, "text", f"{way}.{key}", table[key], n=table.get("n"))


def _vbench(source: Source) -> Iterator[Number]:
    result = source.result
    about = table_of(result.more.get("dimensions"), f"{_name(source)}: 'dimensions'")
    by_metric = {str(one.get("metric")): one for one in about.values() if isinstance(one, dict)}
    shares = table_of(result.more.get("dimension_coverage"), f"{_name(source)}: 'dimension_coverage'")
    settings = result.protocol.get("dimensions")
    for key, value in _values(source).items():
        one = by_metric.get(key, {})
        protocol = {name: setting for name, setting in result.protocol.items() if name != "dimensions"}
        if isinstance(settings, dict) and key in settings:
            protocol["rule"] = settings[key]
        backend = result.backend.get(key)
        yield _number(
            source,
            "generation",
            key,
            value,
            n=one.get("videos"),
            coverage=one.get("coverage", shares.get(key)),
            protocol=protocol,
            backend=backend if isinstance(backend, dict) else result.backend,
        )


def _dynamics(source: Source) -> Iterator[Number]:
    for key, value in _values(source).items():
        yield _number(source, "generation" if key.startswith(_DYNAMIC_QUALITY) else "dynamics", key, value)


def _mtscore(source: Source) -> Iterator[Number]:
    if source.result.value is not None:
        yield _number(source, "generation", source.result.metric, source.result.value)


def _human(source: Source) -> Iterator[Number]:
    """Yield the numbers of the systems of a study, which have names of their own."""
    place = f"{_name(source)}: 'value'"
    value = table_of(source.result.value, place)
    columns = FAMILIES["human"].by_key
    for system, row in table_of(value.get("table"), place).items():
        row = table_of(row, place)
        for key in columns:
            cell = table_of(row.get(key), place)
            if cell:
                detail = _interval(cell.get("interval"), columns[key].digits, place)
                own = _system(source, system)
                yield _number(source, "human", key, cell.get("mean"), n=row.get("votes"), system=own, detail=detail)
    for system, row in table_of(value.get("ranking"), place).items():
        row = table_of(row, place)
        for key, interval, digits in (("rating", "rating_interval", 0), ("win_rate", "win_interval", 3)):
            detail = _interval(row.get(interval), digits, place)
            own = _system(source, system)
            yield _number(source, "human_ranking", key, row.get(key), n=row.get("votes"), system=own, detail=detail)


def _storyboard(source: Source) -> Iterator[Number]:
    result, place = source.result, _name(source)
    if result.value is not None:
        yield _number(source, "storyboard", "value", result.value)
    ratios = {"exact": result.more.get("exact"), "objects": result.more.get("objects")}
    for name, ratio in table_of(result.more.get("attributes"), f"{place}: 'attributes'").items():
        ratios[f"attributes.{name}"] = ratio
    for key, ratio in ratios.items():
        ratio = table_of(ratio, f"{place}: {key!r}")
        if ratio.get("accuracy") is not None:
            bounds = ratio.get("interval")
            scaled = [100 * one for one in bounds or ()] if _are_numbers(bounds) else None
            detail = _interval(scaled, 0, place)
            yield _number(source, "storyboard", key, ratio["accuracy"], n=ratio.get("asked"), detail=detail)


def _filters(source: Source) -> Iterator[Number]:
    """Yield the numbers of each label; a label stands where other tables have a system."""
    place = f"{_name(source)}: 'per_label'"
    for label, row in table_of(source.result.more.get("per_label"), place).items():
        row = table_of(row, place)
        shares = table_of(row.get("shares"), place)
        system = f"{source.system}: {clean(label)[:MAX_NAME]}"
        for key, value in {**{name: shares.get(name) for name in ("TP", "FP", "TN", "FN")}, **row}.items():
            if value is not None and (key in shares or key in _FILTER_COLUMNS):
                # Nothing says how many of the label's clips could not be used.
                yield replace(_number(source, "filters", key, value, n=row.get("n"), system=system), coverage=None)


def _plain(family: str) -> Callable[[Source], Iterator[Number]]:
    def read(source: Source) -> Iterator[Number]:
        result = source.result
        if not isinstance(result.value, dict):
            if result.value is not None:
                yield _number(source, family, result.metric, result.value)
            return
        for key, value in result.value.items():
            if not isinstance(value, dict | list | str):
                shown = key if family != "other" else f"{result.metric}: {key}"
                if value is not None:
                    yield _number(source, family, shown, value)

    return read


def _number(
    source: Source,
    family: str,
    column: str,
    value: Any,
    *,
    n: Any = None,
    coverage: Any = None,
    system: str | None = None,
    protocol: dict[str, Any] | None = None,
    backend: dict[str, Any] | None = None,
    detail: str = "",
) -> Number:
    """Return a number; what is not given is that of the whole result.

    Raises:
        InputError: It is missing, has another type or is not finite.
    """
    result, place = source.result, f"{_name(source)}: {clean(column)[:MAX_NAME]!r}"
    found = number(value, place)
    if found is None:
        raise InputError(f"{place} is missing")
    clips = result.n if n is None else number(n, f"{place}: 'n'")
    share = number(coverage, f"{place}: 'coverage'")
    if share is None and result.n + len(result.failed):
        share = result.coverage
    how = Result(
        metric=column,
        value=None,
        n=0,
        per_video=[],
        protocol=result.protocol if protocol is None else protocol,
        backend=result.backend if backend is None else backend,
    )
    return Number(
        system=system or source.system,
        family=family,
        column=clean(column)[:MAX_NAME],
        value=found,
        n=int(clips or 0),
        coverage=share,
        source=source.number,
        how=how,
        detail=detail,
    )


def _values(source: Source) -> dict[str, Any]:
    """Return the numbers of a result that has several.

    Raises:
        InputError: It has one only.
    """
    values = table_of(source.result.value, f"{_name(source)}: 'value'")
    return {key: value for key, value in values.items() if value is not None}


def _interval(bounds: Any, digits: int, place: str) -> str:
    if bounds is None or not _are_numbers(bounds):
        return ""
    low, high = (number(one, f"{place}: an interval") for one in bounds)
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def _are_numbers(bounds: Any) -> bool:
    return isinstance(bounds, list) and len(bounds) == 2 and all(type(one) in (int, float) for one in bounds)


def _system(source: Source, name: str) -> str:
    return clean(str(name))[:MAX_NAME] or source.system


def _name(source: Source) -> str:
    return clean(str(source.path))
