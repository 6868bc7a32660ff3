"""Metrics order what is done to a real clip as anybody would: frozen, shuffled, blurred, noisy, with frames lost."""

import numpy as np
import pytest
from films import real_clip
from PIL import Image, ImageFilter

from cogvx.data.clips import read_clip
from cogvx.data.signals.registry import signals_of
from cogvx.data.signals.sample import sample_of
from cogvx.data.video import to_video
from cogvx.evaluation.dynamics.level import dynamics
from cogvx.evaluation.vbench.networks import open_flow
from cogvx.evaluation.vbench.rules import dynamic_degree
from cogvx.metrics.flicker import flicker_excess, flicker_mae255
from cogvx.metrics.reconstruction import psnr, ssim

pytest.importorskip("cv2")
FPS = 8.0


@pytest.fixture(scope="module")
def clips():
    """Frames (t h w 3) of a real clip, and of what was done to it."""
    path = real_clip("bikes.mp4")
    real = read_clip(path, num_frames=17, fps=FPS, height=144, width=192, start=1.0)
    random = np.random.default_rng(0)
    noise = np.clip(real + random.normal(0, 12, real.shape), 0, 255).round().astype(np.uint8)
    blurred = [np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(2))) for frame in real]
    return {
        "real": real,
        "frozen": np.repeat(real[:1], len(real), axis=0),
        "shuffled": real[random.permutation(len(real))],
        "noisy": noise,
        "blurred": np.stack(blurred),
        "dropped": np.repeat(real[::2], 2, axis=0)[: len(real)],  # every second frame is the one before it again
    }


def video(frames):
    """(1 3 t h w) in [0, 1]."""
    return (to_video(frames)[None] + 1) / 2


def test_flicker(clips):
    of = {name: flicker_mae255(video(frames)).item() for name, frames in clips.items()}
    assert 0 == of["frozen"] < of["blurred"] < of["real"] < of["noisy"] and of["real"] < of["shuffled"]
    excess = {name: flicker_excess(video(clips["real"]), video(frames)).item() for name, frames in clips.items()}
    assert excess["real"] == 0 and min(excess[name] for name in clips if name != "real") > 0.5


def test_how_much_happens(clips):
    of = {name: dynamics(clips[name], FPS).value for name in ("frozen", "real", "shuffled")}
    assert of["frozen"] == pytest.approx(0, abs=1e-6) and 0.05 < of["real"] < of["shuffled"]


def test_dynamic_degree(clips):
    network = open_flow("dis")
    found = {name: dynamic_degree(clips[name], FPS, network.flow) for name in ("frozen", "real", "shuffled")}
    assert [dynamic for dynamic, _ in found.values()] == [False, True, True]
    assert max(found["frozen"][1]) < 0.01 and np.mean(found["real"][1]) < np.mean(found["shuffled"][1])


def test_sharpness_and_continuity(clips):
    names = ["sharpness", "continuity", "frozen"]
    scores = {name: {} for name in clips}
    for signal in signals_of(names):
        for name, frames in clips.items():
            scores[name] |= signal.measure(sample_of(frames, FPS)).scores
    sharp = {name: one["sharpness"] for name, one in scores.items()}
    assert sharp["blurred"] < 0.5 * sharp["real"] and sharp["real"] < sharp["noisy"]
    assert scores["real"]["continuity"] > scores["shuffled"]["continuity"]
    assert scores["dropped"]["judder"] > 1 > scores["real"]["judder"]
    assert [scores[name]["frozen"] for name in ("frozen", "real", "dropped")] == [1, 0, 0.5]


def test_what_is_kept(clips):
    real = video(clips["real"])
    kept = {name: (psnr(real, video(clips[name])).item(), ssim(real, video(clips[name])).item()) for name in clips}
    assert kept["real"] == (100, pytest.approx(1))
    assert max(kept[name][0] for name in ("frozen", "shuffled", "blurred", "noisy")) < 35
    assert kept["blurred"][1] < 0.95 and kept["noisy"][1] < 0.95 and kept["shuffled"][1] < kept["dropped"][1] < 1
