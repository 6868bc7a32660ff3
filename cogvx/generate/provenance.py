"""How a clip was made: the JSON in its comment tag, and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cogvx import __version__
from cogvx.checkpoints.model_folder import ModelFolder
from cogvx.errors import InputError
from cogvx.generate.options import GenerateOptions, Runtime, dtype_name

FORMAT = "cogvx.clip/1"
MAX_COMMENT = 1 << 20
# What --like repeats: keys of the record that are options of a clip, besides model, fps and the machine's part.
REPEATED = (
    "prompt",
    "negative_prompt",
    "seed",
    "num_frames",
    "height",
    "width",
    "num_steps",
    "guidance_scale",
    "dynamic_guidance",
    "scheduler",
    "strength",
    "image_latent_scale",
    "tiled",
)


@dataclass(frozen=True)
class UsedFile:
    """A file that shaped a clip. Its folder is not recorded.

    Attributes:
        name: Its name without folders.
        sha256: Of its bytes.
        weight: Of a LoRA.
    """

    name: str
    sha256: str
    weight: float | None = None

    @classmethod
    def of(cls, path: Path, *, weight: float | None = None) -> "UsedFile":
        """Describe a file (errors: see cogvx.files.sha256_file)."""
        from cogvx.files import sha256_file

        return cls(path.name, sha256_file(path), weight)

    def to_dict(self) -> dict[str, Any]:
        """Return what the record says."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def make_record(
    options: GenerateOptions,
    runtime: Runtime,
    *,
    command: str,
    model: str,
    weights: Mapping[str, str],
    fps: float,
    frames_sha256: str | None,
    loras: Sequence[UsedFile] = (),
    inputs: Mapping[str, UsedFile] | None = None,
    upsampled: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the record of a clip: model, prompt, every option, hashes and versions; no paths of this machine.

    Args:
        options: What was made.
        runtime: How it ran.
        command: "sample", "i2v" or "v2v".
        model: What the model is called.
        weights: Part -> hash of its weights.
        fps: Of the file.
        frames_sha256: Of the frames before they were encoded; None for latents.
        loras: Adapters.
        inputs: Image, clip or noise that it was made from.
        upsampled: How the prompt was rewritten, and from what ("from"), if it was.
    """
    record: dict[str, Any] = {"format": FORMAT, "command": command, "model": model, **asdict(options), "fps": fps}
    if upsampled:
        record["upsampled"] = dict(upsampled)
    record["weights"] = dict(weights)
    record["loras"] = [lora.to_dict() for lora in loras]
    record["inputs"] = {name: used.to_dict() for name, used in (inputs or {}).items()}
    record["machine"] = {
        "device": runtime.device.type,
        "device_name": torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else None,
        "dtype": dtype_name(runtime.dtype),
        "attention": runtime.attention,
        "memory": runtime.memory,
        "threads": torch.get_num_threads(),
    }
    record["versions"] = {"cogvx": __version__, "torch": torch.__version__}
    record["frames_sha256"] = frames_sha256
    return record


def weight_hashes(folder: ModelFolder) -> dict[str, str]:
    """Return part -> hash of its weights, for the parts that a model has."""
    return {
        name: folder.weights_sha256(name)
        for name in ("text_encoder", "transformer", "vae")
        if name in folder.components
    }


def dump(record: Mapping[str, Any]) -> str:
    """Return a record as one line of JSON."""
    return json.dumps(record, ensure_ascii=False)


def parse(comment: str | None, *, source: str) -> dict[str, Any]:
    """Read the record in a clip's comment tag.

    Raises:
        InputError: There is none.
    """
    missing = InputError(f"{source} does not say how it was made (no record of cogvx in its comment tag)")
    if not comment or len(comment) > MAX_COMMENT:
        raise missing
    try:
        record = json.loads(comment)
    except (ValueError, RecursionError) as error:
        raise missing from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise missing
    return record
