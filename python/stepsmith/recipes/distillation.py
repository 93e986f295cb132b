"""A small network that learns from a large one: a convolutional network teaches an MLP 784-32-10 on mnist5k.

The lessons are the training digits and a few copies of them, shifted and turned. Two students that start from the same
weights see the same rows in the same order: one learns the labels, the other the teacher's softened probabilities
beside them. Each figure is the mean over three seeds of the students.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt

from stepsmith import Trainer, datasets, distill, nn, optim, schedules
from stepsmith.recipes import _common, cnn

Array = npt.NDArray[Any]
Part = tuple[Array, Array]

BATCH_SIZE = 50


def student(seed: int) -> nn.Sequential:
    """An MLP with few hidden units."""
    return nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10), seed=seed)


def lessons(data: Part, copies: int, seed: int) -> Part:
    """The images and labels, and moved copies of them."""
    X, y = data
    rng = np.random.default_rng(seed)
    return np.concatenate([X, *[cnn.moved(data, rng)[0] for _ in range(copies)]]), np.tile(y, copies + 1)


def train(data: tuple[Array, ...], test: Part, loss: nn.Loss, epochs: int, seed: int) -> float:
    """A student's accuracy on the test part."""
    model = student(seed)
    rate = schedules.OneCycle(0.01, total_steps=epochs * math.ceil(len(data[0]) / BATCH_SIZE))
    optimizer = optim.AdamW(model.parameters(), lr=rate, weight_decay=0.1)
    trainer = Trainer(model, loss, optimizer=optimizer, seed=seed, blas_threads=1)
    trainer.fit(data, epochs=epochs, batch_size=BATCH_SIZE, progress=False)
    return float((trainer.predict(test[0]).argmax(axis=1) == test[1]).mean())


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Print and return the accuracies of the teacher and of both students."""
    options = _common.options("distillation", "A CNN teaches an MLP.", arguments)
    data, test = (cnn.planes(part) for part in datasets.mnist5k())
    epochs, copies, students = 12, 4, 3
    if options.quick:
        data, epochs, copies, students = (data[0][:1000], data[1][:1000]), 2, 1, 1
    teacher = cnn.train(data, test, epochs, options.seed)
    images, labels = lessons(data, copies, options.seed)
    logits = distill.teacher_logits(teacher, images, cache=options.output / "teacher.safetensors")
    rows, flat = images.reshape(-1, 784), (test[0].reshape(-1, 784), test[1])
    seeds = range(options.seed, options.seed + students)
    alone = [train((rows, labels), flat, nn.CrossEntropy(), epochs, seed) for seed in seeds]
    loss = nn.Distillation(temperature=2.0, alpha=0.9)
    distilled = [train((rows, labels, logits), flat, loss, epochs, seed) for seed in seeds]
    found = {"teacher": teacher.evaluate(test)["accuracy"], "student alone": mean(alone), "distilled": mean(distilled)}
    table = _common.Table(("model", "parameters", "test accuracy"), "<>>")
    for name, accuracy in found.items():
        model = teacher.model if name == "teacher" else student(0)
        table.add(name, f"{sum(param.size for param in model.parameters().values()):,}", f"{accuracy:.4f}")
    print(table)
    curves = {"student alone": (list(seeds), alone), "distilled": (list(seeds), distilled)}
    _common.plot(options.output / "distillation.png", curves, "seed", "test accuracy")
    return found


if __name__ == "__main__":
    main()
