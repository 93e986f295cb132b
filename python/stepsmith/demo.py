"""The main job: a 64-128-10 network on scikit-learn's handwritten digits, with scikit-learn's own beside it."""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy.typing as npt

from stepsmith import datasets, nn, optim
from stepsmith.train import Trainer

__all__ = ["Digits", "build", "load", "run"]

Array = npt.NDArray[Any]

HIDDEN = 128
BATCH_SIZE = 32
LR = 1e-3
WEIGHT_DECAY = 0.5
TIMED_RUNS = 5


class Digits(NamedTuple):
    """Training and test part; inputs are float32 (samples, 64), labels integers in [0, 10)."""

    train: tuple[Array, Array]
    test: tuple[Array, Array]


def load() -> Digits:
    """`datasets.digits`, its pixels from 0 to 4.

    Raises:
        ImportError: scikit-learn is missing.
    """
    return Digits(*((4 * inputs, labels) for inputs, labels in datasets.digits()))


def build(seed: int) -> Trainer:
    """The network and its trainer.

    Input scale and weight decay come from a comparison of some twenty variants over six splits of the training part
    into training and validation; the test part had no say. The leading ones, with dropout, another initializer, or
    other values, lay within 0.001 of each other, less than the noise: this is one of the plainest among them.
    """
    model = _network(seed)
    optimizer = optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    return Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=seed)


def _network(seed: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10), seed=seed)


def run(epochs: int, seed: int, output: str | os.PathLike[str], compare: bool = True) -> None:
    """Train, print the table and the figures, and save the learning curves.

    Args:
        epochs: Of every training.
        seed: Of the run that is shown; the mean is over this one and the next two.
        output: Path of the learning curves.
        compare: Whether scikit-learn trains the same network beside.

    Raises:
        ImportError: scikit-learn or matplotlib is missing.
        ValueError: Epochs below 1, or a negative seed.
    """
    if epochs < 1:
        raise ValueError(f"demo: epochs must be at least 1, got {epochs}")
    digits = load()
    trainer = build(seed)
    history = trainer.fit(digits.train, digits.test, epochs=epochs, batch_size=BATCH_SIZE, progress="bar")
    print(history)
    history.plot(output)
    accuracies = [trainer.evaluate(digits.test)["accuracy"]]
    accuracies += [_accuracy(digits, epochs, seed + further) for further in (1, 2)]
    print("The val_ columns show the test part; nothing was chosen by them.")
    print(f"\nlearning curves: {os.fspath(output)}")
    print(f"test accuracy, seed {seed}: {accuracies[0]:.4f}")
    print(f"test accuracy, mean of seeds {seed} to {seed + 2}: {statistics.mean(accuracies):.4f}")
    if compare:
        _print_comparison(digits, epochs, seed)


def _accuracy(digits: Digits, epochs: int, seed: int) -> float:
    trainer = build(seed)
    trainer.fit(digits.train, epochs=epochs, batch_size=BATCH_SIZE, progress=False)
    return trainer.evaluate(digits.test)["accuracy"]


def _print_comparison(digits: Digits, epochs: int, seed: int) -> None:
    ours, peers = _compare(lambda: _time_ours(digits, epochs, seed), lambda: _time_sklearn(digits, epochs, seed))
    print(f"\nthe same training (Adam, no decay), median of {TIMED_RUNS} alternating runs, {epochs} epochs:")
    for name, (seconds, accuracy) in (("stepsmith", ours), ("MLPClassifier", peers)):
        print(f"  {name:<14} {seconds:6.3f} s  test accuracy {accuracy:.4f}")
    print(f"  ratio          {peers[0] / ours[0]:6.2f}")


Timing = tuple[float, float]


def _compare(ours: Callable[[], Timing], peers: Callable[[], Timing]) -> tuple[Timing, Timing]:
    """Median seconds and accuracies of two sides that take turns, so that a busy moment hits both."""
    pairs = []
    for _ in range(TIMED_RUNS):
        pairs.append((ours(), peers()))
        time.sleep(0.02)
    return _median([pair[0] for pair in pairs]), _median([pair[1] for pair in pairs])


def _median(timings: list[Timing]) -> Timing:
    return statistics.median(seconds for seconds, _ in timings), timings[-1][1]


def _time_ours(digits: Digits, epochs: int, seed: int) -> Timing:
    # Plain Adam, as the peer has no decoupled decay; both sides train without any decay.
    model = _network(seed)
    trainer = Trainer(model, loss="cross_entropy", optimizer=optim.Adam(model.parameters(), lr=LR), seed=seed)
    start = time.perf_counter()
    trainer.fit(digits.train, epochs=epochs, batch_size=BATCH_SIZE, progress=False)
    return time.perf_counter() - start, trainer.evaluate(digits.test)["accuracy"]


def _time_sklearn(digits: Digits, epochs: int, seed: int) -> Timing:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    peer = MLPClassifier(
        hidden_layer_sizes=(HIDDEN,),
        solver="adam",
        alpha=0.0,
        learning_rate_init=LR,
        batch_size=BATCH_SIZE,
        max_iter=epochs,
        tol=0,
        n_iter_no_change=epochs + 1,
        early_stopping=False,
        random_state=seed,
    )
    start = time.perf_counter()
    with warnings.catch_warnings():
        # All epochs are wanted; that the loss could fall further is no news.
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(*digits.train)
    return time.perf_counter() - start, float(peer.score(*digits.test))
