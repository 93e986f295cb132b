"""A classifier of time series: handwritten digits seen as 28 readings of 28 sensors, one row of pixels after another.

The network sees a row at a time and keeps what it needs in its state; the last state decides. Beside it stands a linear
model that sees all 784 numbers at once, and the share of the commonest class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stepsmith import Trainer, datasets, nn, optim, schedules
from stepsmith.recipes import _common

Array = npt.NDArray[Any]
Part = tuple[Array, Array]

BATCH_SIZE = 50


def linear(seed: int) -> nn.Sequential:
    """All readings at once."""
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10), seed=seed)


def recurrent(seed: int) -> nn.Sequential:
    """Readings (samples, time, sensors) to logits; one mask of dropout holds for all times."""
    return nn.Sequential(
        nn.RNN(28, 128),
        nn.SequenceDropout(0.2),
        nn.GRU(128, 128, return_sequences=False),
        nn.Dropout(0.2),
        nn.Linear(128, 10),
        seed=seed,
    )


def train(model: nn.Sequential, data: Part, test: Part, epochs: int, seed: int) -> Trainer:
    """Under a rate that rises and falls; gradients through time are clipped."""
    rate = schedules.OneCycle(0.005, total_steps=epochs * math.ceil(len(data[0]) / BATCH_SIZE))
    optimizer = optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05, max_norm=1.0)
    trainer = Trainer(model, optimizer=optimizer, seed=seed, blas_threads=1)
    trainer.fit(data, test, epochs=epochs, batch_size=BATCH_SIZE, progress=False)
    return trainer


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train both, print a table, draw the accuracy by epoch; return the accuracies on the test part."""
    options = _common.options("timeseries", "A recurrent classifier of sequences.", arguments)
    data, test = ((X.reshape(-1, 28, 28), y) for X, y in datasets.mnist5k())
    epochs = 20
    if options.quick:
        epochs, data = 2, (data[0][:1000], data[1][:1000])
    accuracies = {"commonest class": float(np.bincount(test[1]).max() / len(test[1]))}
    table = _common.Table(("model", "parameters", "test accuracy", "seconds"), "<>>>")
    table.add("commonest class", "0", f"{accuracies['commonest class']:.4f}", "")
    curves = {}
    for name, build in (("linear", linear), ("recurrent", recurrent)):
        trainer = train(build(options.seed), data, test, epochs, options.seed)
        history, size = trainer.history, sum(param.size for param in trainer.model.parameters().values())
        accuracies[name] = history["val_accuracy"][-1]
        curves[name] = history["epoch"], history["val_accuracy"]
        table.add(name, f"{size:,}", f"{accuracies[name]:.4f}", f"{sum(history.seconds):.1f}")
    print(table)
    _common.plot(options.output / "timeseries.png", curves, "epoch", "test accuracy")
    return accuracies


if __name__ == "__main__":
    main()
