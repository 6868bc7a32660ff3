"""What a suite file says: one frozen dataclass a table."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cogvx.errors import UsageError

SUFFIXES = (".mp4", ".mkv", ".webm", ".gif", ".webp")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Flags that the suite itself decides, under all their names.
_OWN_FLAGS = {
    *("output", "output-path", "o", "overwrite", "json", "quiet", "q", "verbose", "v", "dry-run", "prompts"),
    *("model", "model-path", "m", "save-real", "work", "root", "help", "h"),
}


def _count(default: int, *, least: int) -> Any:  # a field with the range that the reader of TOML checks
    return field(default=default, metadata={"least": least, "most": None, "above": None})


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """A list of prompts; each system has one folder of clips for it.

    Attributes:
        name: Of the set, and of the clips' folders.
        source: "file": `file` is a list of prompts or a manifest. "storyboard": clips of the synthetic world are drawn,
            by default its held-out part, and are the reference too. "vbench": `file` is VBench_full_info.json.
            "clips": there are no prompts, every system has its clips already.
        file: See source; empty for vbench: that of the package vbench.
        reference: A manifest or folder of real clips, for metrics that compare with them.
        seed: Of the first clip.
        videos: Clips a prompt.
        limit: Take the first prompts only; 0: all.
        caption: Of a manifest's entries, the stage of `captions` that is the prompt; empty: `prompt`, else `caption`.
        suffix: Of the clips; .mkv keeps every pixel.
        flags: Of the command that makes them: `data synth`, or `eval vbench prompts`.
    """

    name: str = "prompts"
    source: Literal["file", "storyboard", "vbench", "clips"] = "file"
    file: str = ""
    reference: str = ""
    seed: int = _count(0, least=0)
    videos: int = _count(1, least=1)
    limit: int = _count(0, least=0)
    caption: str = ""
    suffix: str = ".mp4"
    flags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class System:
    """Something that makes clips.

    Attributes:
        name: Of the system, its folders and its rows in the report.
        model: What makes the clips, as `--model` takes it; empty: they are there already.
        clips: Set -> manifest or folder of clips made elsewhere; other sets are made by `model`.
        flags: Of `cogvx sample`: steps, guidance, upsample, lora, ....
    """

    name: str
    model: str = ""
    clips: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)


MetricName = Literal[
    "storyboard",
    "reconstruction",
    "fvd",
    "clip",
    "dynamics",
    "mtscore",
    "vbench",
    "vbench-official",
    "vbench-total",
]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Something to measure of every system.

    Attributes:
        name: Which command of `cogvx eval`.
        label: Name of its results; empty: that of the metric.
        prompts: The set whose clips are measured; may be left out if there is one.
        systems: Which systems; empty: all that have clips of the set (for reconstruction: all that have a model).
        of: Of vbench-total: the labels of the results that it adds up.
        flags: Of the command. "{LABEL}" in a value is the file of that result of the same system.
        optional: Leave it out, and say so, where what it needs is missing.
    """

    name: MetricName
    label: str = ""
    prompts: str = ""
    systems: tuple[str, ...] = ()
    of: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False

    @property
    def title(self) -> str:
        """Its label."""
        return self.label or self.name


@dataclass(frozen=True, kw_only=True)
class Report:
    """The page at the end.

    Attributes:
        enabled: Whether it is made.
        results: Further results to show, made elsewhere.
        flags: Of `cogvx eval report`.
    """

    enabled: bool = True
    results: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A whole suite. Paths are relative to the working folder.

    Attributes:
        title: A line about it.
        output: Folder of the run, where `-o` names none.
        prompts: The lists of prompts.
        systems: Who makes clips.
        metrics: What is measured.
        report: The page at the end.
    """

    title: str = ""
    output: str = ""
    prompts: tuple[PromptSet, ...] = ()
    systems: tuple[System, ...] = ()
    metrics: tuple[Metric, ...] = ()
    report: Report = field(default_factory=Report)


def check_suite(suite: Suite, place: Callable[[str], str]) -> None:
    """Refuse what does not go together.

    Args:
        suite: As read.
        place: Gives the place of a dotted key, such as "metrics.0.of", for the error.

    Raises:
        UsageError: What, where, and the nearest name that would do.
    """

    def refuse(key: str, why: str) -> UsageError:
        return UsageError(f"{place(key)}: {key}: {why}")

    for key in ("prompts", "systems", "metrics"):
        if not getattr(suite, key):
            raise refuse(key, f"a suite needs at least one [[{key}]]")
    for key, names in (
        ("prompts", [one.name for one in suite.prompts]),
        ("systems", [one.name for one in suite.systems]),
        ("metrics", [one.title for one in suite.metrics]),
    ):
        for i, name in enumerate(names):
            inner = f"{key}.{i}.{'label' if key == 'metrics' else 'name'}"
            if not _NAME.fullmatch(name):
                raise refuse(inner, f"{name!r} cannot name a folder: letters, digits, '.', '_', '-', at most 64")
            if name.lower() in [other.lower() for other in names[:i]]:
                more = "; give it a label of its own" if key == "metrics" else ""
                raise refuse(inner, f"there are two called {name}{more}")
    for i, one in enumerate(suite.prompts):
        _check_set(one, f"prompts.{i}", refuse)
    for i, system in enumerate(suite.systems):
        _check_system(system, suite, f"systems.{i}", refuse)
    for i, metric in enumerate(suite.metrics):
        _check_metric(metric, suite, f"metrics.{i}", refuse)
    _check_flags(suite.report.flags, "report.flags", refuse)


_Refuse = Callable[[str, str], UsageError]


def _check_set(one: PromptSet, key: str, refuse: _Refuse) -> None:
    if one.source == "file" and not one.file:
        raise refuse(f"{key}.file", 'source = "file" needs the file of prompts')
    if one.source in ("storyboard", "clips") and one.file:
        raise refuse(f"{key}.file", f'source = "{one.source}" reads no file')
    if one.source == "storyboard" and one.reference:
        raise refuse(f"{key}.reference", "the clips that are drawn are the reference")
    if one.source in ("file", "clips") and one.flags:
        raise refuse(f"{key}.flags", f'source = "{one.source}" runs no command that takes flags')
    if one.source in ("vbench", "clips") and (one.limit or one.caption):
        raise refuse(f"{key}.{'limit' if one.limit else 'caption'}", f'not with source = "{one.source}"')
    if one.suffix not in SUFFIXES or (one.source == "vbench" and one.suffix != ".mp4"):
        raise refuse(f"{key}.suffix", f"expected {'.mp4' if one.source == 'vbench' else ', '.join(SUFFIXES)}")
    _check_flags(one.flags, f"{key}.flags", refuse)


def _check_system(system: System, suite: Suite, key: str, refuse: _Refuse) -> None:
    if not system.model and not system.clips:
        raise refuse(key, "name a model, or clips that are there already")
    if not system.model and system.flags:
        raise refuse(f"{key}.flags", "these are flags of `cogvx sample`, which needs a model")
    sets = [one.name for one in suite.prompts]
    for name, path in system.clips.items():
        if name not in sets:
            raise refuse(f"{key}.clips.{name}", f"there are no prompts called {name}{_near(name, sets)}")
        if not path:
            raise refuse(f"{key}.clips.{name}", "a manifest or folder is needed")
    _check_flags(system.flags, f"{key}.flags", refuse)


def _check_metric(metric: Metric, suite: Suite, key: str, refuse: _Refuse) -> None:
    sets, systems = [one.name for one in suite.prompts], [one.name for one in suite.systems]
    labels = [one.title for one in suite.metrics]
    if metric.name == "vbench-total":
        if not metric.of or metric.prompts:
            raise refuse(f"{key}.{'of' if not metric.of else 'prompts'}", "vbench-total adds up the results in `of`")
    elif metric.of:
        raise refuse(f"{key}.of", "is for vbench-total")
    elif not metric.prompts and len(sets) > 1:
        raise refuse(f"{key}.prompts", f"say which prompts: {', '.join(sets)}")
    elif metric.prompts and metric.prompts not in sets:
        raise refuse(f"{key}.prompts", f"there are no prompts called {metric.prompts}{_near(metric.prompts, sets)}")
    for name in metric.systems:
        if name not in systems:
            raise refuse(f"{key}.systems", f"there is no system called {name}{_near(name, systems)}")
    before = labels[: labels.index(metric.title)]
    for name in (*metric.of, *named_results(metric)):
        if name not in before:
            raise refuse(key, f"no metric above it is called {name}{_near(name, before)}")
    _check_flags(metric.flags, f"{key}.flags", refuse)


def named_results(metric: Metric) -> list[str]:
    """Return the labels that a metric's flags name as "{LABEL}"."""
    texts = [text for value in metric.flags.values() for text in _texts(value)]
    return [name for text in texts for name in re.findall(r"\{([A-Za-z0-9][A-Za-z0-9._-]*)\}", text)]


def _texts(value: Any) -> list[str]:
    return [text for one in value for text in _texts(one)] if isinstance(value, list | tuple) else [str(value)]


def _check_flags(flags: Mapping[str, Any], key: str, refuse: _Refuse) -> None:
    for name, value in flags.items():
        plain = name.replace("_", "-").strip()
        if plain in _OWN_FLAGS or plain.startswith("-"):
            why = "is decided by the suite" if plain in _OWN_FLAGS else "flags are named without dashes"
            raise refuse(f"{key}.{name}", why)
        for one in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(one, str | int | float):
                raise refuse(f"{key}.{name}", "expected true, false, a number, text, or a list of these")


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(names) or 'none'}"
