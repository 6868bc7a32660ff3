"""Latents of clips in safetensors files, one clip a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import cogvx
from cogvx.data.tensor_file import load_tensors, number_field, save_tensor, tensor_bytes, tensor_metadata
from cogvx.errors import InputError
from cogvx.shapes import expect

FORMAT = "cogvx.latents/1"
NAME = "latents"
DEVIATION = "std"


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
    std: Tensor | None = None,
    more: Mapping[str, str] | None = None,
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
        std: Standard deviation of the posterior whose mean the latents are, (c t h w), times the scaling factor: lets
            training draw from it.
        more: Further metadata.
        overwrite: Whether an existing file is replaced.

    Raises:
        InputError: The latents hold NaN or infinity, or are not (c t h w).
        UsageError: The file exists.
        MissingError: The disk is full.
    """
    expect(latents, "c t h w", NAME)
    metadata = _metadata(model, fps, num_frames, height, width, source) | dict(more or {})
    others = {}
    if std is not None:
        expect(std, "c t h w", DEVIATION, **dict(zip("cthw", latents.shape, strict=True)))
        others = {DEVIATION: std}
    save_tensor(path, latents, name=NAME, metadata=metadata, more=others, overwrite=overwrite)


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
    latents, _, info = load_posterior(source)
    return latents, info


def load_posterior(source: Path | str | bytes) -> tuple[Tensor, Tensor | None, LatentsInfo]:
    """Read the posterior's mean and standard deviation of one clip.

    Returns:
        As load_latents; between both the standard deviation (c t h w), times the scaling factor, None if the file has
        none.

    Raises:
        InputError: As load_latents.
    """
    tensors, metadata = load_tensors(source, name=NAME, form=FORMAT, optional=(DEVIATION,))
    latents, std = tensors[NAME], tensors.get(DEVIATION)
    try:
        sizes = expect(latents, "c t h w", NAME)
        if std is not None:
            expect(std, "c t h w", DEVIATION, **sizes)
        info = _info(metadata)
    except InputError as error:
        name = "standard input" if isinstance(source, bytes) else source
        raise InputError(f"cannot read {name}: {error}") from error
    return latents, std, info


def latents_info(path: Path) -> LatentsInfo:
    """Return what a latents file says about the clip, without reading the latents.

    Raises:
        InputError: It is missing, no latents file, or cut off.
    """
    metadata = tensor_metadata(path, form=FORMAT)
    try:
        return _info(metadata)
    except InputError as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _info(metadata: Mapping[str, str]) -> LatentsInfo:
    return LatentsInfo(
        model=metadata.get("model", ""),
        fps=number_field(metadata, "fps"),
        num_frames=int(number_field(metadata, "num_frames")),
        height=int(number_field(metadata, "height")),
        width=int(number_field(metadata, "width")),
        source=metadata.get("source", ""),
        version=metadata.get("version", ""),
    )


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
