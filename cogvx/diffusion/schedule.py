"""The noise schedule: how much of a clip is left at each diffusion time."""

from typing import Any, get_args

import torch
from torch import Tensor

from cogvx.diffusion.prediction import Prediction
from cogvx.diffusion.timesteps import Spacing, sampling_timesteps
from cogvx.errors import InputError

# A value that is not the first of these is one that no CogVideoX has.
_SUPPORTED = {"beta_schedule": "scaled_linear", "trained_betas": None}
_READ = {
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "snr_shift_scale",
    "rescale_betas_zero_snr",
    "set_alpha_to_one",
    "prediction_type",
    "timestep_spacing",
    "steps_offset",
}
# Written by the reference and read by nothing.
_UNUSED = {"clip_sample", "clip_sample_range", "sample_max_value", "dynamic_thresholding_ratio", "thresholding"}


class Schedule:
    """Noise levels of the 1000 diffusion times.

    Attributes:
        alphas_cumprod: (1000,) float64, the share of the signal's variance; the last is exactly 0.
        final_alpha_cumprod: The share before time 0.
        prediction: What the network predicts.
        spacing: Which times a sampler visits.
        config: What the schedule was made from, as in `scheduler_config.json`.
    """

    def __init__(
        self,
        *,
        num_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        snr_shift_scale: float = 1.0,
        zero_terminal_snr: bool = True,
        set_alpha_to_one: bool = True,
        prediction: Prediction = "v_prediction",
        spacing: Spacing = "trailing",
        steps_offset: int = 0,
    ) -> None:
        """Compute the schedule; the shift of the signal-to-noise ratio precedes the rescaling to zero.

        Source: CogVideoX paper (arXiv 2408.06072); SAT configs (shift 3 for 2B, 1 for 5B).
        """
        roots = torch.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=torch.float64)
        alphas = torch.cumprod(1.0 - roots**2, dim=0)
        alphas = alphas / (snr_shift_scale + (1 - snr_shift_scale) * alphas)
        if zero_terminal_snr:
            signal = alphas.sqrt()
            first, last = signal[0].clone(), signal[-1].clone()
            alphas = ((signal - last) * (first / (first - last))) ** 2
        self.alphas_cumprod = alphas
        self.final_alpha_cumprod = torch.ones((), dtype=torch.float64) if set_alpha_to_one else alphas[0]
        self.prediction, self.spacing, self.steps_offset = prediction, spacing, steps_offset
        self.config: dict[str, Any] = {
            "_class_name": "CogVideoXDDIMScheduler",
            **_SUPPORTED,
            "beta_start": beta_start,
            "beta_end": beta_end,
            "clip_sample": False,
            "num_train_timesteps": num_timesteps,
            "prediction_type": prediction,
            "rescale_betas_zero_snr": zero_terminal_snr,
            "set_alpha_to_one": set_alpha_to_one,
            "snr_shift_scale": snr_shift_scale,
            "steps_offset": steps_offset,
            "timestep_spacing": spacing,
        }

    @property
    def num_timesteps(self) -> int:
        """Length of the schedule."""
        return len(self.alphas_cumprod)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Schedule":
        """Read a `scheduler_config.json`; keys that it leaves out have the reference's defaults.

        Raises:
            InputError: A setting is unknown or not one that CogVideoX has.
        """
        for key, value in config.items():
            if key in _SUPPORTED and value != _SUPPORTED[key]:
                raise InputError(f"scheduler config: {key}={value!r} is not supported (only {_SUPPORTED[key]!r})")
            if key not in _SUPPORTED and key not in _READ | _UNUSED and not key.startswith("_"):
                raise InputError(f"scheduler config: unknown key {key!r}")
        prediction, spacing = config.get("prediction_type", "epsilon"), config.get("timestep_spacing", "leading")
        for key, value, known in (
            ("prediction_type", prediction, get_args(Prediction)),
            ("timestep_spacing", spacing, get_args(Spacing)),
        ):
            if value not in known:
                raise InputError(f"scheduler config: {key}={value!r} is not one of {', '.join(known)}")
        return cls(
            num_timesteps=config.get("num_train_timesteps", 1000),
            beta_start=config.get("beta_start", 0.00085),
            beta_end=config.get("beta_end", 0.012),
            snr_shift_scale=config.get("snr_shift_scale", 3.0),
            zero_terminal_snr=config.get("rescale_betas_zero_snr", False),
            set_alpha_to_one=config.get("set_alpha_to_one", True),
            prediction=prediction,
            spacing=spacing,
            steps_offset=config.get("steps_offset", 0),
        )

    def timesteps(self, num_steps: int) -> list[int]:
        """Return the times that a sampler with this many steps visits, from noise to clip."""
        return sampling_timesteps(num_steps, self.num_timesteps, spacing=self.spacing, offset=self.steps_offset)

    def alpha_before(self, timestep: int) -> Tensor:
        """Return the level at a time, float64 (); below 0 that of the clean clip."""
        return self.alphas_cumprod[timestep] if timestep >= 0 else self.final_alpha_cumprod

    def add_noise(self, x0: Tensor, noise: Tensor, timestep: Tensor | int) -> Tensor:
        """Return x_t (b ...) of clean latents x0 (b ...) at times (b,) or one time.

        The level is cast to the latents' type before its root, as the official code does: in bfloat16 times 0 and 1 add
        no noise at all.
        """
        signal, spread = self._levels(x0, timestep)
        return signal * x0 + spread * noise

    def velocity(self, x0: Tensor, noise: Tensor, timestep: Tensor | int) -> Tensor:
        """Return what the network learns to predict, (b ...), at times (b,) or one time."""
        signal, spread = self._levels(x0, timestep)
        return signal * noise - spread * x0

    def _levels(self, x0: Tensor, timestep: Tensor | int) -> tuple[Tensor, Tensor]:
        alphas = self.alphas_cumprod.to(x0.device, x0.dtype)[torch.as_tensor(timestep, device=x0.device)]
        alphas = alphas.reshape(alphas.shape + (1,) * (x0.ndim - alphas.ndim)) if alphas.ndim else alphas
        return alphas.sqrt(), (1 - alphas).sqrt()
