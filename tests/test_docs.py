"""The pages of docs/ run, and do what they say."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def run_page(name: str) -> dict[str, Any]:
    """The names that a page's blocks leave, run in order."""
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(), flags=re.S):
        exec(compile(code, name, "exec"), names)
    return names


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    return run_page("preparing_data.md")


def covariance(array: np.ndarray) -> np.ndarray:
    return np.cov(array.astype(np.float64), rowvar=False)


def test_the_training_part_is_standardized_and_the_test_part_by_it(page: dict[str, Any]) -> None:
    np.testing.assert_allclose(page["train"].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(page["train"].std(axis=0), 1, atol=1e-5)
    assert np.abs(page["test"].mean(axis=0)).max() > 1e-3
    assert (page["train_range"].min(), page["train_range"].max()) == pytest.approx((0, 1), abs=1e-6)


def test_whitened_data_have_the_identity_as_covariance(page: dict[str, Any]) -> None:
    np.testing.assert_allclose(covariance(page["train_pca"]), np.eye(8), atol=1e-5)
    np.testing.assert_allclose(covariance(page["train_zca"]), np.eye(13), atol=1e-5)
    exact = (page["scaled_train"] - page["mean"]) @ page["W"]
    np.testing.assert_allclose(covariance(exact), np.eye(13), atol=1e-12)
    np.testing.assert_allclose(page["W"], page["W"].T, atol=1e-12, err_msg="ZCA is the symmetric whitening")


def test_every_preparation_trains(page: dict[str, Any]) -> None:
    accuracies = {name: value for name, value in page.items() if name.startswith("accuracy")}
    assert len(accuracies) == 5
    assert min(accuracies.values()) > 0.9, accuracies


def test_the_readme_links_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert pages
    assert all(f"](docs/{name})" in text for name in pages)
