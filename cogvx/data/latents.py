"""Latents of clips in safetensors files, one clip a file."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import cogvx
from cogvx.data.tensor_file import load_tensor, number_field, save_tensor, tensor_bytes
from cogvx.errors import InputError
from cogvx.shapes import expect

FORMAT = "cogvx.latents/1"
NAME = "latents"


@dataclass(frozen=True)
class LatentsInfo:
    """What a latents file says about the clip.

    Attributes:
        model: The model whose autoencoder made it.
        fps: Frames per second of the pixels.
        num_frames: Of the pixels.
        height: Of the pixels.
        width: Of the pixels.
        source: What was encoded, without the folders of the machine.
        version: Of cogvx.
    """

    model: str
    fps: float
    num_frames: int
    height: int
    width: int
    source: str
    version: str


def save_latents(
    path: Path | str,
    latents: Tensor,
    *,
    model: str,
    fps: float,
    num_frames: int,
    height: int,
    width: int,
    source: str,
    overwrite: bool = False,
) -> None:
    """Write the latents of one clip, whole or not at all.

    Args:
        path: The file.
        latents: (c t h w), already times the scaling factor; float32 or bfloat16, others become float32.
        model: The model whose autoencoder made them.
        fps: Frames per second of the pixels.
        num_frames: Of the pixels.
        height: Of the pixels.
        width: Of the pixels.
        source: What was encoded; of an absolute path only the name is kept.
        overwrite: Whether an existing file is replaced.

    Raises:
        InputError: The latents hold NaN or infinity, or are not (c t h w).
        UsageError: The file exists.
        MissingError: The disk is full.
    """
    expect(latents, "c t h w", NAME)
    metadata = _metadata(model, fps, num_frames, height, width, source)
    save_tensor(path, latents, name=NAME, metadata=metadata, overwrite=overwrite)


def latents_bytes(
    latents: Tensor, *, model: str, fps: float, num_frames: int, height: int, width: int, source: str
) -> bytes:
    """Return the bytes that save_latents would write, for standard output."""
    expect(latents, "c t h w", NAME)
    metadata = _metadata(model, fps, num_frames, height, width, source)
    return tensor_bytes(latents, name=NAME, metadata=metadata)


def load_latents(source: Path | str | bytes) -> tuple[Tensor, LatentsInfo]:
    """Read the latents of one clip.

    Args:
        source: A path, or the bytes of a file.

    Returns:
        Latents (c t h w) on the CPU, float32 or bfloat16, times the scaling factor; and what the file says about them.

    Raises:
        InputError: It is missing, no latents file, damaged, or holds NaN or infinity.
    """
    latents, metadata = load_tensor(source, name=NAME, form=FORMAT)
    try:
        expect(latents, "c t h w", NAME)
        info = LatentsInfo(
            model=metadata.get("model", ""),
            fps=number_field(metadata, "fps"),
            num_frames=int(number_field(metadata, "num_frames")),
            height=int(number_field(metadata, "height")),
            width=int(number_field(metadata, "width")),
            source=metadata.get("source", ""),
            version=metadata.get("version", ""),
        )
    except InputError as error:
        name = "standard input" if isinstance(source, bytes) else source
        raise InputError(f"cannot read {name}: {error}") from error
    return latents, info


def _metadata(model: str, fps: float, num_frames: int, height: int, width: int, source: str) -> dict[str, str]:
    return {
        "format": FORMAT,
        "model": model,
        "fps": str(int(fps)) if float(fps).is_integer() else repr(float(fps)),
        "num_frames": str(num_frames),
        "height": str(height),
        "width": str(width),
        "source": Path(source).name if Path(source).is_absolute() else source,
        "version": cogvx.__version__,
    }
