"""How much happens: nothing in a frozen clip, more in a moving one, most in a shuffled one."""

import numpy as np
import pytest

from cogvx.errors import InputError
from cogvx.evaluation.dynamics.level import dynamics, saturate, segment_distance


def moving(step, frames=16):
    """A smooth texture that wanders."""
    y, x = np.mgrid[0:64, 0:96]
    pictures = [127 + 60 * np.sin((x + step * t) / 9) + 50 * np.cos((y + 0.5 * step * t) / 7) for t in range(frames)]
    return np.repeat(np.stack(pictures)[..., None], 3, axis=3).clip(0, 255).astype(np.uint8)


def test_frozen_moving_shuffled():
    frozen, slow, fast = (dynamics(moving(step), 8) for step in (0, 0.5, 3))
    assert frozen.value == pytest.approx(0, abs=1e-6) and frozen.ssim == pytest.approx(1)
    scattered = dynamics(np.random.default_rng(0).integers(0, 256, (16, 64, 96, 3), dtype=np.uint8), 8)
    assert frozen.value < slow.value < fast.value < 1 and slow.frame < fast.frame < scattered.frame
    order = np.random.default_rng(1).permutation(16)
    assert dynamics(moving(0.5)[order], 8).frame > slow.frame
    assert slow.flow == pytest.approx(np.hypot(0.5, 0.25), abs=0.2)


def test_twice_the_rate_is_the_same_clip():
    twice = np.repeat(moving(1), 2, axis=0)
    assert dynamics(twice, 16) == dynamics(moving(1), 8)


def test_parts():
    assert saturate(0, 4) == 0 and saturate(4, 4) == 0.5
    cells = np.zeros((8, 1, 1, 3))
    cells[4:] = 1  # at lag k, min(k, 8 - k) of the 8 - k pairs lie on both sides
    assert segment_distance(cells) == pytest.approx(np.mean([min(k, 8 - k) / (8 - k) for k in range(1, 8)]))


def test_too_little_to_see():
    with pytest.raises(InputError, match="two frames"):
        dynamics(moving(1)[:1], 8)
    with pytest.raises(InputError, match="16 pixels"):
        dynamics(moving(1)[:, :8], 8)
