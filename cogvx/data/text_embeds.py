"""Text embeddings of prompts in safetensors files, one prompt a file."""

from pathlib import Path

from torch import Tensor

from cogvx.data.tensor_file import load_tensor, save_tensor
from cogvx.errors import InputError
from cogvx.shapes import expect

FORMAT = "cogvx.text/1"
NAME = "text_embeds"


def save_text_embeds(
    path: Path | str, text_embeds: Tensor, *, prompt: str, model: str, overwrite: bool = False
) -> None:
    """Write the embedding of one prompt, whole or not at all.

    Args:
        path: The file.
        text_embeds: (l d); float32 or bfloat16, others become float32.
        prompt: What it embeds.
        model: The model whose text encoder made it.
        overwrite: Whether an existing file is replaced.

    Raises:
        InputError: It holds NaN or infinity, or is not (l d).
        UsageError: The file exists.
        MissingError: The disk is full.
    """
    expect(text_embeds, "l d", NAME)
    metadata = {"format": FORMAT, "prompt": prompt, "model": model}
    save_tensor(path, text_embeds, name=NAME, metadata=metadata, overwrite=overwrite)


def load_text_embeds(source: Path | str | bytes) -> tuple[Tensor, str, str]:
    """Read the embedding of one prompt.

    Returns:
        The embedding (l d) on the CPU, the prompt, and the model.

    Raises:
        InputError: It is missing, of another format, damaged, or holds NaN or infinity.
    """
    text_embeds, metadata = load_tensor(source, name=NAME, form=FORMAT)
    try:
        expect(text_embeds, "l d", NAME)
    except InputError as error:
        name = "standard input" if isinstance(source, bytes) else source
        raise InputError(f"cannot read {name}: {error}") from error
    return text_embeds, metadata.get("prompt", ""), metadata.get("model", "")
