"""What a clip will cost: memory, time and disk, from the configuration alone."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from cogvx.generate.options import GenerateOptions, Memory, Runtime
from cogvx.generate.sizes import SizeRules
from cogvx.models.transformer import TransformerConfig
from cogvx.models.vae import Tiling, VAEConfig

# Values alive at once, measured on models of this family on a CPU (see tests/test_generate_estimate.py):
TOKEN_COPIES = 11  # of a block's tokens, each as wide as the model
_PIXEL_COPIES = (13, 6)  # of the decoder's maps at full resolution: of its two widths there, over three latent frames
_LARGE_DECODE = 4 << 30  # bytes above which frames are decoded in tiles unless told otherwise


@dataclass(frozen=True)
class Estimate:
    """What a clip will cost.

    Attributes:
        tokens: Length of the joint sequence.
        weights: Part -> bytes in memory.
        denoise_bytes: Activations of the transformer.
        decode_bytes: Activations of the VAE.
        peak_bytes: Of the device, weights included; the program itself is not.
        disk_bytes: Of the file, about.
    """

    tokens: int
    weights: dict[str, int]
    denoise_bytes: int
    decode_bytes: int
    peak_bytes: int
    disk_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON takes them."""
        return asdict(self)


def count_parameters(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return part -> number of weights, from the configuration files of a model, on no device."""
    from cogvx.models.transformer import ExpertTransformer
    from cogvx.models.vae import CausalVAE

    counts = {}
    with torch.device("meta"):
        if "transformer" in configs:
            counts["transformer"] = _numel(ExpertTransformer(TransformerConfig.from_dict(dict(configs["transformer"]))))
        if "vae" in configs:
            counts["vae"] = _numel(CausalVAE(VAEConfig.from_dict(dict(configs["vae"]))))
    if "text_encoder" in configs:
        counts["text_encoder"] = _t5_parameters(configs["text_encoder"])
    return counts


def estimate(
    options: GenerateOptions,
    runtime: Runtime,
    *,
    parameters: Mapping[str, int],
    vae: VAEConfig,
    transformer: TransformerConfig,
) -> Estimate:
    """Return what one clip will cost; within about a fifth for memory, less sure for disk."""
    itemsize = runtime.dtype.itemsize
    rules = SizeRules.of(vae, transformer)
    tokens = transformer.max_text_length + video_tokens(options, rules, transformer)
    copies = 2 if options.guided else 1
    denoise = copies * tokens * transformer.hidden_size * itemsize * TOKEN_COPIES
    decode = decode_bytes(options, itemsize, vae=vae)
    weights = {name: count * itemsize for name, count in parameters.items()}
    pixels = options.num_frames * options.height * options.width
    return Estimate(
        tokens=tokens,
        weights=weights,
        denoise_bytes=denoise,
        decode_bytes=decode,
        peak_bytes=_peak(weights, denoise, decode, runtime.memory, transformer.num_layers),
        disk_bytes=max(pixels // 20, 4096),
    )


def video_tokens(options: GenerateOptions, rules: SizeRules, transformer: TransformerConfig) -> int:
    """Return how many tokens the latents of a clip make."""
    frames = (rules.num_latents(options.num_frames) + rules.num_padded(options.num_frames)) // rules.temporal_patch
    return frames * (options.height // rules.multiple) * (options.width // rules.multiple)


def decode_bytes(options: GenerateOptions, itemsize: int, *, vae: VAEConfig) -> int:
    """Return the memory of decoding one chunk of a clip, weights not included."""
    height, width = options.height, options.width
    tiling = Tiling.default(vae)
    if options.tiled and tiling.exceeded(height, width):
        height, width = min(height, tiling.height), min(width, tiling.width)
    frames = min(options.num_frames, 3 * vae.temporal_compression_ratio)
    values = sum(copies * channels for copies, channels in zip(_PIXEL_COPIES, vae.block_out_channels, strict=False))
    return values * frames * height * width * itemsize


def needs_tiles(options: GenerateOptions, *, vae: VAEConfig) -> bool:
    """Tell whether a clip should be decoded in tiles: by its size alone, so that every machine gives the same clip."""
    large = decode_bytes(replace(options, tiled=False), 4, vae=vae) > _LARGE_DECODE
    return large and Tiling.default(vae).exceeded(options.height, options.width)


def choose_memory(
    options: GenerateOptions,
    runtime: Runtime,
    *,
    parameters: Mapping[str, int],
    vae: VAEConfig,
    transformer: TransformerConfig,
) -> Memory:
    """Return the quickest memory mode that fits the device; the most frugal if none does."""
    free = free_memory(runtime.device) * 0.85
    modes: tuple[Memory, ...] = ("none", "model")
    for mode in modes:
        run = Runtime(device=runtime.device, dtype=runtime.dtype, memory=mode)
        if estimate(options, run, parameters=parameters, vae=vae, transformer=transformer).peak_bytes < free:
            return mode
    return "layer"


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be used on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def estimate_seconds(
    options: GenerateOptions, run: Estimate, runtime: Runtime, *, transformer: TransformerConfig, vae: VAEConfig
) -> float:
    """Return about how long denoising and decoding will take, from a short measurement of this device."""
    width, tokens = transformer.hidden_size, run.tokens
    per_layer = 2 * tokens * 12 * width**2 + 4 * tokens**2 * width
    steps = max(int(options.num_steps * options.strength), 1) * (2 if options.guided else 1)
    denoise = per_layer * transformer.num_layers * steps
    widths = vae.block_out_channels
    pixels = options.num_frames * options.height * options.width
    convolutions = 2 * (vae.layers_per_block + 1)
    decode = sum(2 * 27 * c**2 * convolutions * pixels / (4**i * min(2**i, 4)) for i, c in enumerate(widths))
    return (denoise + decode) / measure_flops(runtime)


def measure_flops(runtime: Runtime) -> float:
    """Return the floating-point operations a second that a matrix product reaches here, in a tenth of a second."""
    size = 512 if runtime.device.type == "cpu" else 4096
    a = torch.ones(size, size, device=runtime.device, dtype=runtime.dtype)
    best = math.inf
    end = time.perf_counter() + 0.1
    while time.perf_counter() < end:
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best * 0.4  # about this much of it is left in a real network


def _peak(weights: Mapping[str, int], denoise: int, decode: int, memory: Memory, num_layers: int) -> int:
    text, transformer, vae = (weights.get(name, 0) for name in ("text_encoder", "transformer", "vae"))
    if memory == "none":
        return text + transformer + vae + max(denoise, decode)
    if memory == "model":
        return max(text, transformer + denoise, vae + decode)
    return max(text // 12, 2 * transformer // max(num_layers, 1) + denoise, vae + decode)


def _numel(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _t5_parameters(config: Mapping[str, Any]) -> int:
    width, inner = config["d_model"], config["num_heads"] * config["d_kv"]
    feed_forward = (3 if "gated" in config.get("feed_forward_proj", "relu") else 2) * width * config["d_ff"]
    blocks = config["num_layers"] * (4 * width * inner + feed_forward + 2 * width)
    buckets = config.get("relative_attention_num_buckets", 32) * config["num_heads"]
    return config["vocab_size"] * width + blocks + buckets + width
