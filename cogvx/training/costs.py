"""What training costs: operations, bytes of activations, bytes of weights; from shapes alone.

Networks are built on the meta device, which has shapes and no values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from cogvx.distributed import alone
from cogvx.errors import UsageError
from cogvx.generate.estimate import count_parameters
from cogvx.models.captioner import CaptionerConfig
from cogvx.models.dual_encoder import DualEncoderConfig
from cogvx.models.transformer import TransformerConfig
from cogvx.models.vae import CausalVAE, Part, VAEConfig
from cogvx.models.vae.blocks import ResBlock
from cogvx.models.vae.discriminator import Discriminator, DiscriminatorConfig
from cogvx.models.words import MAX_WORDS
from cogvx.training.networks import Networks, build
from cogvx.training.recipe import Recipe

GAN_FRAMES = 17  # that the discriminator looks at, at most

# Values that one block of the transformer keeps for its way back, times tokens and width: with weights that are trained
# and with frozen ones. Measured (tests/training/test_plan.py).
BLOCK_COPIES, FROZEN_COPIES = 23.2, 12.2
# Values alive at once on the way back through one block, beside what it kept.
_BACKWARD_COPIES = 9
# Values that an LSTM keeps for its way back, times steps and width (tests/training/test_plan.py).
_LSTM_COPIES = 15
# Of the VAE's saved values when the arithmetic is in bf16: group norms stay in fp32 there.
VAE_BF16 = 0.52


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The devices that a plan is for.

    Attributes:
        num_devices: How many.
        bf16: Whether the arithmetic is in bf16.
        cuda: Whether they are GPUs, on which frozen weights are in bf16 too.
    """

    num_devices: int = 1
    bf16: bool = False
    cuda: bool = False


def transformer_flops(config: TransformerConfig, num_tokens: int, *, text_length: int | None = None) -> float:
    """Return the floating-point operations of one forward pass over one clip.

    Args:
        config: Of the transformer.
        num_tokens: Of the clip, text included.
        text_length: How many of them are text; default: the model's own.
    """
    text = config.max_text_length if text_length is None else text_length
    per_token, per_pair = flops_of_blocks(config)
    width, video = config.hidden_size, num_tokens - text
    ends = video * width * config.patch_values * (config.in_channels + config.out_channels)
    ends += text * width * config.text_size
    time = config.time_size * (width + config.time_size) + config.num_layers * 12 * width * config.time_size
    return num_tokens * per_token + num_tokens**2 * per_pair + 2 * (ends + time + 2 * width * config.time_size)


def flops_of_blocks(config: TransformerConfig) -> tuple[float, float]:
    """Return the operations of all blocks, forward: for each token, and for each pair of tokens of a clip."""
    return 24.0 * config.num_layers * config.hidden_size**2, 4.0 * config.num_layers * config.hidden_size


def passes(recipe: Recipe) -> float:
    """Return what forward and backward cost, in forward passes: gradients of frozen weights are not computed."""
    return 2.0 if recipe.kind == "lora" else 3.0


def transformer_activations(
    recipe: Recipe, config: TransformerConfig, tokens: int, machine: Machine
) -> tuple[int, int]:
    """Return the bytes of a micro batch's activations, without and with checkpointing."""
    itemsize = 2 if machine.bf16 else 4
    copies = FROZEN_COPIES if recipe.kind == "lora" else BLOCK_COPIES
    if recipe.kind == "lora":  # the inputs of the adapted maps, and what lies between their factors
        copies += 2 + len(recipe.lora.targets) * recipe.lora.rank / config.hidden_size
    one = tokens * config.hidden_size * itemsize
    block, back = copies * one, _BACKWARD_COPIES * one
    return int(config.num_layers * block + back), int((config.num_layers + 1) * one + block + back)


def vae_activations(config: VAEConfig, shape: tuple[int, int, int, int], machine: Machine) -> tuple[int, int, float]:
    """Return the bytes of a micro batch's activations as in fp32, without and with checkpointing, and its operations.

    Args:
        config: Of the VAE.
        shape: Clips, frames, height and width.
        machine: Whether it computes in bf16, where an image costs less.
    """
    dtype = torch.bfloat16 if machine.bf16 else torch.float32
    vae = build(config).to(dtype)
    assert isinstance(vae, CausalVAE)
    b, t, h, w = shape
    part = Part(alone(), "chunk")  # training looks at a clip whole, not chunk after chunk
    saved = _Saved(vae)
    video = torch.zeros(b, config.in_channels, t, h, w, dtype=dtype, device="meta")
    counter = FlopCounterMode(display=False)
    try:
        with counter, saved_tensors_hooks(saved.keep, lambda tensor: tensor):
            vae.decode(vae.scale(vae.encode(video, part=part).mean), part=part)
    except RuntimeError as error:
        raise UsageError(f"the VAE cannot do {t} frames of {w}x{h}: {error}") from error
    scale = torch.float32.itemsize // dtype.itemsize
    thin = saved.total - saved.inside + saved.inputs + saved.largest
    return scale * saved.total, scale * thin, float(counter.get_total_flops())


def _discriminator(recipe: Recipe) -> Discriminator:
    """Return the discriminator of a VAE's training, on the meta device."""
    side = min(min(size) for stage in recipe.stages for size in stage.sizes)
    frames = min(GAN_FRAMES, max(stage.max_frames for stage in recipe.stages))
    with torch.device("meta"):
        return Discriminator(DiscriminatorConfig(width=recipe.vae.gan_width, image_size=side, num_frames=frames))


def discriminator_activations(recipe: Recipe, shape: tuple[int, int, int, int]) -> int:
    """Return the bytes that the discriminator keeps of real clips and rebuilt ones, in fp32."""
    discriminator = _discriminator(recipe)
    saved = _Saved(discriminator)
    b, t, h, w = shape
    with saved_tensors_hooks(saved.keep, lambda tensor: tensor):
        discriminator(torch.zeros(b, 3, min(t, GAN_FRAMES), h, w, device="meta"))
    return 2 * saved.total


class _Saved:
    """Counts what a network keeps for its way back: in all, inside its residual blocks, and at their doors."""

    def __init__(self, module: nn.Module) -> None:
        self.total = self.inside = self.inputs = self.largest = 0
        self._own = {weight.untyped_storage()._cdata for weight in module.parameters()}
        self._seen: dict[int, torch.Tensor] = {}
        for block in module.modules():
            if isinstance(block, ResBlock):
                block.register_forward_pre_hook(self._enter)
                block.register_forward_hook(self._leave)

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in self._own and key not in self._seen:
            self._seen[key] = tensor  # kept alive, so that no other tensor gets its number
            self.total += tensor.untyped_storage().nbytes()
        return tensor

    def _enter(self, block: nn.Module, inputs: Sequence[Any]) -> None:
        self._before = self.total
        self.inputs += inputs[0].nbytes

    def _leave(self, block: nn.Module, inputs: Sequence[Any], output: Any) -> None:
        self.inside += self.total - self._before
        self.largest = max(self.largest, self.total - self._before)


def count_weights(recipe: Recipe, networks: Networks) -> tuple[dict[str, int], int, bool]:
    """Return part -> parameters, how many are trained, and whether they are an adapter of frozen ones."""
    parameters = {"vae": _numel(build(networks.vae))}
    if networks.clip_text is not None:
        trained = _numel(build(networks.clip_text))
        return {recipe.kind: trained, **parameters}, trained, False
    if networks.transformer is None:
        if recipe.vae.gan_weight:
            parameters["discriminator"] = _numel(_discriminator(recipe))
        return parameters, sum(parameters.values()), False
    transformer = build(networks.transformer)
    parameters = {"transformer": _numel(transformer), **parameters}
    if networks.text_encoder is not None:
        parameters |= count_parameters({"text_encoder": networks.text_encoder})
    if recipe.kind == "lora":
        parameters["lora"] = _lora_parameters(transformer, recipe)
        return parameters, parameters["lora"], True
    text = parameters["text_encoder"] if recipe.model.train_text else 0
    return parameters, parameters["transformer"] + text, False


def clip_text_flops(config: CaptionerConfig | DualEncoderConfig, latents: int) -> float:
    """Return the floating-point operations of one forward pass over one clip with a caption of the greatest length.

    Args:
        config: Of the captioner or the dual encoder.
        latents: Frames of the clip's latents.
    """
    size, words = config.hidden_size, MAX_WORDS + 1
    area = config.grid[0] * config.grid[1]
    channels = (config.latent_channels, *config.convolutions)
    frame: float = 9 * area * sum(narrow * wide for narrow, wide in zip(channels[:-1], channels[1:], strict=True))
    frame += config.frame_values * size + _lstm(size, size)
    one_way = _lstm(config.embed_size, size) / 2
    if isinstance(config, DualEncoderConfig):
        return 2.0 * (latents * frame + words * 2 * one_way + 2 * size * config.output_size)
    prefixes = words * (words + 1) / 2
    joined = 3 if config.joined_states else 2
    attention = 2 * prefixes * latents * size
    decoder = words * (latents * joined * size**2 + size * len(config.vocabulary))
    return 2.0 * (latents * frame + (words + prefixes) * one_way + attention + decoder)


def clip_text_activations(config: CaptionerConfig | DualEncoderConfig, clips: int, latents: int) -> int:
    """Return the bytes that a forward pass keeps for its way back, at the greatest length of the captions; float32."""
    size, words = config.hidden_size, MAX_WORDS + 1
    frame = config.grid[0] * config.grid[1] * (config.latent_channels + 2 * sum(config.convolutions))
    frame += _LSTM_COPIES * size
    values = latents * frame
    if isinstance(config, DualEncoderConfig):
        values += words * (_LSTM_COPIES * size + 10 * config.embed_size)
    else:
        joined = 3 if config.joined_states else 2
        prefixes = words * (words + 1) // 2
        values += (prefixes + words) * (_LSTM_COPIES * size // 2 + config.embed_size)
        values += words**2 * (size + latents)  # states of the prefixes, padded to the longest
        values += words * (latents * (joined + 1) * size + len(config.vocabulary))
    return 4 * clips * values


def _lstm(inputs: int, size: int) -> float:
    """Return the multiplications of one step of an LSTM whose directions have `size` values together."""
    half = size // 2
    return 2.0 * 4 * half * (inputs + half)


def _lora_parameters(transformer: nn.Module, recipe: Recipe) -> int:
    targets = tuple(f".{target}" for target in recipe.lora.targets)
    maps = [m for name, m in transformer.named_modules() if isinstance(m, nn.Linear) and f".{name}".endswith(targets)]
    if not maps:
        raise UsageError(f"lora.targets: no linear map of the transformer is called {' or '.join(recipe.lora.targets)}")
    return sum(recipe.lora.rank * (layer.in_features + layer.out_features) for layer in maps)


def frozen_bytes(recipe: Recipe, parameters: Mapping[str, int], frozen: int, machine: Machine, *, adapted: bool) -> int:
    """Return the bytes of weights that are used and not trained; data that was encoded ahead needs no encoders."""
    itemsize = 2 if machine.bf16 and machine.cuda else 4
    if recipe.kind == "vae":
        return 0
    if not recipe.data.cache:
        vae = parameters["vae"]
        return (frozen - vae) * itemsize + 4 * vae
    return parameters["transformer"] * itemsize if adapted else 0


def optimizer_bytes(recipe: Recipe, networks: Networks, trained: int) -> int:
    """Return the bytes of the optimizer's means: two a weight, one for Muon, a quarter of the size in 8 bits."""
    if recipe.optim.name == "adamw8bit":
        return 2 * trained
    if recipe.optim.name == "adamw":
        return 8 * trained
    modules = [build(networks.transformer or networks.clip_text or networks.vae)]
    flat = sum(w.numel() for module in modules for w in module.parameters() if w.ndim < 2)
    return 4 * (trained - flat) + 8 * flat


def model_bytes(parameters: Mapping[str, int], machine: Machine) -> int:
    """Return the bytes of the result on disk: all parts, without an adapter."""
    itemsize = 2 if machine.bf16 else 4
    return sum(itemsize * count for part, count in parameters.items() if part != "lora")


def _numel(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
