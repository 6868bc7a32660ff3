"""The work of sample, i2v and v2v: make each planned clip, write it with its record, go on after a failure."""

import hashlib
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cogvx.errors import CogvxError

from . import _errors
from ._jobs import Job
from ._outputs import write_stdout
from ._plan import Planned, Session, make_runtime

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from cogvx.generate.generator import Generated, Generator
    from cogvx.generate.options import GenerateOptions, Runtime
    from cogvx.generate.provenance import UsedFile


@dataclass(frozen=True)
class Start:
    """What a clip starts from, besides noise.

    Attributes:
        image: (3 h w) in [-1, 1].
        clip: (3 t h w) in [-1, 1].
        inputs: Which files they came from.
        captioned: How the prompt was made from the clip, if it was.
    """

    image: "Tensor | None" = None
    clip: "Tensor | None" = None
    inputs: "Mapping[str, UsedFile] | None" = None
    captioned: Mapping[str, Any] | None = None


def make_clips(
    session: Session,
    planned: "list[Planned | Job]",
    start: Callable[[Planned], Start],
    *,
    look: "Callable[[Planned], np.ndarray | None]" = lambda item: None,
) -> None:
    """Make the clips of a plan that are not there yet.

    Args:
        session: What all share.
        planned: The plan; jobs in it are those that could not be planned.
        start: Gives what a clip starts from; called when its turn comes.
        look: Gives the picture that it starts with, uint8 (h w 3), to a language model that rewrites prompts.

    Raises:
        typer.Exit: With 3, when some clips of several failed.
    """
    console, flags = session.console, session.flags
    clips = [item for item in planned if isinstance(item, Planned)]
    if clips and flags.dry_run:
        _print_plan(session, clips, make_runtime(session, clips))
    todo = [item for item in clips if not flags.dry_run and not _is_done(session, item)]
    failed = 0
    for item in planned:
        if isinstance(item, Job) and item.error is not None:
            console.failure(item.label, item.error, str(item.error))
            failed += 1
    if todo and flags.upsample:
        todo, left_out = _upsample(session, todo, look, alone=len(planned) == 1)
        failed += left_out
    if todo:
        failed += _make_all(session, todo, start, alone=len(planned) == 1)
    if failed:
        console.note(f"{failed} of {len(planned)} failed")
        raise typer.Exit(3)


def _is_done(session: Session, item: Planned) -> bool:
    path = item.place.path
    if path is None or session.flags.overwrite or not item.place.exists:
        return False
    session.console.note(f"{path} exists and is kept; --overwrite replaces it")
    record = {"output": str(path), "input": item.job.prompt, "seed": item.options.seed, "skipped": True}
    session.console.result(path, record)
    return True


def _upsample(
    session: Session, todo: list[Planned], look: "Callable[[Planned], np.ndarray | None]", *, alone: bool
) -> tuple[list[Planned], int]:
    """Rewrite the prompts of clips; return those that can go on, and how many cannot."""
    from cogvx.language.upsampling.rewrite import HopelessError, Rewritten

    from ._upsample import open_upsampler, rewrite_all, shrunk

    console, preset = session.console, session.resolved.preset
    asked: dict[tuple[str, str | None], Planned] = {}
    for item in todo:
        if not _is_replayed(session, item):
            asked.setdefault((item.options.prompt, item.job.image), item)
    if not asked:
        return todo, 0
    upsampler = open_upsampler(
        session.flags,
        console,
        folder=session.folder,
        preset="i2v" if session.command == "i2v" else "t2v",
        lm="storyboard" if preset is not None and preset.repo is None else "",
    )

    def picture(item: Planned) -> "np.ndarray | None":
        pixels = look(item)
        return None if pixels is None else shrunk(pixels)

    jobs = [(item, item.options.prompt) for item in asked.values()]
    made: dict[tuple[str, str | None], Rewritten] = {}
    with console.progress("upsample") as report:
        for number, (item, future) in enumerate(rewrite_all(upsampler, jobs, picture, fallback=session.flags.fallback)):
            report("prompt", number, len(jobs))
            try:
                found = made[item.options.prompt, item.job.image] = future.result()
                for note in (*found.notes, *([f"left as it was: {found.fallback}"] if found.fallback else [])):
                    console.note(f"{item.options.prompt[:60]}: {note}")
                console.note(f"upsampled: {found.text}")
            except Exception as error:
                _, message = _errors.describe(error)
                if alone or message is None or isinstance(error, HopelessError):
                    raise
                console.failure(item.job.label, error, message)
    ready: list[Planned] = []
    for item in todo:
        new = made.get((item.options.prompt, item.job.image))
        if new is not None:
            ready.append(replace(item, options=replace(item.options, prompt=new.text), upsampled=new.record()))
        elif _is_replayed(session, item):
            ready.append(item)
    return ready, len(todo) - len(ready)


def _is_replayed(session: Session, item: Planned) -> bool:
    """Whether a clip has the rewritten prompt of the one that it repeats."""
    return item.job.prompt is None and bool(session.like.get("upsampled"))


def _make_all(session: Session, todo: list[Planned], start: Callable[[Planned], Start], *, alone: bool) -> int:
    """Make clips one after another; return how many failed."""
    from cogvx.data.video import check_writable
    from cogvx.generate.generator import Generator
    from cogvx.generate.parts import StoredParts
    from cogvx.generate.provenance import weight_hashes

    console = session.console
    runtime = make_runtime(session, todo)
    for item in todo:
        if item.place.path is not None and session.flags.output_type != "latents":
            size = item.options.height, item.options.width
            check_writable(item.place.path, *size, overwrite=session.flags.overwrite)
    console.detail(f"{runtime.device}, {runtime.dtype}, memory mode {runtime.memory}, attention {runtime.attention}")
    parts = StoredParts(session.folder, runtime, loras=_read_loras(session))
    for warning in parts.warnings:
        console.warn(warning)
    generator = Generator(
        parts, vae=session.folder.vae_config, transformer=session.folder.transformer_config, runtime=runtime
    )
    hashes = {} if session.flags.no_metadata else weight_hashes(session.folder)
    _compare_weights(session, hashes)
    _note_world(session, todo)
    guided = [item.options for item in todo if item.options.guided]
    prompts = [item.options.prompt for item in todo] + [options.negative_prompt for options in guided]
    generator.embed(prompts)
    for prompt, tokens in generator.cut_prompts.items():
        limit = session.folder.max_text_length
        console.note(f"the prompt has {tokens} tokens and the model reads the first {limit}: {prompt[:60]}...")
    failed = 0
    for number, item in enumerate(todo, start=1):
        try:
            _make_one(session, generator, item, start(item), hashes, number=number, total=len(todo))
        except Exception as error:
            code, message = _errors.describe(error)
            if alone or message is None or _errors.is_disk_full(error):
                raise
            parts.release()
            console.failure(item.job.label, error, message)
            failed += 1
            if code == 4 and not isinstance(error, CogvxError):
                console.detail("memory was short; going on with the next clip")
    return failed


def _make_one(
    session: Session,
    generator: "Generator",
    item: Planned,
    start: Start,
    hashes: Mapping[str, str],
    *,
    number: int,
    total: int,
) -> None:
    began = time.perf_counter()
    title = f"{number}/{total} {item.options.prompt}" if total > 1 else item.options.prompt
    latents_only = session.flags.output_type == "latents"
    with session.console.progress(title) as report:
        made = generator.generate(
            item.options,
            image=start.image,
            clip=start.clip,
            noise=session.noise,
            decode=not latents_only,
            report=report,
        )
    record = _record(session, generator.runtime, item, start, made, hashes)
    _write(session, item, made, record)
    seconds = round(time.perf_counter() - began, 3)
    keys = ("prompt", "negative_prompt", "seed", "num_frames", "height", "width", "fps", "num_steps", "frames_sha256")
    result = {"output": str(item.place.path or "-"), "model": session.resolved.name, "seconds": seconds}
    if "upsampled" in record:
        result["upsampled"] = record["upsampled"]
    session.console.result(item.place.path, result | {key: record[key] for key in keys})


def _record(
    session: Session, runtime: "Runtime", item: Planned, start: Start, made: "Generated", hashes: Mapping[str, str]
) -> dict[str, Any]:
    from cogvx.checkpoints.lora import find_lora
    from cogvx.data.video import frames_sha256
    from cogvx.generate.provenance import UsedFile, make_record

    inputs = dict(start.inputs or {})
    if session.flags.latents is not None:
        inputs["latents"] = UsedFile.of(session.flags.latents)
    record = make_record(
        item.options,
        runtime,
        command=session.command,
        model=session.resolved.name,
        weights=hashes,
        fps=item.fps,
        frames_sha256=None if made.frames is None else frames_sha256(made.frames),
        loras=[UsedFile.of(find_lora(path), weight=weight) for path, weight in session.loras],
        inputs=inputs,
        upsampled=item.upsampled,
    )
    return record if start.captioned is None else record | {"captioned": dict(start.captioned)}


def _write(session: Session, item: Planned, made: "Generated", record: Mapping[str, Any]) -> None:
    from cogvx.data.latents import latents_bytes, save_latents
    from cogvx.data.video import encode_clip_bytes, write_clip
    from cogvx.generate.provenance import dump

    flags, path = session.flags, item.place.path
    comment = None if flags.no_metadata else dump(record)
    if made.frames is None:
        about: dict[str, Any] = {"model": session.resolved.name, "fps": item.fps, "num_frames": item.options.num_frames}
        about |= {"height": item.options.height, "width": item.options.width, "source": comment or session.command}
        if path is None:
            write_stdout(latents_bytes(made.latents, **about))
        else:
            save_latents(path, made.latents, **about, overwrite=flags.overwrite)
    elif path is None:
        write_stdout(encode_clip_bytes(made.frames, item.fps, suffix=item.place.suffix, comment=comment))
    else:
        write_clip(path, made.frames, item.fps, comment=comment, overwrite=flags.overwrite)


def _read_loras(session: Session) -> list[tuple[Any, float]]:
    from cogvx.checkpoints.lora import read_lora

    allow_pickle = session.flags.allow_pickle
    return [(read_lora(path, allow_pickle=allow_pickle), weight) for path, weight in session.loras]


def _compare_weights(session: Session, hashes: Mapping[str, str]) -> None:
    recorded = session.like.get("weights") or {}
    changed = [name for name, value in hashes.items() if recorded.get(name, value) != value]
    if changed:
        names = ", ".join(changed)
        session.console.warn(f"{session.resolved.name}: {names} differ from those that made {session.flags.like}")


def _note_world(session: Session, todo: list[Planned]) -> None:
    """Say in one line what the embedded model knows, when a prompt asks for more."""
    from cogvx.generate.world import outside_world

    preset = session.resolved.preset
    if preset is None or preset.repo is not None:
        return
    strange = list(dict.fromkeys(word for item in todo for word in outside_world(item.options.prompt)))
    if strange:
        listed = ", ".join(strange[:5]) + (" ..." if len(strange) > 5 else "")
        session.console.note(
            f"{preset.name} knows simple drawn scenes only (shapes, cars, boats, fish, trees, people, in plain colours "
            f"and motions), not: {listed}; for anything else take --model {'5b-i2v' if preset.task == 'i2v' else '5b'}"
        )


def _print_plan(session: Session, clips: list[Planned], runtime: "Runtime") -> None:
    from dataclasses import asdict

    from cogvx.files import free_bytes
    from cogvx.generate.estimate import count_parameters, estimate, estimate_seconds, free_memory
    from cogvx.generate.options import dtype_name

    vae, transformer = session.folder.vae_config, session.folder.transformer_config
    parameters = count_parameters(session.folder.configs)
    for item in clips:
        options = item.options
        cost = estimate(options, runtime, parameters=parameters, vae=vae, transformer=transformer)
        seconds = estimate_seconds(options, cost, runtime, transformer=transformer, vae=vae)
        where = str(item.place.path or "-")
        kept = item.place.exists and not session.flags.overwrite
        record: dict[str, Any] = {"output": where, "exists": item.place.exists, "model": session.resolved.name}
        record |= {**asdict(options), "fps": item.fps, **cost.to_dict(), "seconds": round(seconds, 1)}
        record |= {"device": str(runtime.device), "dtype": dtype_name(runtime.dtype), "memory": runtime.memory}
        record |= {
            "free_memory_bytes": free_memory(runtime.device),
            "free_disk_bytes": free_bytes(item.place.path or "."),
        }
        text = (
            f"{where}: {'exists, kept; ' if kept else ''}{session.resolved.name}, {options.width}x{options.height}, "
            f"{options.num_frames} frames at {item.fps:g} fps, seed {options.seed}, {options.num_steps} steps "
            f"({options.scheduler}, guidance {options.guidance_scale:g} {options.dynamic_guidance}), "
            f"{cost.tokens} tokens; {runtime.device} {dtype_name(runtime.dtype)}, memory {runtime.memory}: "
            f"peak about {_size(cost.peak_bytes)} of {_size(record['free_memory_bytes'])} free, "
            f"about {_time(seconds)}, about {_size(cost.disk_bytes)} on disk"
        )
        session.console.result(text, record)


def _size(num_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 1e3:.0f} kB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def used(source: str, read: Callable[[Path | bytes], Any], name: str) -> "tuple[Any, UsedFile]":
    """Read an input from a path or from stdin ("-"), and say which it was for the record.

    Args:
        source: The path, or "-".
        read: Makes something of the path, or of stdin's bytes.
        name: What the record calls bytes that have no name.
    """
    from cogvx.generate.provenance import UsedFile

    if source == "-":
        data = sys.stdin.buffer.read()
        return read(data), UsedFile(name, hashlib.sha256(data).hexdigest())
    path = Path(source)
    value = read(path)
    return value, UsedFile.of(path) if path.is_file() else UsedFile(path.name, "")


def note_stretch(session: Session, source: str, got: tuple[int, int], options: "GenerateOptions") -> None:
    """Say that an input is resized, when that changes its proportions."""
    (height, width), wanted = got, (options.height, options.width)
    if abs(math.log(width * wanted[0] / (height * wanted[1]))) > 0.02:
        session.console.note(
            f"{source} is {width}x{height} and is stretched to {wanted[1]}x{wanted[0]}; "
            "--height and --width choose another size, where the model has one"
        )
