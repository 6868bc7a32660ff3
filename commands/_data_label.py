"""`cogvx data label`: clips judged by people, by a language model or by a filter, and how well they agree."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cogvx.errors import UsageError

from ._console import Console, quiet_libraries
from ._data_label_page import PageFlags, export_page, serve_page
from ._label_table import table_rows
from ._language import LanguageFlags, language_spec
from ._options import Device, with_flags
from ._stages import SOURCE_HELP, StageFlags, run_command

if TYPE_CHECKING:
    from cogvx.data.stages.stage import Stage

_LABELS, _REPORT = "Labels", "Report"


@dataclass(frozen=True, kw_only=True)
class LabelFlags(PageFlags, StageFlags, LanguageFlags):
    """The flags of label."""

    labeller: Annotated[
        Literal["lm", "filter"] | None,
        typer.Option(
            "--labeller",
            "--labeler",
            rich_help_panel=_LABELS,
            show_default=False,
            help="Who judges: a vision-language model (lm), or a filter of `cogvx train filter`. Default: filter with "
            "--filter, else lm.",
        ),
    ] = None
    filter_folder: Annotated[
        Path | None,
        typer.Option(
            "--filter",
            metavar="DIR",
            rich_help_panel=_LABELS,
            show_default=False,
            help="The filter: its folder, or the run folder of its training.",
        ),
    ] = None
    features: Annotated[
        Path | None,
        typer.Option(
            "--features",
            metavar="DIR",
            rich_help_panel=_LABELS,
            show_default=False,
            help="With a filter: keep features of frames in this folder, and take them from there.",
        ),
    ] = None
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions",
            metavar="FILE",
            rich_help_panel=_LABELS,
            show_default=False,
            help="With a language model: what it is asked (TOML). Default: the paper's six labels; "
            "--print-questions shows them.",
        ),
    ] = None
    print_questions: Annotated[
        bool,
        typer.Option(
            "--print-questions",
            rich_help_panel=_LABELS,
            show_default=False,
            help="Print the file of questions, to edit.",
        ),
    ] = False
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="LIST", rich_help_panel=_LABELS, show_default=False, help="Only these labels: a,b."
        ),
    ] = None
    frames: Annotated[
        int,
        typer.Option(
            "--frames",
            "--num-frames",
            metavar="N",
            min=1,
            max=256,
            rich_help_panel=_LABELS,
            help="With a language model: frames that it is shown.",
        ),
    ] = 8
    longest: Annotated[
        int,
        typer.Option(
            "--frame-size",
            metavar="N",
            min=32,
            max=8192,
            rich_help_panel=_LABELS,
            help="With a language model: pixels of a frame's longer side, at most.",
        ),
    ] = 512
    device: Device = None
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            rich_help_panel=_REPORT,
            show_default=False,
            help="Judge nothing: compare the labels of MANIFEST with those of --truth.",
        ),
    ] = False
    truth: Annotated[
        str | None,
        typer.Option(
            "--truth", metavar="MANIFEST", rich_help_panel=_REPORT, show_default=False, help="Labels to judge by."
        ),
    ] = None
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="[LABEL=]X",
            rich_help_panel=_REPORT,
            show_default=False,
            help="From which value on a label counts; repeatable. Default: those of --filter, else 0.5.",
        ),
    ] = None
    calibrate: Annotated[
        Literal["accuracy", "balanced", "f1"] | None,
        typer.Option(
            "--calibrate",
            rich_help_panel=_REPORT,
            show_default=False,
            help="Choose the thresholds by the truth, so that this is largest; the accuracy of thresholds chosen on "
            "other sources stands beside.",
        ),
    ] = None


@with_flags(LabelFlags)
def label(
    source: Annotated[str, typer.Argument(metavar="MANIFEST", help=SOURCE_HELP, show_default=False)] = "",
    *,
    flags: LabelFlags,
) -> None:
    r"""Judge each clip of a manifest: how likely it has each of the paper's six faults, from 0 to 1, under `labels`.

    The faults are editing; static (motion does not connect the pictures); lecture; text; screenshot; low_quality. A
    label that was there is replaced in what is written, MANIFEST stays as it is. Some hundred clips that you label on
    a page (--serve, then --export) are enough to train a filter for all others (`cogvx train filter`).

    \b
    Examples:
      cogvx data label clips.jsonl --serve
      cogvx data label clips.jsonl --export labels.sqlite -o mine.jsonl
      cogvx data label clips.jsonl -o labelled.jsonl --lm-url http://localhost:8000/v1
      cogvx data label clips.jsonl -o labelled.jsonl --labeller filter --filter runs/filter
      cogvx data label --report labelled.jsonl --truth mine.jsonl --calibrate accuracy
      cogvx data select labelled.jsonl -o good.jsonl --where "labels.editing < 0.4 and labels.text < 0.5"
    """
    if flags.print_questions:
        _print_questions()
        return
    if not source:
        raise UsageError("name a MANIFEST of clips to label (see `cogvx data label --help`)")
    modes = {"--serve": flags.serve, "--export": flags.export is not None, "--report": flags.report}
    if sum(modes.values()) > 1:
        raise UsageError(f"{' and '.join(name for name, given in modes.items() if given)} exclude each other")
    if flags.report:
        _report(source, flags)
        return
    if flags.serve:
        serve_page(source, flags, labels=_names(flags.labels))
        return
    if flags.export is not None:
        export_page(source, flags)
        return
    for name, value in (("--truth", flags.truth), ("--threshold", flags.threshold), ("--calibrate", flags.calibrate)):
        if value:
            raise UsageError(f"{name} is for --report")
    quiet_libraries()
    run_command(_stage(flags), source, flags)


def _stage(flags: LabelFlags) -> "Stage":
    """Return the stage that judges clips as the flags say."""
    labels = _names(flags.labels)
    labeller = flags.labeller or ("filter" if flags.filter_folder is not None else "lm")
    if labeller == "filter":
        if flags.filter_folder is None:
            raise UsageError("--labeller filter: name the filter with --filter DIR; `cogvx train filter` makes one")
        if flags.questions is not None:
            raise UsageError("--questions is for a language model; a filter answers none")
        from cogvx.curation.label_filter import FilterLabels
        from cogvx.generate.options import choose_device

        return FilterLabels(flags.filter_folder, flags.features, str(choose_device(flags.device)), labels)
    for name, value in (("--filter", flags.filter_folder), ("--features", flags.features)):
        if value is not None:
            raise UsageError(f"{name} is for --labeller filter")
    from cogvx.curation.label_lm import LanguageLabels
    from cogvx.curation.questions import chosen, default_questions, read_questions

    questions = default_questions() if flags.questions is None else read_questions(flags.questions)
    if labels:
        questions = chosen(questions, labels)
    spec = language_spec(flags, default_model="Qwen/Qwen2.5-VL-3B-Instruct")
    return LanguageLabels(spec, questions, flags.frames, flags.longest)


def _report(source: str, flags: LabelFlags) -> None:
    """Print how well labels agree with the truth."""
    from cogvx.curation.label_report import match, report
    from cogvx.data.manifest import read_manifest

    if flags.truth is None:
        raise UsageError("--report: name the manifest with the true labels: --truth TRUTH.jsonl")
    if flags.calibrate is not None and flags.threshold:
        raise UsageError("--calibrate chooses the thresholds; leave --threshold out")
    labels = _names(flags.labels)
    found, truth = (read_manifest(path, root=flags.root) for path in (source, flags.truth))
    judged, count = match(found, truth, labels=labels)
    thresholds = _thresholds(flags, [one.label for one in judged])
    result = report(judged, thresholds=thresholds, objective=flags.calibrate, num_clips=count)
    console = Console(quiet=flags.quiet, json=flags.json)
    if flags.json:
        console.result("", result)
        return
    header, rows = table_rows(result["per_label"])
    console.table(rows, header=header)
    if flags.calibrate is not None:
        values = result["protocol"]["thresholds"]
        chosen = " and ".join(f"labels.{name} < {value:.4g}" for name, value in values.items() if value <= 1)
        console.note(f'thresholds chosen on these clips; to keep those without: --where "{chosen}"')


def _thresholds(flags: LabelFlags, labels: list[str]) -> dict[str, float]:
    """Return label -> threshold: those of the filter, then those that the flags give."""
    values: dict[str, float] = {}
    if flags.filter_folder is not None:
        from cogvx.checkpoints.clip_filter import load_filter

        values.update(load_filter(flags.filter_folder).config.thresholds)
    for text in flags.threshold or ():
        name, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1 or (equals and name not in labels):
            known = ", ".join(labels)
            raise UsageError(f"--threshold {text}: write a number from 0 to 1, or LABEL=X with one of {known}")
        values.update({name: value} if equals else dict.fromkeys(labels, value))
    return values


def _names(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError(f"--labels {text}: name some, as in --labels editing,text")
    return names


def _print_questions() -> None:
    """Print the file of questions as it comes with cogvx."""
    import importlib.resources
    import sys

    text: Any = importlib.resources.files("cogvx.curation").joinpath("questions.toml").read_text(encoding="utf-8")
    sys.stdout.write(text)
