"""From what the network predicts to the clean estimate."""

from typing import Literal

from torch import Tensor

Prediction = Literal["v_prediction", "epsilon", "sample"]


def x0_from(prediction: Prediction, x_t: Tensor, output: Tensor, alpha: Tensor) -> Tensor:
    """Return the clean estimate of x_t (any shape).

    Args:
        prediction: What the network predicts: the velocity (every released model), the noise, or the clean clip itself.
        x_t: Noised latents.
        output: The network's output, of the same shape.
        alpha: The level, float64 ().
    """
    if prediction == "v_prediction":
        return alpha**0.5 * x_t - (1 - alpha) ** 0.5 * output
    if prediction == "epsilon":
        return (x_t - (1 - alpha) ** 0.5 * output) / alpha**0.5
    return output
