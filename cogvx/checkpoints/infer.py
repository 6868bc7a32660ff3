"""Configs from the tensors alone, for files that come without one."""

import re
from collections.abc import Mapping
from typing import Any

from cogvx.checkpoints.weights import Weights
from cogvx.errors import InputError
from cogvx.models.transformer.config import TransformerConfig
from cogvx.models.vae.config import VAEConfig

SCALING_2B, SCALING_5B = 1.15258426, 0.7
_NATIVE_1_0, _NATIVE_1_5 = (60, 90, 49), (300, 300, 81)
_TEXT_LENGTH = 226
_HEADS_2B = 30


def infer_transformer(
    weights: Weights, *, rotary: bool | None = None, text_length: int = _TEXT_LENGTH
) -> TransformerConfig:
    """Return the config that fits the weights of a transformer.

    What the tensors do not say is as in the released models: their own sizes in latents and frames, and that only the
    2B form has no rotation.

    Args:
        weights: Under our names.
        rotary: Whether positions rotate, if that is known.
        text_length: Text tokens, if that is known.

    Raises:
        InputError: The tensors are of no CogVideoX transformer.
    """
    try:
        proj, text = weights["patch_embed.proj.weight"].shape, weights["patch_embed.text_proj.weight"].shape
        head_dim = weights["transformer_blocks.0.attn1.norm_q.weight"].shape[0]
        with_time = len(proj) == 2  # the 1.5 models have patches over two frames
        patch_values = 8 if with_time else proj[2] * proj[3]
        num_heads = text[0] // head_dim
        if rotary is None:
            rotary = num_heads != _HEADS_2B or with_time
        height, width, frames = _NATIVE_1_5 if with_time else _NATIVE_1_0
        positions = weights.get("patch_embed.pos_embedding")
        if positions is not None and positions.shape[1] != text_length + 13 * 30 * 45:
            count = positions.shape[1]
            raise InputError(f"a learned table of {count} positions is not a released one; give its config.json")
        return TransformerConfig(
            num_layers=_count(weights, r"transformer_blocks\.(\d+)\."),
            num_heads=num_heads,
            head_dim=head_dim,
            in_channels=proj[1] // 8 if with_time else proj[1],
            out_channels=weights["proj_out.weight"].shape[0] // patch_values,
            patch_size=2 if with_time else proj[2],
            temporal_patch_size=2 if with_time else None,
            patch_bias=not with_time,
            text_size=text[1],
            time_size=weights["time_embedding.linear_1.weight"].shape[0],
            ofs_size=weights["ofs_embedding.linear_1.weight"].shape[0]
            if "ofs_embedding.linear_1.weight" in weights
            else None,
            max_text_length=text_length,
            sample_height=height,
            sample_width=width,
            sample_frames=frames,
            rotary=rotary,
            learned_positions=positions is not None,
        )
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise InputError(
            f"these are not the weights of a CogVideoX transformer: {error} is missing or has another shape"
        ) from error


def infer_vae(weights: Weights, *, scaling_factor: float = SCALING_2B, invert_scale_latents: bool = False) -> VAEConfig:
    """Return the config that fits the weights of a VAE.

    Args:
        weights: Under our names.
        scaling_factor: Not in the tensors: it goes with the transformer.
        invert_scale_latents: As scaling_factor; the 1.5 models have it.

    Raises:
        InputError: The tensors are of no CogVideoX VAE.
    """
    try:
        levels = _count(weights, r"encoder\.down_blocks\.(\d+)\.")
        channels = tuple(
            weights[f"encoder.down_blocks.{i}.resnets.0.conv1.conv.weight"].shape[0] for i in range(levels)
        )
        if any(count % 32 for count in channels):
            raise InputError(f"a VAE of {channels} channels is not a released one; give its config.json")
        return VAEConfig(
            in_channels=weights["encoder.conv_in.conv.weight"].shape[1],
            out_channels=weights["decoder.conv_out.conv.weight"].shape[0],
            block_out_channels=channels,
            latent_channels=weights["encoder.conv_out.conv.weight"].shape[0] // 2,
            layers_per_block=_count(weights, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
            scaling_factor=scaling_factor,
            invert_scale_latents=invert_scale_latents,
        )
    except (KeyError, IndexError) as error:
        raise InputError(
            f"these are not the weights of a CogVideoX VAE: {error} is missing or has another shape"
        ) from error


def scheduler_config(*, snr_shift_scale: float) -> dict[str, Any]:
    """Return the official scheduler_config.json; the models differ in the shift of the signal-to-noise ratio only."""
    return {
        "_class_name": "CogVideoXDDIMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "clip_sample_range": 1.0,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "sample_max_value": 1.0,
        "set_alpha_to_one": True,
        "snr_shift_scale": snr_shift_scale,
        "steps_offset": 0,
        "timestep_spacing": "trailing",
        "trained_betas": None,
    }


def form_of(config: Mapping[str, Any]) -> str:
    """Return which released form a transformer's config.json is like: 2b, 5b, 5b-i2v, 1.5-5b, 1.5-5b-i2v."""
    with_time = config.get("patch_size_t") is not None
    with_image = config.get("in_channels", 16) > config.get("out_channels", 16)
    name = "1.5-5b" if with_time else "5b" if config.get("use_rotary_positional_embeddings") else "2b"
    return f"{name}-i2v" if with_image else name


def _count(weights: Weights, pattern: str) -> int:
    return 1 + max((int(match[1]) for name in weights if (match := re.match(pattern, name))), default=-1)
