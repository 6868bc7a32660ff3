"""From flags to a plan: which model, which options and place for each clip; all checked before weights load."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogvx.errors import CogvxError, InputError, UsageError

from ._console import Console
from ._jobs import Job
from ._options import GenerateFlags, model_name
from ._outputs import CLIP_SUFFIXES, LATENT_SUFFIXES, Place, check_output, place

if TYPE_CHECKING:
    from torch import Tensor

    from cogvx.checkpoints.model_folder import ModelFolder
    from cogvx.generate.options import GenerateOptions, Runtime
    from cogvx.generate.provenance import UsedFile
    from cogvx.generate.sizes import SizeRules
    from cogvx.presets import Defaults, ResolvedModel

# Our name of an option -> the flag's.
_FLAG_OF = {"num_frames": "frames", "num_steps": "steps", "guidance_scale": "guidance"}


@dataclass(frozen=True)
class Session:
    """What all clips of one call share.

    Attributes:
        command: "sample", "i2v" or "v2v".
        flags: As given.
        console: Where words go.
        like: The record of the clip that is repeated, or empty.
        resolved: Where the model lies.
        folder: The model.
        defaults: What it does by default.
        rules: Sizes that it can do.
        noise: (c t h w) to start from, or None.
        loras: Path and weight of each adapter.
        many: Whether prompts came as a list, so that --output is a folder.
    """

    command: str
    flags: GenerateFlags
    console: Console
    like: Mapping[str, Any]
    resolved: "ResolvedModel"
    folder: "ModelFolder"
    defaults: "Defaults"
    rules: "SizeRules"
    noise: "Tensor | None" = None
    loras: tuple[tuple[Path, float], ...] = ()
    many: bool = False

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What the names of results may end in."""
        return LATENT_SUFFIXES if self.flags.output_type == "latents" else CLIP_SUFFIXES


@dataclass(frozen=True)
class Planned:
    """One clip to make.

    Attributes:
        job: What asked for it.
        options: What to make.
        fps: Of the file.
        place: Where it goes.
        upsampled: How its prompt was rewritten, if it was.
    """

    job: Job
    options: "GenerateOptions"
    fps: float
    place: Place
    upsampled: Mapping[str, Any] | None = None


def open_session(command: str, flags: GenerateFlags, *, default_model: str, many: bool = False) -> Session:
    """Find the model and read its configuration, the clip of --like, and the noise of --latents.

    Args:
        command: "sample", "i2v" or "v2v".
        flags: As given.
        default_model: What is taken when nothing names a model.
        many: Whether prompts come as a list.

    Raises:
        UsageError: The model is of the wrong kind for the command, or --like lacks something that is not in the clip.
    """
    from cogvx.checkpoints.diffusers import open_model
    from cogvx.data.latents import load_latents
    from cogvx.generate.sizes import SizeRules
    from cogvx.presets import read_defaults, resolve

    console = Console(flags.quiet, flags.verbose, flags.json, silent_stdout=flags.output == "-" and not flags.dry_run)
    like = read_like(flags, command) if flags.like else {}
    name = model_name(flags.model or like.get("model"), default=default_model)
    resolved = resolve(name, announce=console.note)
    folder = open_model(resolved.path, shared=dict(resolved.shared), allow_pickle=flags.allow_pickle)
    _check_kind(command, folder, resolved.name)
    rules = SizeRules.of(folder.vae_config, folder.transformer_config)
    console.detail(f"model {resolved.name}: {folder.layout} layout, {folder.class_name}, in {resolved.path}")
    loras = tuple(parse_lora(text) for text in flags.lora)
    return Session(
        command=command,
        flags=flags,
        console=console,
        like=like,
        resolved=resolved,
        folder=folder,
        defaults=_possible(read_defaults(folder.configs), rules),
        rules=rules,
        noise=load_latents(flags.latents)[0].float() if flags.latents else None,
        loras=loras,
        many=many,
    )


def _possible(defaults: "Defaults", rules: "SizeRules") -> "Defaults":
    """Return defaults that the model can do, where its configuration names a size that it cannot."""
    height, width = rules.fixed or (rules.floor_size(defaults.height), rules.floor_size(defaults.width))
    return replace(defaults, height=height, width=width, num_frames=rules.floor_frames(defaults.num_frames))


def read_like(flags: GenerateFlags, command: str) -> dict[str, Any]:
    """Read how the clip of --like was made, and check that what it does not contain is given again.

    Raises:
        InputError: The clip does not say how it was made.
        UsageError: It was made by another command, or from a folder or file that must be named again.
    """
    from cogvx.data.video import probe
    from cogvx.generate.provenance import parse
    from cogvx.presets import is_name

    source = str(flags.like)
    like = parse(probe(source).comment, source=source)
    if like.get("command") != command:
        raise UsageError(f"{source} was made by `cogvx {like.get('command')}`: repeat it with that")
    if flags.model is None and not is_name(str(like.get("model"))):
        raise UsageError(f"{source} was made with the model in a folder {like.get('model')}: name it with --model")
    if like.get("loras") and not flags.lora:
        names = ", ".join(f"{lora['name']}:{lora.get('weight', 1)}" for lora in like["loras"])
        raise UsageError(f"{source} was made with a LoRA ({names}): pass it with --lora")
    noise = like.get("inputs", {}).get("latents")
    if noise and flags.latents is None and flags.seed is None:
        raise UsageError(f"{source} was made from the noise in {noise['name']}: pass it with --latents")
    return like


def compare_input(session: Session, name: str, used: "UsedFile") -> None:
    """Warn when an input is not the one that made the clip of --like."""
    recorded = (session.like.get("inputs") or {}).get(name)
    if recorded and recorded.get("sha256") != used.sha256:
        session.console.warn(f"{used.name} is not the {name} that {session.flags.like} was made from")


def _check_kind(command: str, folder: "ModelFolder", name: str) -> None:
    takes_image = folder.transformer_config.in_channels > folder.vae_config.latent_channels
    if "FunControl" in folder.class_name:
        raise UsageError(f"{name} is a Fun-Control model, which cogvx cannot run")
    if command == "i2v" and not takes_image:
        raise UsageError(
            f"{name} takes no image; i2v needs an image-to-video model, such as --model tiny-i2v or 5b-i2v"
        )
    if command != "i2v" and takes_image:
        raise UsageError(f"{name} is an image-to-video model: use `cogvx i2v IMAGE PROMPT`, or another --model")


def parse_lora(text: str) -> tuple[Path, float]:
    """Split FILE[:WEIGHT]; a name that contains a colon is taken whole when such a file exists.

    Raises:
        UsageError: The weight is no number.
        InputError: The file is not there.
    """
    name, _, number = text.rpartition(":")
    if not name or Path(text).exists() or os.sep in number:
        name, number = text, "1"
    try:
        weight = float(number)
    except ValueError as error:
        raise UsageError(f"--lora {text}: the weight after the colon must be a number, got {number!r}") from error
    if not Path(name).exists():
        raise InputError(f"--lora {name}: no such file")
    return Path(name), weight


def plan_clips(session: Session, jobs: list[Job], *, base: Mapping[str, Any] | None = None) -> list["Planned | Job"]:
    """Return one entry a clip, in order; a job that cannot be used comes back with its error.

    Args:
        session: What all share.
        jobs: What is asked.
        base: Defaults that come from the input, such as the size of a clip; they stand behind flags and --like.
    """
    videos = session.flags.num_videos or 1
    count = videos * len(jobs)
    check_output(session.flags.output, count=count)
    planned: list[Planned | Job] = []
    for job in jobs:
        try:
            if job.error is not None:
                raise job.error
            planned += [_plan(session, job, index, count=count, base=base or {}) for index in range(videos)]
        except CogvxError as error:
            if len(jobs) == 1:
                raise
            planned.append(replace(job, error=error))
    _refuse_collisions(planned)
    return planned


def _plan(session: Session, job: Job, index: int, *, count: int, base: Mapping[str, Any]) -> Planned:
    from cogvx.files import output_name

    options, fps = options_for(session, job, index, base=base)
    decisive = [session.resolved.name, asdict(options), fps, session.flags.lora, session.flags.output_type]
    if (
        session.flags.upsample
    ):  # the name is made of the prompt as it came, so that nobody is asked for a clip that is there
        decisive.append([session.flags.lm, session.flags.lm_model, session.flags.preset])
    described = json.dumps(decisive)
    slug = output_name(options.prompt, options.seed, "")[: -len("-12345678")]
    name = f"{slug}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"
    own = job.output
    if own is not None and index:
        own = str(Path(own).with_stem(f"{Path(own).stem}-{index}"))
    plain = session.flags.output_type != "latents"
    where = place(
        session.flags.output, name, count=count, suffixes=session.suffixes, many=session.many, own=own, plain=plain
    )
    like = session.like
    upsampled = job.upsampled or (like.get("upsampled") if options.prompt == like.get("prompt") else None)
    return Planned(job, options, fps, where, upsampled)


def options_for(session: Session, job: Job, index: int, *, base: Mapping[str, Any]) -> "tuple[GenerateOptions, float]":
    """Return the options of a job's clip number `index`: from its row, flags, --like, its input, or the model."""
    from cogvx.generate.options import GenerateOptions

    own = {"negative_prompt": "", "seed": 0, "strength": 1.0, "image_latent_scale": "auto", **asdict(session.defaults)}
    given = {key: getattr(session.flags, _FLAG_OF.get(key, key), None) for key in own}
    given = {key: value for key, value in given.items() if value is not None and key != "dtype"}
    from_noise = _size_of_noise(session) if session.noise is not None else {}
    merged = {**own, **from_noise, **base, **_only(session.like, own), **given, **job.settings}
    prompt = job.prompt if job.prompt is not None else session.like.get("prompt")
    if prompt is None:
        raise UsageError("no prompt; give one, a file with --prompts, or a clip to repeat with --like")
    if not prompt.strip():
        raise InputError("the prompt is empty")
    merged["seed"] += index
    known = {item.name for item in fields(GenerateOptions)}
    options = GenerateOptions(prompt=prompt, **{key: value for key, value in merged.items() if key in known})
    session.rules.check(height=options.height, width=options.width, num_frames=options.num_frames)
    return replace(options, tiled=_is_tiled(session, options)), float(merged["fps"])


def _is_tiled(session: Session, options: "GenerateOptions") -> bool:
    from cogvx.generate.estimate import needs_tiles

    if session.flags.vae_tiling is None and "tiled" in session.like:
        return bool(session.like["tiled"])
    if session.flags.vae_tiling in (None, "auto"):
        return needs_tiles(options, vae=session.folder.vae_config)
    return session.flags.vae_tiling == "on"


def _only(record: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in known if record.get(key) is not None}


def _size_of_noise(session: Session) -> dict[str, int]:
    """The size of the clip that the noise of --latents is for."""
    rules, noise = session.rules, session.noise
    assert noise is not None
    _, t, h, w = noise.shape
    latents = t - 1 if rules.temporal_patch > 1 else t
    frames = (latents - 1) * rules.temporal_ratio + 1
    return {"num_frames": frames, "height": h * rules.spatial_ratio, "width": w * rules.spatial_ratio}


def _refuse_collisions(planned: "list[Planned | Job]") -> None:
    seen: dict[Path, str] = {}
    for item in planned:
        path = item.place.path if isinstance(item, Planned) else None
        if isinstance(item, Planned) and path is not None:
            if path in seen and seen[path] != item.options.prompt:
                raise UsageError(f"two prompts would be written to {path}; give each row its own output")
            seen[path] = item.options.prompt


def make_runtime(session: Session, planned: "list[Planned]") -> "Runtime":
    """Choose device, precision and memory mode for the clips of a call, the largest of them deciding."""
    from cogvx.generate.estimate import choose_memory, count_parameters
    from cogvx.generate.options import Runtime, choose_device, choose_dtype

    flags = session.flags
    machine = session.like.get("machine", {})
    device = choose_device(flags.device)
    dtype = choose_dtype(flags.dtype or machine.get("dtype"), device=device, native=session.defaults.dtype)
    runtime = Runtime(device=device, dtype=dtype, attention=flags.attention or machine.get("attention") or "auto")
    if flags.memory is not None and flags.memory != "auto":
        return replace(runtime, memory=flags.memory)
    largest = max(planned, key=lambda item: item.options.height * item.options.width * item.options.num_frames).options
    vae, transformer = session.folder.vae_config, session.folder.transformer_config
    parameters = count_parameters(session.folder.configs)
    return replace(
        runtime, memory=choose_memory(largest, runtime, parameters=parameters, vae=vae, transformer=transformer)
    )
