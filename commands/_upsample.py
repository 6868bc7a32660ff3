"""The work of `cogvx upsample`, and of --upsample where clips are made."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cogvx.errors import CogvxError, InputError, UsageError

from . import _errors
from ._console import Console, quiet_libraries
from ._jobs import Job, read_jobs
from ._language import UpsampleFlags, announcer, language_spec
from ._parallel import in_order

if TYPE_CHECKING:
    import numpy as np

    from cogvx.checkpoints.model_folder import ModelFolder
    from cogvx.language.upsampling.rewrite import Rewritten, Upsampler

# The longer side of a picture that is sent to a language model; more is seldom looked at.
_LONGEST_SIDE = 1024
_WORKERS = 8


def open_upsampler(
    flags: UpsampleFlags, console: Console, *, folder: "ModelFolder | None" = None, preset: str = "t2v", lm: str = ""
) -> "Upsampler":
    """Open what rewrites prompts.

    Args:
        flags: As given.
        console: Where warnings go.
        folder: The model that reads the prompts; its tokenizer counts, and its length is the limit.
        preset: What is taken when no preset is named.
        lm: Who is asked when nobody is named; empty: an endpoint.

    Raises:
        CogvxError: See language_spec, open_language_model and read_preset.
    """
    from cogvx.language.upsampling.preset import read_preset
    from cogvx.language.upsampling.rewrite import LanguageUpsampler

    chosen = flags.lm or (lm if flags.lm_model is None and flags.lm_url is None else "")
    if chosen == "storyboard":
        from cogvx.language.upsampling.storyboard import StoryboardUpsampler

        if flags.preset is not None:
            raise UsageError("--lm storyboard follows rules and takes no --preset")
        return StoryboardUpsampler()
    from cogvx.language.ask import open_language_model

    asked = read_preset(flags.preset or preset)  # before the model is loaded
    count, most = _counter(folder) if folder is not None else (None, None)
    model = open_language_model(language_spec(flags), announce=announcer(console.warn, console.note))
    return LanguageUpsampler(model, asked, count_tokens=count, most_tokens=most)


def _counter(folder: "ModelFolder") -> tuple[Callable[[str], int], int]:
    """What counts the tokens of a model's prompts, and how many it reads."""
    import torch

    from cogvx.models.text_encoder import TextEncoder

    encoder = TextEncoder(folder.load_tokenizer(), torch.nn.Identity(), folder.max_text_length)
    return encoder.num_tokens, folder.max_text_length


def rewrite_all(
    upsampler: "Upsampler",
    jobs: list[tuple[Any, str]],
    look: "Callable[[Any], np.ndarray | None]",
    *,
    fallback: str,
) -> "Iterator[tuple[Any, Future[Rewritten]]]":
    """Yield each job with what its prompt became, in order, or with the error in its future.

    Args:
        upsampler: What rewrites.
        jobs: Anything, with its prompt.
        look: Gives a job's picture, uint8 (h w 3).
        fallback: "original": what cannot be rewritten stays as it is, and the result says so.
    """
    from cogvx.language.upsampling.rewrite import HopelessError, Rewritten

    hopeless: list[HopelessError] = []

    def work(job: tuple[Any, str]) -> Rewritten:
        try:
            if hopeless:
                raise hopeless[0]
            return upsampler.rewrite(job[1], look(job[0]))
        except CogvxError as error:
            if isinstance(error, HopelessError):
                hopeless.append(error)
            if fallback != "original" or not job[1].strip():
                raise
            return Rewritten(job[1], job[1], upsampler.name, upsampler.settings(), fallback=str(error))

    for job, future in in_order(work, jobs, workers=_WORKERS if upsampler.concurrent else 0):
        yield job[0], future


def picture(source: str) -> "np.ndarray":
    """Read an image for a language model: uint8 (h w 3), not larger than it looks at.

    Raises:
        InputError: It cannot be read.
    """
    from cogvx.data.video import read_image

    return shrunk(read_image(Path(source)))


def shrunk(pixels: "np.ndarray") -> "np.ndarray":
    """Return a picture, uint8 (h w 3), whose longer side is 1024 at most."""
    from cogvx.data.video import resize_exact

    height, width = pixels.shape[:2]
    ratio = _LONGEST_SIDE / max(height, width)
    if ratio >= 1:
        return pixels
    return resize_exact(pixels[None], max(1, round(height * ratio)), max(1, round(width * ratio)))[0]


@dataclass(frozen=True)
class Sources:
    """What the command is given.

    Attributes:
        prompts: Arguments; a lone "-" reads stdin.
        file: Of --prompts.
        image: Of --image, for prompts that bring none.
    """

    prompts: list[str]
    file: str | None
    image: str | None


def upsample_prompts(
    sources: Sources,
    flags: UpsampleFlags,
    *,
    model: str | None,
    output: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Rewrite prompts; write them to stdout, or append them to a prompts file."""
    quiet_libraries()
    console = Console(quiet=quiet, json=as_json)
    jobs = read_jobs(sources.prompts, sources.file)
    if not jobs:
        raise UsageError("no prompt; give one, a file with --prompts, or - for stdin")
    if sources.image is not None:
        picture(sources.image)  # one that cannot be read is no fault of the prompts
    target = _target(output)
    folder = _reading_model(model, console) if model is not None else None
    with_image = sources.image is not None or any(job.image for job in jobs)
    upsampler = open_upsampler(flags, console, folder=folder, preset="i2v" if with_image else "t2v")
    done = _done(target, upsampler, overwrite=overwrite)
    todo: list[Job] = []
    for job in jobs:
        key = (job.prompt, job.image or sources.image)
        if job.error is None and done[_key(*key)] > 0:
            done[_key(*key)] -= 1
        else:
            todo.append(job)
    if len(todo) < len(jobs):
        console.note(f"{len(jobs) - len(todo)} of {len(jobs)} are in {target} already; --overwrite asks for all anew")
    failed = _run(console, upsampler, todo, sources.image, target, flags.fallback, alone=len(jobs) == 1)
    if target is not None and not as_json:
        console.result(target, {})
    if failed:
        console.note(f"{failed} of {len(jobs)} failed")
        raise typer.Exit(3)


def _run(
    console: Console,
    upsampler: "Upsampler",
    jobs: list[Job],
    image: str | None,
    target: Path | None,
    fallback: str,
    *,
    alone: bool,
) -> int:
    """Rewrite the prompts of jobs; return how many failed."""
    from cogvx.data.manifest import ManifestWriter
    from cogvx.generate.world import outside_world
    from cogvx.language.upsampling.rewrite import HopelessError

    def look(job: Job) -> "np.ndarray | None":
        if job.error is not None:
            raise job.error
        source = job.image or image
        return None if source is None else picture(source)

    failed = 0
    writer = ManifestWriter(target) if target is not None else None
    try:
        with console.progress("upsample") as report:
            asked = [(job, job.prompt or "") for job in jobs]
            for number, (job, future) in enumerate(rewrite_all(upsampler, asked, look, fallback=fallback)):
                report("prompt", number, len(jobs))
                try:
                    made = future.result()
                    row = _row(job, made, image, target)
                    if writer is not None:
                        writer.append(row)
                except Exception as error:
                    _, message = _errors.describe(error)
                    if alone or message is None or _errors.is_disk_full(error) or isinstance(error, HopelessError):
                        raise
                    console.failure(job.label, error, message)
                    failed += 1
                    continue
                if made.fallback is not None:
                    console.note(f"{job.label[:60]}: left as it was ({made.fallback})")
                left = outside_world(made.source) if upsampler.name == "storyboard" else []
                for note in (*made.notes, *([f"not in its world: {', '.join(left[:5])}"] if left else [])):
                    console.note(f"{job.label[:60]}: {note}")
                if writer is None or console.json:
                    text = json.dumps(row, ensure_ascii=False) if job.row is not None else made.text
                    console.result(text, _record(job, made))
    finally:
        if writer is not None:
            writer.close()
    return failed


def _row(job: Job, made: "Rewritten", image: str | None, target: Path | None) -> dict[str, Any]:
    """A row of a prompts file: what the job's own row says, with the new prompt and where it came from."""
    row = dict(job.row or {})
    record = made.record()
    source = job.image or image
    if source is not None:
        record["image"] = os.path.basename(source)
        base = None if target is None else os.path.realpath(target.parent)
        if base is not None:
            row["image"] = os.path.relpath(os.path.realpath(source), base)
            if row["image"].startswith(".."):
                raise InputError(f"{source} lies outside the folder of {target}; write the rows beside the images")
    return {**row, "prompt": made.text, "upsampled": record}


def _record(job: Job, made: "Rewritten") -> dict[str, Any]:
    """What --json prints: the result, then whatever else the job's row says."""
    from cogvx.files import clean

    record: dict[str, Any] = {"input": made.source, "output": made.text, "model": made.by, "params": made.params}
    record |= {"tries": made.tries}
    if made.shortened:
        record["shortened"] = True
    if made.fallback is not None:
        record["fallback"] = clean(made.fallback)
    if made.notes:
        record["notes"] = list(made.notes)
    return record | {key: value for key, value in (job.row or {}).items() if key not in {*record, "prompt"}}


def _reading_model(model: str, console: Console) -> "ModelFolder":
    from cogvx.checkpoints.diffusers import open_model
    from cogvx.presets import resolve

    resolved = resolve(model, announce=console.note)
    return open_model(resolved.path, shared=dict(resolved.shared))


def _target(output: str | None) -> Path | None:
    if output in (None, "-"):
        return None
    if not str(output).endswith((".jsonl", ".ndjson")):
        raise UsageError(f"-o {output}: expected a .jsonl file; plain lines come on stdout, for > to write")
    return Path(str(output))


def _key(prompt: str | None, image: str | None) -> tuple[str | None, str | None]:
    return prompt, None if image is None else os.path.basename(image)


def _done(target: Path | None, upsampler: "Upsampler", *, overwrite: bool) -> "Counter[tuple[str | None, str | None]]":
    """Count the prompts that the result of an earlier run has; with overwrite, remove that.

    Raises:
        UsageError: The file is another one, or its prompts were rewritten in another way.
    """
    from cogvx.data.manifest import iter_manifest

    if target is None or not os.path.lexists(target):
        return Counter()
    if overwrite:
        target.unlink()
        return Counter()
    found: Counter[tuple[str | None, str | None]] = Counter()
    try:
        records = [entry.get("upsampled") for _, entry in iter_manifest(target, torn=True)]
    except CogvxError as error:
        raise UsageError(f"{target} exists and is no prompts file; pass --overwrite to replace it") from error
    for record in records:
        same = isinstance(record, dict) and record.get("by") == upsampler.name
        if not same or not isinstance(record, dict) or record.get("params") != upsampler.settings():
            raise UsageError(
                f"{target} exists and has prompts that were not rewritten so (model or preset differ); "
                "pass --overwrite to replace it, or name another file"
            )
        found[_key(record.get("from"), record.get("image"))] += 1
    return found


def print_a_preset(name: str) -> None:
    """Print the file of a preset that comes with cogvx.

    Raises:
        UsageError: There is none of that name.
    """
    from cogvx.language.upsampling.preset import PRESETS, preset_text

    if name not in PRESETS:
        raise UsageError(f"--print-preset prints {' or '.join(PRESETS)}, not {name}")
    typer.echo(preset_text(name), nl=False)
