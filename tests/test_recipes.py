"""The recipes run at a small size and learn; what they compute themselves is what they say."""

import functools
import importlib
import pkgutil
import subprocess
import sys
from math import log2
from pathlib import Path

import numpy as np
import pytest

from stepsmith import datasets, nn, optim, recipes
from stepsmith.recipes import bayesian_search, characters, cnn, distillation, fine_tune, prune_quantize, timeseries
from stepsmith.recipes import optimizers as optimizers_recipe

NAMES = [module.name for module in pkgutil.iter_modules(recipes.__path__) if not module.name.startswith("_")]
read_mnist = functools.cache(datasets.mnist5k)


@pytest.fixture(autouse=True)
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "mnist5k", read_mnist)


def quick(main, folder: Path, *arguments: str):
    """What a recipe returns; it has drawn one picture."""
    found = main(["--quick", "--output", str(folder), *arguments])
    pictures = list(folder.glob("*.png"))
    assert len(pictures) == 1
    assert pictures[0].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    return found


def test_every_optimizer_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accuracies = quick(optimizers_recipe.main, tmp_path)
    assert set(optimizers_recipe.SETTINGS) == set(accuracies) == set(optim.REGISTRY)
    assert min(accuracies.values()) > 0.5, accuracies
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert rows == list(optim.REGISTRY)


def test_muon_and_adamw_share_the_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    optimizer = optimizers_recipe.MuonWithAdamW(model.parameters(), lr=0.1)
    assert list(optimizer.muon.params) == ["0.weight", "2.weight"]
    before = {name: param.copy() for name, param in model.parameters().items()}
    optimizer.step({name: np.ones_like(param) for name, param in before.items()})
    assert all((param != before[name]).all() for name, param in model.parameters().items())


def test_a_cnn_learns(tmp_path: Path) -> None:
    assert quick(cnn.main, tmp_path) > 0.6


def test_images_are_read_where_they_should_be() -> None:
    images = np.random.default_rng(0).random((3, 1, 7, 7), np.float32)
    row, column = np.indices((3, 7, 7), float)[1:]
    np.testing.assert_array_equal(cnn.between(images, row, column), images)
    np.testing.assert_array_equal(cnn.between(images, row + 2, column - 1)[:, :, :5, 1:], images[:, :, 2:, :6])
    halves = cnn.between(images, row, column + 0.25)[..., :6]
    np.testing.assert_allclose(halves, 0.75 * images[..., :6] + 0.25 * images[..., 1:], rtol=1e-6)
    assert not cnn.between(images, row + 9, column).any()
    assert cnn.between(images, row, column).dtype == np.float32


def test_moved_images_are_turned_about_their_middle() -> None:
    class Fixed:
        """Draws the largest angle, no stretch and no shift."""

        def __init__(self) -> None:
            self.draws = iter([1.0, 0.0, 0.0])

        def uniform(self, low, high, shape):
            return np.full(shape, next(self.draws))

    bars = np.zeros((2, 1, 28, 28), np.float32)
    bars[0, 0, 14:, 13:15] = bars[1, 0, 13:15, 14:] = 1
    turned, labels = cnn.moved([bars, np.array([7, 3])], Fixed())
    down, right = (
        np.polyfit(*np.nonzero(image[0] > 0.5)[:: 1 - 2 * index], 1)[0] for index, image in enumerate(turned)
    )
    assert np.degrees(np.arctan(down)) == pytest.approx(-np.degrees(np.arctan(right)), abs=1)
    assert abs(np.degrees(np.arctan(down))) == pytest.approx(12, abs=1)
    assert labels.tolist() == [7, 3]


@pytest.mark.parametrize("model", characters.KINDS)
def test_a_model_of_characters_beats_their_frequencies(tmp_path: Path, model: str) -> None:
    bits = quick(characters.main, tmp_path, "--model", model)
    assert bits["counts after 2"] < bits["counts after 0"] < 5
    assert bits[model] < bits["counts after 0"]


def test_counts_are_mixed_as_their_formula_says() -> None:
    # a and b, seen 3 and 1 times; after "a" came each of them once.
    p_a, p_b = (3 + 2 * 0.5) / (4 + 2), (1 + 2 * 0.5) / (4 + 2)
    assert characters.counted("aaba", "ab", 0) == pytest.approx(-(log2(p_a) + log2(p_b)) / 2, rel=1e-12)
    after_a = (1 + 2 * p_b) / (2 + 2)
    assert characters.counted("aaba", "ab", 1) == pytest.approx(-log2(after_a), rel=1e-12)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_writing_step_by_step_is_writing_with_the_whole_past(kind: str) -> None:
    model = characters.network(kind, 11, 16, seed=3)
    codes = [1, 5, 2]
    more = characters.written(model, codes, 20, seed=0)
    rng, whole = np.random.default_rng(0), codes
    for _ in range(20):
        whole = [*whole, characters.drawn(model(np.array([whole])), rng)]
    assert more == whole
    assert len(set(more)) > 3
    assert model.modules[1].initial_state is None


def test_a_recurrent_network_learns_series(tmp_path: Path) -> None:
    accuracies = quick(timeseries.main, tmp_path)
    assert accuracies["commonest class"] == 0.1
    assert accuracies["linear"] > 0.6
    assert accuracies["recurrent"] > 0.4


def test_each_stage_is_smaller_and_as_good(tmp_path: Path) -> None:
    found = quick(prune_quantize.main, tmp_path)
    accuracies, sizes = zip(*found.values())
    assert list(found) == ["trained", "pruned", "shrunk", "int8", "int4", "nf4"]
    assert sizes[0] == sizes[1] > 4 * sizes[2] > 12 * sizes[3]
    assert sizes[3] > sizes[4] > sizes[5]
    assert min(accuracies) > 0.85, found
    assert accuracies[1] == pytest.approx(accuracies[2], abs=0.002)


def test_teacher_and_students_learn(tmp_path: Path) -> None:
    accuracies = quick(distillation.main, tmp_path)
    assert min(accuracies.values()) > 0.55, accuracies


def test_fine_tuning_beats_a_start_from_scratch(tmp_path: Path) -> None:
    ((scratch, tuned),) = quick(fine_tune.main, tmp_path).values()
    assert tuned > scratch + 0.1
    assert tuned > 0.4


def test_few_labels_are_as_many_of_each_class() -> None:
    X, y = fine_tune.few((np.arange(100), np.arange(100) % 10), 3, seed=1)
    assert np.bincount(y).tolist() == [3] * 10
    assert (y == X % 10).all()
    assert len(set(X)) == 30


def test_the_search_finds_something_better(tmp_path: Path) -> None:
    found = quick(bayesian_search.main, tmp_path)
    assert found["best loss"] < found["default loss"]
    assert min(found["best accuracy"], found["default accuracy"]) > 0.6


def test_the_library_does_not_import_them() -> None:
    code = "import sys, stepsmith; print([name for name in sys.modules if 'recipes' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("recipe", "missing", "extra"),
    [("bayesian_search", "optuna", "optuna"), ("optimizers", "sklearn.datasets", "sklearn")],
)
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, missing: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    module = importlib.import_module(f"stepsmith.recipes.{recipe}")
    with pytest.raises(ImportError, match=rf"pip install 'stepsmith\[{extra}\]'"):
        module.main(["--quick", "--output", str(tmp_path)])


def test_the_page_has_a_command_for_each() -> None:
    text = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
    assert NAMES
    assert all(f"python -m stepsmith.recipes.{name}" in text for name in NAMES)
