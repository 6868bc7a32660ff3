"""What a generating command is asked to make: one job a prompt, from arguments, files or stdin."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cogvx.errors import CogvxError, InputError, UsageError

# What a row of a JSONL file may set, under the names of the field -> our name and type.
_KEYS: dict[str, tuple[str, type]] = {
    "prompt": ("prompt", str),
    "caption": ("prompt", str),
    "text": ("prompt", str),
    "negative_prompt": ("negative_prompt", str),
    "seed": ("seed", int),
    "frames": ("num_frames", int),
    "num_frames": ("num_frames", int),
    "height": ("height", int),
    "width": ("width", int),
    "fps": ("fps", float),
    "steps": ("num_steps", int),
    "num_inference_steps": ("num_steps", int),
    "guidance": ("guidance_scale", float),
    "guidance_scale": ("guidance_scale", float),
    "dynamic_guidance": ("dynamic_guidance", str),
    "scheduler": ("scheduler", str),
    "image": ("image", str),
    "output": ("output", str),
}
_CHOICES = {"dynamic_guidance": ("off", "official", "smooth"), "scheduler": ("ddim", "dpm")}


@dataclass(frozen=True)
class Job:
    """One prompt and what goes with it.

    Attributes:
        label: What the job is called in messages.
        prompt: The prompt; None if only --like knows it.
        settings: Options that the job's own row sets; they win over flags.
        image: First frame: a path, or "-".
        output: Where the row wants its clip, relative to --output.
        error: Why the row cannot be used.
        row: All that the row says, of a JSONL file.
    """

    label: str
    prompt: str | None
    settings: dict[str, Any] = field(default_factory=dict)
    image: str | None = None
    output: str | None = None
    error: CogvxError | None = None
    row: dict[str, Any] | None = None

    @property
    def upsampled(self) -> dict[str, Any] | None:
        """How the row's prompt was rewritten, if `cogvx upsample` did that."""
        found = (self.row or {}).get("upsampled")
        return found if isinstance(found, dict) and isinstance(found.get("from"), str) else None


def read_jobs(prompts: list[str], file: str | None, *, with_image: bool = False) -> list[Job]:
    """Return the jobs that arguments and a prompts file ask for.

    Args:
        prompts: Prompts from the command line; a lone "-" reads stdin, one a line.
        file: A .txt file (one a line), a .jsonl file (one object a line), or "-" for stdin in either form.
        with_image: Rows name an image, relative to the file.

    Raises:
        InputError: The file cannot be read, or has no prompts.
        UsageError: stdin is a terminal.
    """
    jobs = []
    for prompt in prompts:
        jobs += _from_lines(_stdin(), "stdin", Path(), with_image) if prompt == "-" else [Job(prompt, prompt)]
    if file is not None:
        text, base = (_stdin(), Path()) if file == "-" else (_text(Path(file)), Path(file).parent)
        jobs += _from_lines(text, "stdin" if file == "-" else file, base, with_image)
    if (file is not None or prompts) and not jobs:
        raise InputError(f"{file or 'stdin'}: no prompts in it")
    return jobs


def _stdin() -> str:
    if sys.stdin.isatty():
        raise UsageError("- reads prompts from stdin, which is a terminal; pipe them in, or name a file")
    return _decode(sys.stdin.buffer.read(), "stdin")


def _text(path: Path) -> str:
    try:
        return _decode(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{name}:{line}: not UTF-8 (byte {error.start})") from error


def _from_lines(text: str, name: str, base: Path, with_image: bool) -> list[Job]:
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if name.endswith((".jsonl", ".ndjson")) or (name == "stdin" and lines and lines[0][1].startswith("{")):
        return [_from_row(line, f"{name}:{number}", base, with_image) for number, line in lines]
    return [Job(line, line) for _, line in lines]


def _from_row(line: str, where: str, base: Path, with_image: bool) -> Job:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise InputError(f"{where}: expected a JSON object, got {type(row).__name__}")
        values: dict[str, Any] = {}
        for key, (name, kind) in _KEYS.items():
            if row.get(key) is not None:
                values.setdefault(name, _value(row[key], kind, name, f"{where}: {key}"))
        if "prompt" not in values:
            raise InputError(f'{where}: missing key "prompt" (has {sorted(row)})')
        image, output = values.pop("image", None), values.pop("output", None)
        if with_image and image is None:
            raise InputError(f'{where}: missing key "image" (has {sorted(row)})')
        if image is not None:
            from cogvx.files import safe_join

            image = str(safe_join(base, image))
        prompt = values.pop("prompt")
        return Job(f"{where} ({prompt})", prompt, values, image, output, row=row)
    except (ValueError, RecursionError) as error:
        return Job(where, None, error=InputError(f"{where}: not JSON: {error}"))
    except CogvxError as error:
        return Job(where, None, error=error)


def _value(value: Any, kind: type, name: str, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where}: expected {kind.__name__}, got {value!r:.80}")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise InputError(f"{where}: expected {' or '.join(_CHOICES[name])}, got {value!r:.80}")
    if isinstance(value, int | float) and not value >= 0:
        raise InputError(f"{where}: expected a number of 0 or more, got {value!r}")
    return value
