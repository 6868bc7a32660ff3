"""Distances of feature sets: closed forms, and the usual code's numbers."""

import numpy as np
import pytest

from cogvx.errors import InputError, ShapeError
from cogvx.metrics.frechet import (
    Gaussian,
    Moments,
    frechet_distance,
    gaussian_of,
    kernel_distance,
    load_statistics,
    save_statistics,
)


def features(n, d, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ np.random.default_rng(99).normal(size=(d, d)) + shift


@pytest.mark.parametrize("n,d,within", [(400, 8, 1e-8), (500, 64, 1e-8), (300, 150, 1e-8)])
def test_it_is_what_a_root_of_the_product_gives(n, d, within):
    linalg = pytest.importorskip("scipy.linalg")
    a, b = gaussian_of(features(n, d)), gaussian_of(features(n, d, seed=1, shift=0.5))
    root = linalg.sqrtm(a.covariance @ b.covariance)
    wanted = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * root.real)
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=within)


def test_closed_forms():
    d, rng = 6, np.random.default_rng(3)
    shift, s, t = rng.normal(size=d), rng.uniform(0.1, 3, d), rng.uniform(0.1, 3, d)
    one = np.eye(d)
    apart = frechet_distance(Gaussian(9, np.zeros(d), one), Gaussian(9, shift, one))
    assert apart == pytest.approx((shift**2).sum(), rel=1e-12)
    stretched = frechet_distance(Gaussian(9, shift, np.diag(s)), Gaussian(9, shift, np.diag(t)))
    assert stretched == pytest.approx(((s**0.5 - t**0.5) ** 2).sum(), rel=1e-12)


@pytest.mark.parametrize("n", [50, 1000])  # fewer than features: a singular covariance
def test_a_set_has_no_distance_from_itself(n):
    a = gaussian_of(features(n, 100))
    assert frechet_distance(a, a) <= 1e-8 * np.trace(a.covariance)


def test_the_order_and_the_batches_do_not_matter():
    x = features(257, 12) + 1e4  # a large mean costs no digits
    whole, parts, other = gaussian_of(x), Moments(12), Moments(12)
    for batch in np.array_split(np.random.default_rng(5).permutation(x), 40):
        (parts if len(batch) % 2 else other).add(batch)
    parts.merge(other)
    found = parts.gaussian()
    assert found.count == 257
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(x.T, bias=True), rtol=1e-7, atol=1e-8)
    assert frechet_distance(whole, found) < 1e-6


def test_it_is_symmetric():
    a, b = gaussian_of(features(90, 30)), gaussian_of(features(70, 30, seed=1))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)


def test_the_kernel_distance_is_its_definition_and_unbiased():
    x, y = features(40, 5), features(30, 5, seed=1, shift=0.3)

    def kernel(a, b):
        return (a @ b / 5 + 1) ** 3

    def pairs(u, v, same):
        return [kernel(a, b) for i, a in enumerate(u) for j, b in enumerate(v) if not (same and i == j)]

    wanted = np.mean(pairs(x, x, True)) + np.mean(pairs(y, y, True)) - 2 * np.mean(pairs(x, y, False))
    assert kernel_distance(x, y) == pytest.approx(wanted, rel=1e-9)
    rng = np.random.default_rng(0)
    found = [kernel_distance(rng.normal(size=(20, 4)), rng.normal(size=(20, 4))) for _ in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20
    assert min(found) < 0
    assert kernel_distance(rng.normal(size=(200, 4)), 1 + rng.normal(size=(200, 4))) > 5 * np.std(found)


def test_blocks_do_not_change_the_kernel_distance(monkeypatch):
    x, y = features(70, 6), features(50, 6, seed=1)
    whole = kernel_distance(x, y)
    monkeypatch.setattr("cogvx.metrics.frechet._BLOCK", 16)
    assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-10)


def test_statistics_come_back(tmp_path):
    x = features(20, 4)
    save_statistics(tmp_path / "s.safetensors", gaussian_of(x), protocol={"frames": 16}, features=x)
    gaussian, protocol, kept = load_statistics(tmp_path / "s.safetensors")
    assert gaussian.count == 20 and protocol == {"frames": 16}
    np.testing.assert_array_equal(gaussian.covariance, gaussian_of(x).covariance)
    np.testing.assert_array_equal(kept, x.astype(np.float32))


def test_damage_is_named(tmp_path):
    from safetensors.numpy import save_file

    whole = tmp_path / "s.safetensors"
    save_statistics(whole, gaussian_of(features(20, 4)), protocol={})
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-20])
    save_file({"mean": np.zeros(3)}, tmp_path / "other.safetensors")
    about = {"format": "cogvx.feature-statistics/1", "count": "3", "protocol": "{}"}
    save_file({"mean": np.zeros(3), "covariance": np.zeros((2, 2))}, tmp_path / "odd.safetensors", about)
    for name in ("cut", "other", "odd", "missing"):
        with pytest.raises(InputError, match=name):
            load_statistics(tmp_path / f"{name}.safetensors")


def test_what_cannot_be_compared_is_named():
    with pytest.raises(ShapeError):
        frechet_distance(gaussian_of(features(9, 3)), gaussian_of(features(9, 4)))
    with pytest.raises(ShapeError):
        kernel_distance(features(1, 3), features(9, 3))
    with pytest.raises(InputError, match="NaN"):
        gaussian_of(np.full((3, 2), np.nan))
    with pytest.raises(InputError, match="no features"):
        Moments(3).gaussian()
