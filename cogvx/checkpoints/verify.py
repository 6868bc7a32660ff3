"""Does cogvx compute what diffusers computes from the same files? Part by part, on small random inputs."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from cogvx.checkpoints.model_folder import ModelFolder
from cogvx.diffusion.samplers import sample_ddim, sample_dpm
from cogvx.errors import InputError, MissingError, UsageError
from cogvx.models.vae.tiling import Tiling

CHECKED = ("vae", "transformer", "text_encoder", "scheduler")
SEED = 20240812
PROMPTS = ["", "a red star moves to the right over a green field", "a" * 700]
# Largest difference allowed, relative to the largest value of the reference.
_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
_SCHEDULER_STEPS = 50

Named = dict[str, Tensor]


@dataclass(frozen=True)
class Check:
    """One comparison with the reference.

    Attributes:
        component: Which part.
        name: What was compared.
        max_abs: Largest difference.
        max_rel: The same, relative to the largest value of the reference.
        tolerance: What max_rel may be.
        ok: Whether it is, and the shapes agree.
    """

    component: str
    name: str
    max_abs: float
    max_rel: float
    tolerance: float
    ok: bool


def verify(
    model: ModelFolder,
    *,
    components: Sequence[str] = CHECKED,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Iterator[Check]:
    """Yield one check after another; of each part, first the reference is in memory, then ours.

    Args:
        model: The model.
        components: Which parts; those that the model lacks are an error.
        dtype: Precision of both sides.
        device: Where both compute.

    Raises:
        MissingError: diffusers is not installed.
        UsageError: There is no part of that name.
        InputError: The model lacks a part.
    """
    try:
        import diffusers  # noqa: F401
    except ImportError as error:
        raise MissingError(
            "cogvx verify compares with diffusers, which is not installed: pip install 'cogvx[test]'"
        ) from error
    both = {"vae": _vae, "transformer": _transformer, "text_encoder": _text_encoder, "scheduler": _scheduler}
    for name in components:
        if name not in both:
            raise UsageError(f"no such part: {name}; known: {', '.join(CHECKED)}")
        if name in model.readers:
            model.check(name)
        reference, ours = both[name](model, dtype, torch.device(device))
        with torch.inference_mode():
            wanted = reference()
            _forget()
            got = ours()
        _forget()
        tolerance = 1e-12 if name == "scheduler" else _TOLERANCES[dtype]
        for check, tensor in wanted.items():
            yield _compare(name, check, got[check], tensor, tolerance)


def _compare(component: str, name: str, got: Tensor, wanted: Tensor, tolerance: float) -> Check:
    if got.shape != wanted.shape:
        return Check(component, name, float("inf"), float("inf"), tolerance, False)
    difference = float((got.double() - wanted.double()).abs().max())
    scale = float(wanted.double().abs().max())
    relative = difference / scale if scale else difference
    return Check(component, name, difference, relative, tolerance, relative <= tolerance)


def _forget() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED))


Both = tuple[Callable[[], Named], Callable[[], Named]]


def _reference_module(model: ModelFolder, name: str, kind: Any, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Load a part by diffusers' own means; from a layout that it does not read, by its config and our weights."""
    if _reads_itself(model, name):
        return kind.from_pretrained(
            model.components[name], torch_dtype=dtype, use_safetensors=True, local_files_only=True
        ).to(device).eval()  # fmt: skip
    with torch.device("meta"):
        module = kind.from_config(model.configs[name])
    state = {key: stored.cast(dtype).read() for key, stored in model.weights(name).items()}
    module.load_state_dict(state, strict=True, assign=True)
    for key, buffer in list(module.named_buffers()):
        if buffer.is_meta:  # tables that are not in the files: take them from a module that was really built
            parent, _, leaf = key.rpartition(".")
            setattr(module.get_submodule(parent), leaf, _built_buffer(model, name, kind, key))
    return module.to(device, dtype).eval()


def _reads_itself(model: ModelFolder, name: str) -> bool:
    """Tell whether the reference can read a part: from a folder with safetensors."""
    folder = model.components[name]
    return folder.is_dir() and any(folder.glob("*.safetensors"))


def _built_buffer(model: ModelFolder, name: str, kind: Any, key: str) -> Tensor:
    small = {**model.configs[name], "num_layers": 0} if name == "transformer" else model.configs[name]
    return dict(kind.from_config(small).named_buffers())[key]


def _vae(model: ModelFolder, dtype: torch.dtype, device: torch.device) -> Both:
    config = model.vae_config
    ratio = config.spatial_ratio
    clip = _noise(1, config.in_channels, 17, 4 * ratio, 6 * ratio).clamp(-1, 1).to(device, dtype)
    wide = _noise(1, config.in_channels, 1, 16 * ratio, 14 * ratio).clamp(-1, 1).to(device, dtype)
    latents = _noise(1, config.latent_channels, 5, 4, 6).to(device, dtype)
    wide_latents = _noise(1, config.latent_channels, 1, 16, 14).to(device, dtype)
    # A tile whose overlaps come out whole, so that the pieces join without a rest.
    tiling = Tiling(12 * ratio, 10 * ratio)

    def outputs(encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], kind: str) -> Named:
        video, z = (clip, latents) if not kind else (wide, wide_latents)
        return {
            f"{kind}encode {video.shape[2]} frames": encode(video).cpu(),
            f"{kind}decode {z.shape[2]} latents": decode(z).cpu(),
        }

    def reference() -> Named:
        from diffusers import AutoencoderKLCogVideoX

        vae: Any = _reference_module(model, "vae", AutoencoderKLCogVideoX, dtype, device)

        def encode(video: Tensor) -> Tensor:
            return vae.encode(video).latent_dist.parameters

        def decode(z: Tensor) -> Tensor:
            return vae.decode(1 / vae.config.scaling_factor * z).sample

        plain = outputs(encode, decode, "")
        vae.enable_tiling(tiling.height, tiling.width, tiling.overlap_height, tiling.overlap_width)
        return plain | outputs(encode, decode, "tiled ")

    def ours() -> Named:
        vae = model.load_vae(dtype, device)

        def encode(video: Tensor, tiling: Tiling | None = None) -> Tensor:
            gaussian = vae.encode(video, tiling=tiling)
            return torch.cat([gaussian.mean, gaussian.logvar], dim=1)

        plain = outputs(encode, vae.decode, "")
        tiled = outputs(lambda x: encode(x, tiling), lambda z: vae.decode(z, tiling=tiling), "tiled ")
        return plain | tiled

    return reference, ours


def _transformer(model: ModelFolder, dtype: torch.dtype, device: torch.device) -> Both:
    config = model.transformer_config
    p = config.patch_size
    # The learned table is of one size; a table of plain positions (1.5) may be smaller than what others compute.
    height, width = (
        (config.sample_height, config.sample_width)
        if config.learned_positions
        else (min(3 * p, config.sample_height // p * p), min(4 * p, config.sample_width // p * p))
    )
    # One frame where the size is given: the positions of a whole clip are compared on their own.
    frames = 1 if config.learned_positions else 2 * (config.temporal_patch_size or 1)
    noisy = _noise(1 if config.learned_positions else 2, config.in_channels, frames, height, width)
    noisy = noisy.to(device, dtype)
    text = _noise(len(noisy), config.max_text_length, config.text_size).to(device, dtype)
    time = torch.tensor([999, 17][: len(noisy)], device=device)
    ofs = torch.full((1,), 2.0, device=device, dtype=dtype) if config.ofs_size else None

    def reference() -> Named:
        from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel

        transformer: Any = _reference_module(model, "transformer", CogVideoXTransformer3DModel, dtype, device)
        rope = None
        if config.rotary:
            pipeline: Any = SimpleNamespace(transformer=transformer, vae_scale_factor_spatial=1)
            rope = CogVideoXPipeline._prepare_rotary_positional_embeddings(
                pipeline, noisy.shape[3], noisy.shape[4], frames, device
            )
        latents = rearrange(noisy, "b c t h w -> b t c h w")
        extra = {} if ofs is None else {"ofs": ofs}
        velocity = transformer(latents, text, time, image_rotary_emb=rope, return_dict=False, **extra)[0]
        found = {"velocity": rearrange(velocity, "b t c h w -> b c t h w").cpu()}
        if config.learned_positions:
            found["learned positions"] = transformer.patch_embed.pos_embedding.to(dtype).cpu()
        return found

    def ours() -> Named:
        transformer = model.load_transformer(dtype, device)
        found = {"velocity": transformer(noisy, text, time, ofs=ofs).cpu()}
        if config.learned_positions:
            found["learned positions"] = transformer.get_buffer("patch_embed.pos_embedding").cpu()
        return found

    return reference, ours


def _text_encoder(model: ModelFolder, dtype: torch.dtype, device: torch.device) -> Both:
    folder = model.components.get("text_encoder")
    if folder is None or "tokenizer" not in model.components:
        raise InputError(f"{model.path}: no text encoder with its tokenizer in this model")

    def reference() -> Named:
        from transformers import T5Config, T5EncoderModel

        tokens = model.load_tokenizer()(
            PROMPTS,
            padding="max_length",
            max_length=model.max_text_length,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        ).input_ids
        if _reads_itself(model, "text_encoder"):
            encoder: Any = T5EncoderModel.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True
            )
        else:
            encoder = T5EncoderModel(T5Config.from_dict(model.configs["text_encoder"]))
            state = {key: stored.cast(dtype).read() for key, stored in model.weights("text_encoder").items()}
            encoder.load_state_dict(state, strict=False)
            encoder = encoder.to(dtype).eval()
        return {"tokens": tokens, "embeddings": encoder.to(device)(tokens.to(device))[0].cpu()}

    def ours() -> Named:
        encoder = model.load_text_encoder(dtype, device)
        return {"tokens": encoder.tokenize(PROMPTS), "embeddings": encoder.encode(PROMPTS).cpu()}

    return reference, ours


def _scheduler(model: ModelFolder, dtype: torch.dtype, device: torch.device) -> Both:
    """Compare whole trajectories under a network that anyone can compute: v = sin(x + t)."""
    schedule = model.schedule()
    start = _noise(1, 3, 4, 4, 4)

    def network(x: Tensor, timestep: int) -> Tensor:
        return torch.sin(x + timestep)

    def reference() -> Named:
        from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

        ddim: Any = CogVideoXDDIMScheduler.from_config(model.configs["scheduler"])
        ddim.set_timesteps(_SCHEDULER_STEPS)
        found = {"signal levels": ddim.alphas_cumprod.double()}
        x, points = start, []
        for timestep in ddim.timesteps:
            x = ddim.step(network(x, int(timestep)), timestep, x, return_dict=False)[0]
            points.append(x)
        found[f"ddim, {_SCHEDULER_STEPS} steps"] = torch.stack(points)
        dpm: Any = CogVideoXDPMScheduler.from_config(model.configs["scheduler"])
        dpm.set_timesteps(_SCHEDULER_STEPS)
        generator = torch.Generator().manual_seed(SEED)
        x, points, x0, before = start, [], None, None
        for timestep in dpm.timesteps:
            velocity = network(x, int(timestep))
            x, x0 = dpm.step(velocity, x0, timestep, before, x, generator=generator, return_dict=False)
            x, before = x.to(start.dtype), timestep
            points.append(x)
        found[f"dpm, {_SCHEDULER_STEPS} steps"] = torch.stack(points)
        return found

    def ours() -> Named:
        def denoise(x: Tensor, timestep: int, step: int) -> Tensor:
            return network(x, timestep)

        generator = torch.Generator().manual_seed(SEED)
        ddim = sample_ddim(denoise, start, schedule, num_steps=_SCHEDULER_STEPS)
        dpm = sample_dpm(denoise, start, schedule, num_steps=_SCHEDULER_STEPS, generator=generator)
        return {
            "signal levels": schedule.alphas_cumprod,
            f"ddim, {_SCHEDULER_STEPS} steps": torch.stack([x for x, _ in ddim]),
            f"dpm, {_SCHEDULER_STEPS} steps": torch.stack([x for x, _ in dpm]),
        }

    return reference, ours
