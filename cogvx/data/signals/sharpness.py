"""How sharp a clip is at the size that it is trained at."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cogvx.data.signals.sample import STILL_SIDE, luma
from cogvx.data.signals.signal import Signal, View

_MOST_ENLARGED = 4.0


@dataclass(frozen=True)
class Sharpness(Signal):
    """Variance of the Laplacian of luma (0…255) at a stated size, the mean over stills.

    The Laplacian is the sum of the four neighbours minus four times the pixel, without the border. A still is resized
    (bicubic) so that its shorter side has the size: a small clip is as blurred as it will be when it is enlarged, by 4
    at most. Below 100 is blurred; but a clear sky has no edges either.

    Attributes:
        size: Pixels of the shorter side.
    """

    name: ClassVar[str] = "sharpness"
    columns: ClassVar[tuple[str, ...]] = ("sharpness",)
    view: ClassVar[View] = "stills"

    size: int = STILL_SIDE

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return the columns of stills, uint8 (t h w 3)."""
        found = [_laplacian(self._resized(picture)).var() for picture in luma(frames)]
        return {"sharpness": float(np.mean(found))}

    def _resized(self, picture: np.ndarray) -> np.ndarray:
        from PIL import Image

        height, width = picture.shape
        scale = min(self.size / min(height, width), _MOST_ENLARGED)
        if scale == 1.0:
            return picture
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _laplacian(picture: np.ndarray) -> np.ndarray:
    grey = np.pad(picture, [(0, max(0, 3 - size)) for size in picture.shape], mode="edge").astype(np.float32)
    centre = grey[1:-1, 1:-1]
    return grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
