"""The commands that a suite needs, in order: argument lists that a user could type, with what each reads and makes."""

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cogvx.evaluation.suites.suite import Metric, PromptSet, Suite, System, named_results

MANIFEST = "manifest.jsonl"
PAGE = "report"
_SHOW = "--clips="  # one argument each, SYSTEM=FOLDER behind it
_WORDS = {
    "vbench": ("vbench", "score"),
    "vbench-official": ("vbench", "official"),
    "vbench-total": ("vbench", "total"),
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command.

    Attributes:
        name: What it is called: unique in a plan.
        kind: "prompts", "clips" (drawn or generated: expensive, never removed unasked), "metric" or "report".
        arguments: Of `cogvx`.
        reads: Files and folders whose content changes what it makes.
        makes: A file, or a folder.
        needs: Names of the steps that must have been done before.
        system: Whom it is about; empty: all.
        key: Where the suite's file asks for it, as "metrics.0".
        optional: Whether it may be left out where something is missing.
    """

    name: str
    kind: Literal["prompts", "clips", "metric", "report"]
    arguments: tuple[str, ...]
    reads: tuple[str, ...]
    makes: str
    needs: tuple[str, ...] = ()
    system: str = ""
    key: str = ""
    optional: bool = False

    @property
    def command(self) -> str:
        """The command as it would be typed."""
        return shlex.join(("cogvx", *self.arguments))


@dataclass(frozen=True)
class Plan:
    """All steps of a suite, each after those that it needs.

    Attributes:
        folder: Of the run.
        steps: In order.
    """

    folder: Path
    steps: tuple[Step, ...]

    def without(self, left_out: Mapping[str, str]) -> "Plan":
        """Return the plan without some steps and what needs them; the report is made of what remains."""
        kept: list[Step] = []
        gone = set(left_out)
        for step in self.steps:
            if step.kind == "report":
                lost = {one.makes for one in self.steps if one.name in gone}
                needs = tuple(one for one in step.needs if one not in gone)
                reads = tuple(one for one in step.reads if one not in lost)
                kept.append(replace(step, arguments=report_without(step, lost), needs=needs, reads=reads))
            elif step.name in gone or gone & set(step.needs):
                gone.add(step.name)
            else:
                kept.append(step)
        return Plan(self.folder, tuple(kept))


@dataclass(frozen=True)
class _Clips:
    """Clips of one system for one set: where, and the step that makes them ("" if they are there already)."""

    path: str
    step: str


def make_plan(suite: Suite, folder: Path) -> Plan:
    """Return the commands of a suite that was checked.

    Args:
        suite: What is wanted.
        folder: Where everything goes: reference/SET, prompts/SET.jsonl, clips/SYSTEM/SET, results/SYSTEM/LABEL.json,
            report/.
    """
    steps: list[Step] = []
    references: dict[str, _Clips] = {}
    clips: dict[tuple[str, str], _Clips] = {}
    for i, one in enumerate(suite.prompts):
        source, reference = _prepare(one, f"prompts.{i}", folder, steps)
        if reference is not None:
            references[one.name] = reference
        for j, system in enumerate(suite.systems):
            if one.name in system.clips:
                clips[system.name, one.name] = _Clips(system.clips[one.name], "")
            elif system.model and source is not None:
                clips[system.name, one.name] = _generate(one, system, source, f"systems.{j}", folder, steps)
    results: list[Step] = []
    for i, metric in enumerate(suite.metrics):
        for system in suite.systems:
            if metric.systems and system.name not in metric.systems:
                continue
            step = _measure(metric, system, suite, f"metrics.{i}", folder, (references, clips), results)
            if step is not None:
                results.append(step)
    steps += results
    if suite.report.enabled:
        steps.append(_report(suite, folder, results, clips))
    return Plan(folder, tuple(steps))


def report_without(step: Step, lost: Collection[str]) -> tuple[str, ...]:
    """Return the arguments of a report without some results and clips."""
    return tuple(
        one
        for one in step.arguments
        if one not in lost and not (one.startswith(_SHOW) and one[len(_SHOW) :].partition("=")[2] in lost)
    )


def flag_arguments(flags: Mapping[str, Any]) -> list[str]:
    """Return flags as arguments: true is --flag, false --no-flag, a list the flag several times."""
    found: list[str] = []
    for key, value in flags.items():
        name = key.replace("_", "-")
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, bool):
                found.append(f"--{name}" if one else f"--no-{name}")
            elif str(one).startswith("-"):
                found.append(f"--{name}={one}")
            else:
                found += [f"--{name}", str(one)]
    return found


def _prepare(one: PromptSet, key: str, folder: Path, steps: list[Step]) -> tuple[_Clips | None, _Clips | None]:
    """Add the steps that make a set's prompts; return where these are, and the real clips."""
    reference = _Clips(one.reference, "") if one.reference else None
    if one.source == "clips":
        return None, reference
    if one.source == "file":
        return _Clips(one.file, ""), reference
    if one.source == "storyboard":
        target = str(folder / "reference" / one.name)
        flags: dict[str, Any] = {"split": "test", "seed": one.seed, **one.flags}
        if one.limit and not {"count", "n"} & set(flags):
            flags["count"] = one.limit
        name = f"reference {one.name}"
        arguments = ("data", "synth", *flag_arguments(flags), "-o", target)
        steps.append(Step(name=name, kind="clips", arguments=arguments, reads=(), makes=target, key=key))
        made = _Clips(str(Path(target) / MANIFEST), name)
        return made, made
    target = str(folder / "prompts" / f"{one.name}.jsonl")
    name = f"prompts {one.name}"
    flags = {"seed": one.seed, "videos": one.videos, **one.flags}
    source = (one.file,) if one.file else ()
    arguments = ("eval", "vbench", "prompts", *source, *flag_arguments(flags), "-o", target)
    steps.append(Step(name=name, kind="prompts", arguments=arguments, reads=source, makes=target, key=key))
    return _Clips(target, name), reference


def _generate(one: PromptSet, system: System, source: _Clips, key: str, folder: Path, steps: list[Step]) -> _Clips:
    """Add the steps that make a system's clips: their manifest, whose rows are the prompts, and the clips."""
    target = folder / "clips" / system.name / one.name
    manifest = str(target / MANIFEST)
    name = f"{system.name} {one.name}"
    flags: dict[str, Any] = {}
    if one.source != "vbench":
        flags = {"seed": one.seed, "videos": one.videos, "limit": one.limit, "caption": one.caption}
        flags["suffix"] = one.suffix
        usual = {"seed": 0, "videos": 1, "limit": 0, "caption": "", "suffix": ".mp4"}
        flags = {name: value for name, value in flags.items() if value != usual[name]}
    steps.append(
        Step(
            name=f"manifest {name}",
            kind="prompts",
            arguments=("eval", "prompts", source.path, *flag_arguments(flags), "-o", manifest),
            reads=(source.path,),
            makes=manifest,
            needs=(source.step,) if source.step else (),
            system=system.name,
            key=key,
        )
    )
    arguments = ("sample", "--prompts", manifest, "-m", system.model, *flag_arguments(system.flags), "-o", f"{target}/")
    steps.append(
        Step(
            name=f"clips {name}",
            kind="clips",
            arguments=arguments,
            reads=(manifest, *_existing(system.flags, system.model)),
            makes=str(target),
            needs=(f"manifest {name}",),
            system=system.name,
            key=key,
        )
    )
    return _Clips(str(target), f"clips {name}")


def _measure(
    metric: Metric,
    system: System,
    suite: Suite,
    key: str,
    folder: Path,
    found: tuple[dict[str, _Clips], dict[tuple[str, str], _Clips]],
    before: list[Step],
) -> Step | None:
    """Return the step of one metric for one system; None where that system has nothing to measure."""
    references, clips = found
    chosen = metric.prompts or suite.prompts[0].name
    own, reference = clips.get((system.name, chosen)), references.get(chosen)
    target = str(folder / "results" / system.name / f"{metric.title}.json")
    here = {step.name: step for step in before}
    used = {label: here.get(f"{label} {system.name}") for label in (*metric.of, *named_results(metric))}
    if any(step is None for step in used.values()):
        return None
    sources: list[_Clips | None]
    if metric.name == "vbench-total":
        sources = [_Clips(step.makes, step.name) for label in metric.of if (step := used[label]) is not None]
    elif metric.name == "fvd":
        sources = [reference, own]
    elif metric.name == "reconstruction":
        sources = [reference] if system.model else [None]
    else:
        sources = [own]
    places = [one for one in sources if one is not None]
    if len(places) < len(sources):
        return None
    flags = {key: _filled(value, used) for key, value in metric.flags.items()}
    model = ("-m", system.model) if metric.name == "reconstruction" else ()
    words = _WORDS.get(metric.name, (metric.name,))
    paths = tuple(one.path for one in places)
    results = tuple(step.makes for step in used.values() if step is not None)
    steps = (*(one.step for one in places if one.step), *(step.name for step in used.values() if step is not None))
    return Step(
        name=f"{metric.title} {system.name}",
        kind="metric",
        arguments=("eval", *words, *paths, *model, *flag_arguments(flags), "-o", target),
        reads=tuple(dict.fromkeys((*paths, *results, *_existing(metric.flags, system.model if model else "")))),
        makes=target,
        needs=tuple(dict.fromkeys(steps)),
        system=system.name,
        key=key,
        optional=metric.optional,
    )


def _filled(value: Any, used: Mapping[str, Step | None]) -> Any:
    """Return a flag's value with the files of the results that it names."""
    if isinstance(value, list | tuple):
        return [_filled(one, used) for one in value]
    if isinstance(value, str):
        for label, step in used.items():
            value = value.replace(f"{{{label}}}", step.makes if step is not None else "")
    return value


def _existing(flags: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Return the files and folders that flags name, and the folder of a model: their content counts."""
    texts = [model] if model else []
    for value in flags.values():
        texts += [str(one) for one in (value if isinstance(value, list | tuple) else [value]) if isinstance(one, str)]
    found = []
    for text in texts:
        # A LoRA's weight stands behind a colon, the name of a quality before an equals sign.
        for one in (text, text.rpartition(":")[0], text.partition("=")[2]):
            if one and ("/" in one or "." in one) and Path(one).exists():
                found.append(one)
    return tuple(found)


def _report(suite: Suite, folder: Path, results: list[Step], clips: dict[tuple[str, str], _Clips]) -> Step:
    target = str(folder / PAGE)
    made = tuple(step.makes for step in results)
    # Side by side by default: systems whose protocols differ cannot be ranked, and that is found out at the end.
    flags = {"rank": False, **({"title": suite.title} if suite.title else {}), **suite.report.flags}
    shown = [] if "clips" in flags else [f"{_SHOW}{system}={one.path}" for (system, _), one in clips.items()]
    return Step(
        name="report",
        kind="report",
        arguments=("eval", "report", *made, *suite.report.results, *shown, *flag_arguments(flags), "-o", target),
        reads=(*made, *suite.report.results, *(one.path for one in clips.values())),
        makes=target,
        needs=tuple(step.name for step in results),
        key="report",
    )
