"""Distances between two sets of feature vectors: Fréchet's, of which FVD is one, and the kernel distance of KVD.

All in float64. What the numbers mean is decided by the network that made the features, and by how many there are:
both distances are compared only at the same network and the same counts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cogvx.errors import InputError, ShapeError
from cogvx.files import clean, save_safetensors

FORMAT = "cogvx.feature-statistics/1"
_BLOCK = 1024
_BATCH = 256  # vectors that are summed at once


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of a set of feature vectors.

    Attributes:
        count: Vectors.
        mean: float64 (d).
        covariance: float64 (d d), biased: divided by count, as the usual code of FVD does.
    """

    count: int
    mean: np.ndarray
    covariance: np.ndarray


class Moments:
    """Mean and covariance of vectors that come in batches: memory for d x d numbers, however many come.

    Deviations from the running mean are summed, so that a large mean costs no digits (Chan, Golub, LeVeque 1979).

    Args:
        size: Features d of a vector.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self._summed = 0  # of these
        self._mean = np.zeros(size)
        self._scatter = np.zeros((size, size))
        self._waiting: list[np.ndarray] = []  # single vectors, summed many at once

    def add(self, features: ArrayLike) -> None:
        """Add vectors (n d), or one (d).

        Raises:
            ShapeError: They have another size.
            InputError: They hold NaN or infinity.
        """
        batch = np.atleast_2d(np.asarray(features, dtype=np.float64))
        if batch.ndim != 2 or batch.shape[1] != len(self._mean):
            raise ShapeError(f"features: expected (n {len(self._mean)}), got {tuple(batch.shape)}")
        if not np.isfinite(batch).all():
            raise InputError("features hold NaN or infinity")
        self.count += len(batch)
        self._waiting.append(batch.copy())
        if sum(map(len, self._waiting)) >= _BATCH:
            self._sum()

    def merge(self, other: "Moments") -> None:
        """Add all vectors of another."""
        other._sum()
        self._sum()
        if other.count:
            self.count += other.count
            self._join(other.count, other._mean, other._scatter)

    def gaussian(self) -> Gaussian:
        """Return mean and covariance of what was added.

        Raises:
            InputError: Nothing was.
        """
        self._sum()
        if not self.count:
            raise InputError("no features: there is nothing to compare")
        return Gaussian(self.count, self._mean.copy(), self._scatter / self.count)

    def _sum(self) -> None:
        """Take in the vectors that wait."""
        waiting, self._waiting = self._waiting, []
        batch = np.concatenate(waiting) if waiting else np.zeros((0, len(self._mean)))
        if len(batch):
            mean = batch.mean(axis=0)
            apart = batch - mean
            self._join(len(batch), mean, apart.T @ apart)

    def _join(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        total, step = self._summed + count, mean - self._mean
        self._scatter += scatter
        self._scatter += np.outer(step, step) * (self._summed * count / total)
        self._mean = self._mean + step * (count / total)
        self._summed = total


def gaussian_of(features: ArrayLike) -> Gaussian:
    """Return mean and covariance of vectors (n d); errors are those of Moments."""
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2:
        raise ShapeError(f"features: expected (n d), got {tuple(array.shape)}")
    moments = Moments(array.shape[1])
    moments.add(array)
    return moments.gaussian()


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Return the Fréchet distance of two Gaussians: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), at least 0.

    The trace of the root is the sum of the singular values of S1^1/2 S2^1/2, which are found from the eigenvectors of
    each: no root of a matrix that is not symmetric, no imaginary rest. Eigenvalues of rounding size count as 0.

    Raises:
        ShapeError: The sizes differ.

    Source: Dowson and Landau, "The Fréchet distance between multivariate normal distributions" (1982); Unterthiner et
        al., "Towards Accurate Generative Models of Video" (arXiv 1812.01717).
    """
    if a.mean.shape != b.mean.shape:
        raise ShapeError(f"features of {len(a.mean)} and {len(b.mean)} numbers are not compared")
    (roots_a, vectors_a), (roots_b, vectors_b) = _root(a.covariance), _root(b.covariance)
    product = (roots_a[:, None] * (vectors_a.T @ vectors_b)) * roots_b
    overlap = np.linalg.svd(product, compute_uv=False).sum()
    apart = float(((a.mean - b.mean) ** 2).sum())
    return max(0.0, apart + float(np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap))


def kernel_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Return the squared maximum mean discrepancy of vectors (n d) and (m d), kernel (x.y/d + 1)^3, unbiased.

    Its expectation is 0 for sets of one distribution, whatever their counts, so it may be a little below 0. Computed
    in blocks: no n x m matrix is held.

    Raises:
        ShapeError: The shapes are not (n d) and (m d), or one set has fewer than 2 vectors.

    Source: Bińkowski et al., "Demystifying MMD GANs" (arXiv 1801.01401); as KVD in arXiv 1812.01717.
    """
    x, y = (np.asarray(one, dtype=np.float64) for one in (a, b))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ShapeError(f"features: expected (n d) and (m d) of two or more, got {tuple(x.shape)}, {tuple(y.shape)}")
    within = sum(_off_diagonal(one) / (len(one) * (len(one) - 1)) for one in (x, y))
    return within - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def save_statistics(
    path: Path | str,
    gaussian: Gaussian,
    *,
    protocol: Mapping[str, Any],
    features: np.ndarray | None = None,
    overwrite: bool = False,
) -> None:
    """Write a set's statistics as safetensors, with the way they were made in the header.

    Args:
        path: The file.
        gaussian: Mean and covariance.
        protocol: Everything that changes them, as JSON takes it.
        features: Vectors (n d), all or some, for the kernel distance.
        overwrite: Whether an existing file is replaced.

    Raises:
        UsageError: The file exists.
        MissingError: The disk is full.
    """
    import torch

    arrays = {"mean": gaussian.mean, "covariance": gaussian.covariance}
    if features is not None:
        arrays["features"] = np.asarray(features, dtype=np.float32)
    metadata = {"format": FORMAT, "count": str(gaussian.count), "protocol": json.dumps(dict(protocol), sort_keys=True)}
    save_safetensors(
        {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()},
        path,
        metadata,
        overwrite=overwrite,
    )


def load_statistics(path: Path | str) -> tuple[Gaussian, dict[str, Any], np.ndarray | None]:
    """Read what save_statistics wrote: mean and covariance, the protocol, and the vectors or None.

    Raises:
        InputError: The file cannot be read, is damaged, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    name = clean(str(path))
    try:
        with safe_open(str(path), framework="np") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise InputError(f"{name}: no statistics of features (format {clean(header.get('format', 'none'))})")
            mean, covariance = (np.asarray(file.get_tensor(key), np.float64) for key in ("mean", "covariance"))
            features = file.get_tensor("features") if "features" in file.keys() else None
            count, protocol = int(header["count"]), json.loads(header["protocol"])
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from error
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: damaged statistics: {clean(str(error))[:120]}") from error
    square = mean.ndim == 1 and covariance.shape == (len(mean), len(mean))
    fits = features is None or (features.ndim == 2 and features.shape[1] == len(mean))
    finite = all(np.isfinite(array).all() for array in (mean, covariance, features) if array is not None)
    if not (square and fits and finite and count > 0 and isinstance(protocol, dict)):
        raise InputError(f"{name}: damaged statistics: mean {mean.shape}, covariance {covariance.shape}")
    return Gaussian(count, mean, covariance), protocol, features


def _root(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the square roots of the eigenvalues (d), and the eigenvectors (d d) as columns."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    smallest = max(float(values[-1]), 0.0) * len(values) * np.finfo(np.float64).eps
    return np.sqrt(np.where(values > smallest, values, 0.0)), vectors


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
    return sum(float(_kernel(x[i : i + _BLOCK], y).sum()) for i in range(0, len(x), _BLOCK))


def _off_diagonal(x: np.ndarray) -> float:
    """Return the sum of the kernel over pairs of different vectors."""
    own = ((x * x).sum(axis=1) / x.shape[1] + 1.0) ** 3
    return _kernel_sum(x, x) - float(own.sum())
