"""The table [training]: how a run goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stepsmith import _check
from stepsmith.config.model import Precision
from stepsmith.config.problems import similar
from stepsmith.train.run import FitOptions

__all__ = ["Training"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The settings; those without a word here are arguments of `Trainer` and `Trainer.fit`.

    Args:
        epochs: In all.
        batch_size: Samples of a micro-batch.
        accumulate: Micro-batches a step.
        shuffle: Whether each epoch has its own order.
        class_weight: "balanced", or label, as the data have it, to factor; 1 where there is none.
        steps_per_epoch: Steps after which an epoch ends.
        prefetch: Micro-batches to prepare ahead.
        drop_last: Whether the rest of an epoch that is too small for a batch is left out.
        validation_weights: What is validated and tested: "live", "ema", "swa" or "average".
        seed: Of parameters, order and dropout.
        precision: Of parameters and gradients: "float32", "float64", "bfloat16" or "float16".
        loss_scale: A number or "dynamic"; for float16 "dynamic" if it is left out.
        threads: Of stepsmith's own kernels.
        blas_threads: Of the products.
    """

    epochs: int = 20
    batch_size: int = 32
    accumulate: int = 1
    shuffle: bool = True
    class_weight: Literal["balanced"] | dict[str, float] | None = None
    steps_per_epoch: int | None = None
    prefetch: int = 0
    drop_last: bool = False
    validation_weights: str | None = None
    seed: int = 0
    precision: Precision = "float32"
    loss_scale: float | Literal["dynamic"] | None = None
    threads: int | None = None
    blas_threads: int | None = None

    def __post_init__(self) -> None:
        owner = "Training"
        _check.integer(owner, "epochs", self.epochs, low=1)
        _check.integer(owner, "seed", self.seed, low=0, high=2**64 - 1)
        if self.threads is not None:
            _check.integer(owner, "threads", self.threads, low=1, high=1024)
        FitOptions(**self.fit_arguments())

    def fit_arguments(self, classes: Sequence[str] | None = None) -> dict[str, Any]:
        """Those of `Trainer.fit`.

        Args:
            classes: Names of the labels 0, 1, ...; None where they are not known, or there are none.

        Raises:
            ValueError: A weight for another label.
        """
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "accumulate": self.accumulate,
            "augment": None,
            "class_weight": self._class_weight(classes),
            "steps_per_epoch": self.steps_per_epoch,
            "prefetch": self.prefetch,
            "drop_last": self.drop_last,
            "validation_weights": self.validation_weights,
        }

    @property
    def scale(self) -> float | str | None:
        """The loss scale."""
        return "dynamic" if self.loss_scale is None and self.precision == "float16" else self.loss_scale

    def steps(self, samples: int) -> int:
        """Steps of the optimizer in the whole run."""
        batches = samples // self.batch_size if self.drop_last else math.ceil(samples / self.batch_size)
        in_epoch = math.ceil(batches / self.accumulate)
        return self.epochs * (in_epoch if self.steps_per_epoch is None else min(in_epoch, self.steps_per_epoch))

    def _class_weight(self, classes: Sequence[str] | None) -> str | dict[int, float] | None:
        """By number; without names any label may be one."""
        weight = self.class_weight
        if not isinstance(weight, dict):
            return weight
        names = list(weight if classes is None else classes)
        for name in weight:
            if name not in names:
                rule = f"must have labels of the data as keys, {', '.join(names)}"
                raise ValueError(f"Training: class_weight {rule}, got {name!r}{similar(name, names)}")
        return {names.index(name): factor for name, factor in weight.items()}
