"""A convolutional network on 4,000 digits of MNIST, shifted and turned a little anew in each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stepsmith import Trainer, datasets, nn, optim, schedules
from stepsmith.recipes import _common
from stepsmith.train import Batch

Array = npt.NDArray[Any]
Part = tuple[Array, Array]

BATCH_SIZE = 50


def planes(part: Part) -> Part:
    """Rows of pixels as images of one channel."""
    X, y = part
    return X.reshape(-1, 1, 28, 28), y


def network(seed: int) -> nn.Sequential:
    """Two convolutions and a hidden layer: 28 × 28 pixels to ten logits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.4),
        nn.Linear(32 * 7 * 7, 10),
        seed=seed,
    )


def moved(batch: Batch, rng: np.random.Generator) -> Batch:
    """Images turned by up to 12 degrees, stretched by up to 10 % and shifted by up to 2 pixels, each in its own way.

    A pixel is read between the four that surround the place that it comes from; a margin of zeros is around the image.
    """
    images, labels = batch
    count, _, size, _ = images.shape
    angle = math.radians(12) * rng.uniform(-1, 1, (count, 1, 1))
    stretch = 1 + 0.1 * rng.uniform(-1, 1, (2, count, 1, 1))
    shift = 2 * rng.uniform(-1, 1, (2, count, 1, 1))
    row, column = np.indices((size, size)) - (size - 1) / 2
    rows = stretch[0] * (np.cos(angle) * row - np.sin(angle) * column) + shift[0] + (size - 1) / 2
    columns = stretch[1] * (np.sin(angle) * row + np.cos(angle) * column) + shift[1] + (size - 1) / 2
    return [between(images, rows, columns), labels]


def between(images: Array, rows: Array, columns: Array) -> Array:
    """The images read at these places (samples, size, size), bilinearly."""
    size = images.shape[-1]
    padded = np.pad(images[:, 0], ((0, 0), (1, 2), (1, 2))).reshape(len(images), -1)
    rows, columns = np.clip(rows + 1, 0, size + 1), np.clip(columns + 1, 0, size + 1)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    first = (top * (size + 3) + left).reshape(len(images), -1)

    def at(offset: int) -> Array:
        return np.take_along_axis(padded, first + offset, axis=1).reshape(rows.shape)

    upper = (1 - right) * at(0) + right * at(1)
    lower = (1 - right) * at(size + 3) + right * at(size + 4)
    found: Array = (1 - down) * upper + down * lower
    return found[:, None]


def train(data: Part, validation: Part, epochs: int, seed: int) -> Trainer:
    """A trained network."""
    model = network(seed)
    rate = schedules.OneCycle(0.01, total_steps=epochs * math.ceil(len(data[0]) / BATCH_SIZE))
    optimizer = optim.AdamW(optim.decay_groups(model.parameters()), lr=rate, weight_decay=0.05)
    trainer = Trainer(model, optimizer=optimizer, seed=seed, blas_threads=1)
    trainer.fit(data, validation, epochs=epochs, batch_size=BATCH_SIZE, augment=moved)
    return trainer


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, draw the learning curves, return the accuracy on the 1,000 test images."""
    options = _common.options("cnn", "A convolutional network on mnist5k.", arguments)
    data, test = (planes(part) for part in datasets.mnist5k())
    if options.quick:
        data = data[0][:1000], data[1][:1000]
    start = time.perf_counter()
    trainer = train(data, test, 2 if options.quick else 30, options.seed)
    accuracy = trainer.evaluate(test)["accuracy"]
    print(f"test accuracy {accuracy:.4f} after {time.perf_counter() - start:.1f} s")
    trainer.history.plot(options.output / "cnn.png")
    return accuracy


if __name__ == "__main__":
    main()
