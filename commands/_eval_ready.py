"""Whether what the steps of a suite need is here: found out before the first of them runs."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogvx.errors import CogvxError, InputError, MissingError, UsageError
from cogvx.files import clean

from . import _errors

if TYPE_CHECKING:
    from cogvx.evaluation.suites import Plan, Step
    from cogvx.language.ask import LanguageSpec


@dataclass(frozen=True)
class Problem:
    """Something that stands against a step.

    Attributes:
        step: Which.
        error: What.
    """

    step: "Step"
    error: CogvxError


def parse_step(step: "Step", place: Callable[[str], str]) -> dict[str, Any]:
    """Return the values that the command line makes of a step's arguments; nothing is run.

    Args:
        step: With its arguments.
        place: Gives the place of a key of the suite, for the error.

    Raises:
        UsageError: There is no such flag (the nearest is named), or a value does not fit.
    """
    import typer.main

    from . import app

    command: Any = typer.main.get_command(app)
    context = None
    name, rest = "cogvx", list(step.arguments)
    try:
        while True:
            context = command.make_context(name, rest, parent=context)
            if not hasattr(command, "resolve_command"):
                return dict(context.params)
            rest = [*getattr(context, "_protected_args", []), *context.args]
            name, command, rest = command.resolve_command(context, rest)
    except Exception as error:
        _, message = _errors.describe(error)
        if message is None:
            raise
        raise UsageError(f"{place(step.key)}: {step.key}: {message}") from error


def find_problems(plan: "Plan", values: dict[str, dict[str, Any]], *, offline: bool) -> Iterator[Problem]:
    """Yield what stands against the steps of a plan: files, models, networks, packages and keys that are not here.

    Args:
        plan: The steps.
        values: Step -> what parse_step gave.
        offline: Download nothing, not even a model that the run would download.
    """
    made = [step.makes for step in plan.steps]
    asked: dict[str, CogvxError | None] = {}
    with _offline() if offline else contextlib.nullcontext():
        for step in plan.steps:
            error = _missing_file(step, made)
            check = _CHECKS.get(_what(step))
            if error is None and check is not None:
                # Steps of several systems ask for the same networks.
                flags = {key: value for key, value in values[step.name].items() if key not in _NOT_ASKED}
                key = f"{_what(step)} {sorted(flags.items(), key=str)}"
                if key not in asked:
                    asked[key] = _tried(check, values[step.name])
                error = asked[key]
            if error is not None:
                yield Problem(step, error)


_NOT_ASKED = {"source", "real", "fake", "folder", "results", "output", "prompts", "decoded", "inputs", "clips", "title"}


def _what(step: "Step") -> str:
    words = step.arguments[1:3] if step.arguments[0] == "eval" else step.arguments[:1]
    return " ".join(words) if words[0] in ("vbench", "sample") else words[0]


def _missing_file(step: "Step", made: list[str]) -> CogvxError | None:
    for name in step.reads:
        inside = any(name == one or name.startswith(f"{one}/") for one in made)
        if not inside and not Path(name).exists():
            return InputError(f"{name}: no such file or folder")
    return None


def _tried(check: Callable[[dict[str, Any]], None], values: dict[str, Any]) -> CogvxError | None:
    try:
        check(values)
    except Exception as error:
        code, message = _errors.describe(error)
        if message is None:
            raise
        return error if isinstance(error, CogvxError) else MissingError(message)
    return None


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _flags(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**{item.name: values[item.name] for item in fields(kind) if item.name in values})


def _sample(values: dict[str, Any]) -> None:
    """Check model, options and size, of one prompt in place of all."""
    from ._jobs import Job
    from ._options import GenerateFlags
    from ._plan import make_runtime, open_session, plan_clips
    from ._upsample import open_upsampler

    flags = _flags(GenerateFlags, values)
    session = open_session("sample", flags, default_model="tiny", many=True)
    planned: Any = plan_clips(session, [Job("a prompt", "a prompt")])
    for one in planned:
        if isinstance(one, Job) and one.error is not None:
            raise one.error
    make_runtime(session, planned)
    if flags.upsample:
        preset = session.resolved.preset
        lm = "storyboard" if preset is not None and preset.repo is None else ""
        open_upsampler(flags, session.console, folder=session.folder, preset="t2v", lm=lm)


def _fvd(values: dict[str, Any]) -> None:
    from cogvx.evaluation.features import open_video_network

    from ._eval_fvd import FvdFlags, network_spec

    open_video_network(network_spec(_flags(FvdFlags, values)))


def _clip(values: dict[str, Any]) -> None:
    from cogvx.evaluation.features.text_video import open_text_video

    from ._eval_clip import ClipFlags, network_spec

    open_text_video(network_spec(_flags(ClipFlags, values)))


def _reconstruction(values: dict[str, Any]) -> None:
    from cogvx.evaluation.reconstruction import open_measures
    from cogvx.presets import resolve

    from ._eval_reconstruction import ReconstructionFlags

    flags = _flags(ReconstructionFlags, values)
    if flags.model is not None:
        resolve(flags.model)
    open_measures(with_st_lpips=flags.st_lpips, with_lpips=flags.lpips)


def _vbench_score(values: dict[str, Any]) -> None:
    from cogvx.evaluation.vbench.suite import check_dimensions, find_full_info, read_suite

    from ._eval_vbench_score import Networks, ScoreFlags

    flags = _flags(ScoreFlags, values)
    read_suite(find_full_info(flags.full_info))
    opened = Networks(flags)
    for name in check_dimensions(flags.dimensions):
        opened.dimension(name)


def _vbench_prompts(values: dict[str, Any]) -> None:
    from cogvx.evaluation.vbench.suite import check_dimensions, find_full_info, read_suite

    check_dimensions(values["dimensions"])
    read_suite(find_full_info(values["full_info"]))


def _vbench_official(values: dict[str, Any]) -> None:
    _vbench_prompts(values)
    python = values["vbench_python"]
    if python is not None and not Path(python).is_file():
        raise InputError(f"--vbench-python {python}: no such file")


def _mtscore(values: dict[str, Any]) -> None:
    from cogvx.language.ask import open_language_model

    from ._eval_mtscore import MtscoreFlags
    from ._language import language_spec

    spec = language_spec(_flags(MtscoreFlags, values))
    open_language_model(spec)
    if spec.engine == "openai":
        _reach(spec)


def _reach(spec: "LanguageSpec") -> None:
    """Knock at an endpoint, without asking it anything.

    Raises:
        MissingError: Nobody answers.
    """
    import socket
    from urllib.parse import urlsplit

    from cogvx.language.openai_client import base_url

    parts = urlsplit(base_url(spec))
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except OSError as error:
        host = clean(parts.netloc.rpartition("@")[2])
        raise MissingError(f"nobody answers at {host}: {error.strerror or error}") from error


def _dynamics(values: dict[str, Any]) -> None:
    from cogvx.data.signals.signal import need

    need("cv2", extra="data", what="eval dynamics")


def _report(values: dict[str, Any]) -> None:
    from cogvx.evaluation.report import check_plotting

    if values["png"]:
        check_plotting()


_CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "sample": _sample,
    "fvd": _fvd,
    "clip": _clip,
    "reconstruction": _reconstruction,
    "vbench score": _vbench_score,
    "vbench prompts": _vbench_prompts,
    "vbench official": _vbench_official,
    "mtscore": _mtscore,
    "dynamics": _dynamics,
    "report": _report,
}
