"""Few labels are enough for a model that has seen something alike: from MNIST's digits to scikit-learn's.

The convolutional network of the recipe `cnn` learns mnist5k, and its weights go into a file. A model with these weights
and a new head then learns scikit-learn's digits, other pictures by other people, from a few labels of each class: first
the head alone, then layer by layer the rest, lower layers at lower rates. Beside it the same network learns the same
labels from scratch. Each figure is the mean over three draws of the labels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt

from stepsmith import Trainer, datasets, nn, optim, quant, transfer
from stepsmith.recipes import _common, cnn
from stepsmith.train import GradualUnfreezing

Array = npt.NDArray[Any]
Part = tuple[Array, Array]

LR = 0.005
HEAD = "10.*"
STAGES = [HEAD], ["4.*", "5.*"], ["0.*", "1.*"]
"""Which parameters join in when: the head, the second convolution with its norm, the first one."""


def enlarged(part: Part) -> Part:
    """Digits of 8 × 8 pixels as those of MNIST are: 20 × 20 of 28 × 28 pixels, read between the given ones."""
    X, y = part
    places = (np.arange(28) - 13.5) * 8 / 20 + 3.5
    between = np.maximum(0, 1 - abs(places[:, None] - np.arange(8))).astype(np.float32)
    return (between @ X.reshape(-1, 8, 8) @ between.T)[:, None], y


def few(part: Part, labels: int, seed: int) -> Part:
    """So many samples of each class, drawn at random."""
    X, y = part
    order = np.random.default_rng(seed).permutation(len(y))
    rows = np.concatenate([order[y[order] == label][:labels] for label in range(10)])
    return X[rows], y[rows]


def pretrain(path: str | os.PathLike[str], data: Part, test: Part, epochs: int, seed: int) -> Trainer:
    """A trainer that has learned mnist5k; parameters and running statistics go into the file."""
    trainer = cnn.train(data, test, epochs, seed)
    model = trainer.model
    assert isinstance(model, nn.Module)
    quant.save(path, {**model.parameters(), **model.buffers()})
    return trainer


def from_scratch(data: Part, epochs: int, seed: int) -> Trainer:
    """A network that knows nothing else."""
    model = cnn.network(seed)
    optimizer = optim.AdamW(model.parameters(), lr=LR)
    trainer = Trainer(model, optimizer=optimizer, seed=seed, blas_threads=1)
    trainer.fit(data, epochs=epochs, progress=False)
    return trainer


def tuned(path: str | os.PathLike[str], data: Part, epochs: int, seed: int) -> Trainer:
    """A network with the file's weights and a new head."""
    source = cnn.network(seed)
    transfer.load_weights(source, path, strict=True)
    model = transfer.replace_head(source, nn.Linear(32 * 7 * 7, 10))
    optimizer = optim.AdamW(transfer.layerwise_groups(model, LR, decay=0.5))
    unfreezing = GradualUnfreezing(STAGES, every_epochs=max(epochs // 4, 1), statistics=True)
    trainer = Trainer(model, optimizer=optimizer, seed=seed, callbacks=[unfreezing], blas_threads=1)
    trainer.fit(data, epochs=epochs, progress=False)
    return trainer


def accuracy(trainer: Trainer, test: Part) -> float:
    """On the test part."""
    return trainer.evaluate(test)["accuracy"]


def main(arguments: Sequence[str] | None = None) -> dict[int, tuple[float, float]]:
    """Print, draw and return the accuracies from scratch and tuned by the number of labels a class."""
    options = _common.options("fine_tune", "Few labels after many others.", arguments)
    mnist, mnist_test = (cnn.planes(part) for part in datasets.mnist5k())
    digits, test = (enlarged(part) for part in datasets.digits())
    counts, epochs, draws = [1, 3, 10], 40, 3
    if options.quick:
        counts, epochs, draws, mnist = [3], 4, 1, (mnist[0][:1000], mnist[1][:1000])
    path = options.output / "mnist.safetensors"
    source = pretrain(path, mnist, mnist_test, 2 if options.quick else 8, options.seed)
    print(f"digits by the network of mnist5k as it is: accuracy {accuracy(source, test):.4f}")
    table = _common.Table(("labels a class", "from scratch", "fine-tuned"), ">>>")
    found = {}
    for labels in counts:
        parts = {seed: few(digits, labels, seed) for seed in range(options.seed, options.seed + draws)}
        scratch = mean(accuracy(from_scratch(part, epochs, seed), test) for seed, part in parts.items())
        better = mean(accuracy(tuned(path, part, epochs, seed), test) for seed, part in parts.items())
        found[labels] = scratch, better
        table.add(str(labels), f"{scratch:.4f}", f"{better:.4f}")
    print(table)
    scratches, betters = zip(*found.values())
    curves = {"from scratch": (counts, scratches), "fine-tuned": (counts, betters)}
    _common.plot(options.output / "fine_tune.png", curves, "labels a class", "test accuracy")
    return found


if __name__ == "__main__":
    main()
