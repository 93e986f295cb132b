"""The trainer: epochs over batches, one optimizer step a batch."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from stepsmith import _check
from stepsmith._core import NonFiniteError
from stepsmith.nn import Counter, Loss
from stepsmith.train.callbacks import Callback
from stepsmith.train.clock import Clock
from stepsmith.train.data import Batches, check_array, check_data
from stepsmith.train.history import History
from stepsmith.train.model import Array, Batch, LossFunction, Model, view
from stepsmith.train.progress import Progress, ProgressMode, open_progress
from stepsmith.train.snapshot import Snapshot, buffers_of

__all__ = ["Optimizer", "Trainer"]


class Optimizer(Protocol):
    """The part of `stepsmith.optim` optimizers that a trainer uses."""

    @property
    def params(self) -> Mapping[str, Array]:
        """Name to the array that is changed in place."""

    def bind(self, grads: Any) -> None:
        """Fix the gradient arrays."""

    def step(self, grads: Any = None) -> Any:
        """One update, from `grads` or from what is bound."""


class Trainer:
    """Trains a model in place.

    The order of the samples depends on (seed, epoch) alone and dropout on (seed, step, layer, sample) alone, so equal
    trainers give equal results, and a fit that broke off goes on where it was. The model draws its own parameters
    (`nn.Module`).

    Args:
        model: An `nn.Module`, a `FunctionModel`, or anything with `parameters()` and `loss_and_grads(batch)`.
        loss: For a module: "cross_entropy" (if None), "mse", an `nn.Loss`, or a function of (output, target) that
            returns (mean loss, gradient for the output). Other models bring their own: None.
        optimizer: One of `stepsmith.optim` over the model's own arrays; parameters that it does not hold stay frozen.
        seed: In [0, 2^64).
        callbacks: Called in this order.

    Raises:
        TypeError: Not a model, or an argument of another kind.
        ValueError: Unknown loss, seed out of range, or an optimizer over other arrays than the model's.

    Example:
        >>> import stepsmith as ss
        >>> model = ss.nn.Sequential(ss.nn.Linear(2, 8), ss.nn.Tanh(), ss.nn.Linear(8, 2))
        >>> trainer = Trainer(model, optimizer=ss.optim.Adam(model.parameters(), lr=0.1), seed=0)
        >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
        >>> history = trainer.fit((X, np.array([0, 1, 1, 0])), epochs=100, batch_size=4, progress=False)
        >>> trainer.predict(X).argmax(axis=1)
        array([0, 1, 1, 0])
    """

    def __init__(
        self,
        model: Model,
        loss: str | Loss | LossFunction | None = None,
        *,
        optimizer: Optimizer,
        seed: int = 0,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        seed = _check.integer("Trainer", "seed", seed, low=0, high=2**64 - 1)
        self._view = view(model, loss)
        self.model, self.optimizer, self.seed, self.callbacks = model, optimizer, seed, tuple(callbacks)
        self.clock, self.history = Clock(), History()
        self.validating = False
        self._stopping = False
        counter = getattr(model, "counter", None)
        self._counter = counter if isinstance(counter, Counter) else Counter()
        self._check_optimizer()

    def fit(
        self,
        data: Batch,
        validation: Batch | None = None,
        epochs: int = 1,
        batch_size: int = 32,
        progress: ProgressMode = True,
        shuffle: bool = True,
    ) -> History:
        """Train until `epochs` epochs are done in all, those of earlier fits included.

        Args:
            data: Tuple of arrays with the samples along axis 0, (inputs, targets) for a module.
            validation: The same, evaluated after each epoch as "val_loss" and so on.
            epochs: The total, at least 0.
            batch_size: At least 1; the last batch of an epoch may be smaller.
            progress: True for a bar on a terminal and a line an epoch elsewhere, "bar" for the bar alone, or False.
            shuffle: Whether each epoch has its own order.

        Returns:
            The history of all fits: epoch, step, loss (the mean over the epoch's samples as they were trained), lr
            (of the last step, first group), and the validation's columns.

        Raises:
            NonFiniteError: A loss or gradient that is NaN or infinite, before the update that it would spoil.
            TypeError, ValueError: Arguments of the wrong kind, or out of range, before anything is trained.
        """
        _check.integer("Trainer", "epochs", epochs, low=0)
        _check.integer("Trainer", "batch_size", batch_size, low=1)
        self._check(data, validation)
        batches = Batches(data, batch_size, shuffle, self.seed)
        if self.clock.position >= batches.samples:
            raise ValueError(f"Trainer: data must be longer than the {self.clock.position} samples already done of it")
        done = batches.count() * (self.clock.epoch + 1) - batches.count(self.clock.position)
        bar = open_progress(progress, batches.count() * epochs, done)
        self.validating, self._stopping = validation is not None, False
        try:
            self._run(batches, validation, epochs, bar)
        finally:
            bar.close()
            for callback in self.callbacks:
                callback.on_fit_end(self)
        return self.history

    def evaluate(self, data: Batch, batch_size: int = 1024) -> dict[str, float]:
        """Means over all samples: "loss" and, for cross entropy, "accuracy"."""
        _check.integer("Trainer", "batch_size", batch_size, low=1)
        self._check(data, None)
        return self._evaluate(data, batch_size)

    def predict(self, inputs: Array, batch_size: int = 1024) -> Array:
        """The model's outputs (logits, for a classifier) for all rows of `inputs`, in a fresh array."""
        _check.integer("Trainer", "batch_size", batch_size, low=1)
        if self._view.predict is None:
            raise TypeError(f"Trainer: predict needs a model that has it, got {type(self.model).__name__}")
        check_array("inputs", inputs)
        check_data("inputs", (inputs,))
        chunks = range(0, len(inputs), batch_size)
        return np.concatenate([np.array(self._view.predict(inputs[start : start + batch_size])) for start in chunks])

    def stop(self) -> None:
        """End the running fit after the epoch that runs; for callbacks."""
        self._stopping = True

    def _run(self, batches: Batches, validation: Batch | None, epochs: int, bar: Progress) -> None:
        for callback in self.callbacks:
            callback.on_fit_begin(self)
        bound = self._bind()
        self._counter.seed = self.seed
        while self.clock.epoch < epochs and not self._stopping:
            started = time.perf_counter()
            lr = self._train_epoch(batches, bound, bar)
            row = self._close_epoch(batches.samples, lr, validation)
            self.history.append(row, time.perf_counter() - started)
            bar.epoch(row, epochs, self.history.seconds[-1])
            for callback in self.callbacks:
                callback.on_epoch_end(self, row)

    def _train_epoch(self, batches: Batches, bound: bool, bar: Progress) -> float:
        """Train what is left of the running epoch and return the last learning rate."""
        clock, counter = self.clock, self._counter
        buffers, before = buffers_of(self.model), Snapshot()
        for batch in batches.epoch(clock.epoch, clock.position):
            counter.step = clock.step + 1
            before.keep(buffers)
            try:
                loss, info = self._update(batch, bound)
            except BaseException:
                before.restore(buffers)
                raise
            if getattr(info, "skipped", False):
                before.restore(buffers)
            clock.advance(len(batch[0]), loss)
            bar.batch()
        return float(info.lr[0])

    def _update(self, batch: Batch, bound: bool) -> tuple[float, Any]:
        """One step of the optimizer: the loss of the batch, and what the step reports."""
        loss, grads = self._view.loss_and_grads(batch)
        if not math.isfinite(loss):
            where = f"at step {self.clock.step + 1}, epoch {self.clock.epoch + 1}"
            raise NonFiniteError(f"Trainer: loss must be finite, got {loss} {where}")
        step = self.optimizer.step
        return loss, step() if bound else step({name: grads[name] for name in self.optimizer.params})

    def _close_epoch(self, samples: int, lr: float, validation: Batch | None) -> dict[str, float]:
        loss = self.clock.close_epoch() / samples
        row: dict[str, float] = {"epoch": self.clock.epoch, "step": self.clock.step, "loss": loss, "lr": lr}
        if validation is not None:
            row |= {f"val_{name}": value for name, value in self._evaluate(validation, 1024).items()}
        return row

    def _evaluate(self, data: Batch, batch_size: int) -> dict[str, float]:
        totals: dict[str, Array] = defaultdict(lambda: np.zeros(2))
        for batch in Batches(data, batch_size, shuffle=False, seed=0).epoch(0):
            for name, value in self._view.sums(batch).items():
                totals[name] += value
        return {name: float(total / count) if count else math.nan for name, (total, count) in totals.items()}

    def _bind(self) -> bool:
        """Bind the optimizer to the model's gradient arrays, if the model has lasting ones."""
        gradients = getattr(self.model, "gradients", None)
        if gradients is None:
            return False
        grads = gradients()
        self.optimizer.bind({name: grads[name] for name in self.optimizer.params})
        return True

    def _check(self, data: Batch, validation: Batch | None) -> None:
        for argument, arrays in (("data", data), ("validation", validation)):
            if arrays is not None:
                check_data(argument, arrays)
                self._view.check(arrays)

    def _check_optimizer(self) -> None:
        params = self.model.parameters()
        for name, held in self.optimizer.params.items():
            if name not in params:
                raise ValueError(f"Trainer: optimizer must hold parameters of {list(params)}, got {name!r}")
            if params[name].size and not np.may_share_memory(held, params[name]):
                raise ValueError(f"Trainer: optimizer must hold the model's own arrays, got another array as {name!r}")
