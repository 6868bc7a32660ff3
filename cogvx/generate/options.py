"""What to generate, and how to run it."""

from dataclasses import dataclass
from typing import Literal

import torch

from cogvx.errors import MissingError, UsageError
from cogvx.models.attention import Backend

Memory = Literal["none", "model", "layer"]
ImageScale = Literal["auto", "scaled", "inverse", "raw"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """One clip.

    Attributes:
        prompt: What it shows.
        negative_prompt: What guidance leads away from.
        height: Pixels.
        width: Pixels.
        num_frames: Frames.
        num_steps: Denoising steps of the whole way, before strength.
        guidance_scale: Classifier-free guidance; at 1 or less the negative prompt is not used.
        dynamic_guidance: How guidance changes over the steps.
        scheduler: Sampler.
        seed: Of the noise.
        strength: Clip to clip: share of the way from noise that is gone, in (0, 1].
        image_latent_scale: Image to video: what the image's latents are multiplied by. "scaled" is the VAE's scaling
            factor, "inverse" its reciprocal, "raw" one; "auto" follows the VAE's configuration, as diffusers does. The
            released code for the 1.5 models uses all three: SAT samples with "raw" and trains with "scaled".
        tiled: Whether the VAE works in tiles where frames are larger than one; this changes the numbers a little.
    """

    prompt: str
    negative_prompt: str = ""
    height: int
    width: int
    num_frames: int
    num_steps: int = 50
    guidance_scale: float = 6.0
    dynamic_guidance: Literal["off", "official", "smooth"] = "off"
    scheduler: Literal["ddim", "dpm"] = "ddim"
    seed: int = 0
    strength: float = 1.0
    image_latent_scale: ImageScale = "auto"
    tiled: bool = False

    @property
    def guided(self) -> bool:
        """Whether the model runs with and without the prompt."""
        return self.guidance_scale > 1


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The machine's part: changes speed and memory, and the numbers only by the precision of what it computes with.

    Attributes:
        device: Where to compute.
        dtype: Precision of weights and activations; noise, steps and guidance are float32.
        memory: Where weights wait: "none" keeps all on the device; "model" reads one part at a time from disk; "layer"
            brings transformer and text encoder to the device one layer at a time.
        attention: Attention kernel.
    """

    device: torch.device
    dtype: torch.dtype
    memory: Memory = "none"
    attention: Backend = "auto"


def choose_device(name: str | None) -> torch.device:
    """Return the device of a name; None or "auto" takes CUDA, then Apple's, then the CPU.

    Raises:
        UsageError: It is no device's name.
        MissingError: It is not here.
    """
    if name in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(str(name))
    except RuntimeError as error:
        raise UsageError(f"--device {name}: expected auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise MissingError(f"--device {name}: this machine has no such device; use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"--device {name}: expected auto, cpu, cuda, cuda:1 or mps")
    return device


def choose_dtype(name: str | None, *, device: torch.device, native: str) -> torch.dtype:
    """Return the precision of a name; None or "auto" is float32 on the CPU and the model's own elsewhere."""
    if name in (None, "auto"):
        name = "fp32" if device.type == "cpu" else native
    return DTYPES[str(name)]


def dtype_name(dtype: torch.dtype) -> str:
    """Return "fp32", "bf16" or "fp16"."""
    return next(name for name, value in DTYPES.items() if value == dtype)
