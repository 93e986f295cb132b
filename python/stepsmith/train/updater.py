"""One step of the optimizer: from the micro-batches of its window to changed parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple, Protocol

import numpy as np

from stepsmith._backend import namespace
from stepsmith._core import NonFiniteError
from stepsmith.nn import Counter
from stepsmith.nn.regularization import Regularizer
from stepsmith.train.accumulator import Accumulator
from stepsmith.train.freezing import statistics_of
from stepsmith.train.interrupts import Interrupts
from stepsmith.train.loader import Micro
from stepsmith.train.model import Array, Model, View, buffers_of
from stepsmith.train.scaling import LossScale
from stepsmith.train.snapshot import Snapshot

__all__ = ["Mean", "Optimizer", "Updater"]


class Optimizer(Protocol):
    """The part of `stepsmith.optim` optimizers that a trainer uses."""

    @property
    def params(self) -> Mapping[str, Array]:
        """Name to the array that is changed in place."""

    def step(self, grads: Any = None) -> Any:
        """One update, from `grads` or from what is bound."""


class Mean(NamedTuple):
    """The loss of a window, its gradients lying ready."""

    loss: float
    """Mean over what counts, without penalties."""
    divisor: float
    """What that mean divides by."""
    samples: int
    batches: int
    grads: Mapping[str, Array | None]


Done = Callable[[Mean, float, Any], None]
"""Takes the window's loss, its penalty, and what the optimizer said of the step that was made, or skipped."""


class Updater:
    """Takes steps.

    Args:
        model: What is trained.
        view: The same as the trainer sees it.
        optimizer: Over its arrays.
        regularizers: Called before and after each step.
        scale: Of the loss, or None.
        seed: Of dropout.
        accumulate: Whether a step has several micro-batches.
        interrupts: Holds Ctrl-C back.

    Attributes:
        gradients: Of the last step by name, penalties included; they hold until the next one.
        gradient_scale: What they are multiplied by.
    """

    def __init__(
        self,
        model: Model,
        view: View,
        optimizer: Optimizer,
        regularizers: Sequence[Regularizer],
        scale: LossScale | None,
        seed: int,
        accumulate: bool,
        interrupts: Interrupts,
    ) -> None:
        self._model, self._view, self._optimizer = model, view, optimizer
        self._regularizers, self._scale = regularizers, scale
        self._constraints = [item for item in regularizers if item.acts_after]
        counter = getattr(model, "counter", None)
        self._counter = counter if isinstance(counter, Counter) else Counter()
        self._buffers, self._before = buffers_of(model), Snapshot()
        self._interrupts = interrupts
        self._counter.seed = seed
        self._total = Accumulator() if accumulate else None
        self._frozen: set[str] = set()
        self._bound = False
        self.gradients: Mapping[str, Array | None] = {}
        self.gradient_scale = 1.0

    def bind(self, frozen: set[str]) -> None:
        """From the next step on these parameters and running statistics stay as they are.

        The optimizer is bound to the model's gradient arrays, if the model has lasting ones and they are its input.
        """
        self._frozen = frozen
        for name, layer in statistics_of(self._model).items():
            layer.frozen = name in frozen
        gradients = getattr(self._model, "gradients", None)
        bind = getattr(self._optimizer, "bind", None)
        self._bound = gradients is not None and bind is not None and self._total is None
        if self._bound:
            assert gradients is not None
            assert bind is not None
            bind(self._wanted(gradients()))

    def let_go(self) -> None:
        """The optimizer is no longer bound to the model's gradients."""
        if self._bound:
            bind: Any = self._optimizer
            bind.bind(None)

    def _wanted(self, grads: Mapping[str, Array | None]) -> dict[str, Array | None]:
        """The optimizer's gradients, None for what is frozen."""
        frozen, params = self._frozen, self._optimizer.params
        missing = [name for name in params if name not in grads]
        if missing:
            raise ValueError(f"Trainer: gradients must have all of {list(params)}, got none for {missing}")
        return {name: None if name in frozen else grads[name] for name in params}

    def take(self, first: Micro, rest: Iterator[Micro], step: int, done: Done) -> None:
        """Step number `step` (from 1) from a window: its first micro-batch, and those that follow up to its last.

        The step and `done`, which counts it, are one for Ctrl-C. Buffers stay as they were if it fails or is skipped.

        Raises:
            NonFiniteError: A loss or gradient that is not finite; nothing has changed then.
        """
        self._counter.step = step
        # No context managers here: this runs for each step, and they would cost as much as all else of it.
        buffers, interrupts = self._buffers, self._interrupts
        if buffers:
            self._before.keep(buffers)
        try:
            mean = self._mean(first, rest)
            if not math.isfinite(mean.loss):
                raise NonFiniteError(f"Trainer: loss must be finite, got {mean.loss}")
            scale = 1.0 if self._scale is None else self._scale.scale
            penalty = self._penalty(mean.grads, scale) if self._regularizers else 0.0
            self.gradients, self.gradient_scale = mean.grads, scale
            interrupts.hold()
            info = self._step(mean.grads, scale)
            # The first look at what a step on a GPU returned: it waits, and raises what was wrong with the step.
            skipped = getattr(info, "skipped", False)
        except BaseException:
            self._before.restore(buffers)
            interrupts.release()
            raise
        try:
            self._count(mean, penalty, info, skipped, done)
        finally:
            interrupts.release()

    def take_all(self, epoch: Callable[[], Generator[Micro]], step: int, done: Done) -> None:
        """The same with an optimizer that wants loss and gradients of all data several times, such as L-BFGS.

        Args:
            epoch: Draws the micro-batches of all data, the same ones each time.
            step: Number of the step.
            done: Counts it.
        """
        total, means = Accumulator(), []

        def closure() -> tuple[float, Mapping[str, Array | None]]:
            self._counter.step = step
            with closing(epoch()) as micros:
                mean = self.accumulated(next(micros), micros, total)
            means.append((mean, self._penalty(mean.grads, 1.0)))
            return mean.loss + means[-1][1], self._wanted(mean.grads)

        self._before.keep(self._buffers)
        try:
            info = self._optimizer.step(closure)
        except BaseException:
            self._before.restore(self._buffers)
            raise
        with self._interrupts:
            done(*means[0], info)

    def _count(self, mean: Mean, penalty: float, info: Any, skipped: bool, done: Done) -> None:
        """What comes after a step that was made, or skipped; it counts, whatever comes after it."""
        try:
            if skipped:
                self._before.restore(self._buffers)
            elif self._constraints:
                self._constrain(info.lr)
        finally:
            done(mean, penalty, info)

    def _mean(self, first: Micro, rest: Iterator[Micro]) -> Mean:
        """Loss and gradients of a window."""
        view, scale = self._view, 1.0 if self._scale is None else self._scale.scale
        self._counter.sample = 0
        if self._total is not None:
            return self.accumulated(first, rest, self._total)
        loss, divisor, grads = view.loss_and_grads(first.batch, scale)
        return Mean(loss, divisor, first.samples, 1, grads)

    def accumulated(self, first: Micro, rest: Iterator[Micro], total: Accumulator) -> Mean:
        """The same from several micro-batches; dropout sees each sample at its place in the whole batch."""
        view, counter = self._view, self._counter
        step, scale = counter.step, 1.0 if self._scale is None else self._scale.scale
        loss_sum, divisor, samples, batches = 0.0, 0.0, 0, 0
        micro = first
        while True:
            counter.step, counter.sample = step, samples
            loss, weight, grads = view.loss_and_grads(micro.batch, scale)
            total.add(grads, weight)
            loss_sum += loss * weight if weight else 0.0
            divisor, samples, batches = divisor + weight, samples + micro.samples, batches + 1
            if micro.is_last:
                break
            micro = next(rest)
        counter.sample = 0
        return Mean(loss_sum / divisor if divisor else math.nan, divisor, samples, batches, total.finish())

    def _penalty(self, grads: Mapping[str, Array | None], scale: float) -> float:
        """What the regularizers add to the loss; their gradients are added in place."""
        params, wanted = self._optimizer.params, self._wanted(grads)
        return sum(item.before_step(params, wanted, scale) for item in self._regularizers)

    def _step(self, grads: Mapping[str, Array | None], scale: float) -> Any:
        """The optimizer's step, and what comes after it."""
        optimizer: Any = self._optimizer
        wanted = None if self._bound else self._wanted(grads)
        if self._scale is None:
            # Optimizers of other makers may know no scale.
            return optimizer.step(wanted)
        info = optimizer.step(wanted, scale)
        skipped = getattr(info, "skipped", False)
        if not self._scale.update(skipped) and skipped:
            raise NonFiniteError(f"Trainer: gradients must be finite, got {self._worst(grads)} at loss scale {scale:g}")
        return info

    def _constrain(self, lrs: Sequence[float]) -> None:
        """What comes after a step, each parameter with its group's rate, frozen ones without any."""
        optimizer: Any = self._optimizer
        groups = zip(optimizer.groups, lrs)
        rates = {name: lr for group, lr in groups for name in group["params"] if name not in self._frozen}
        for item in self._constraints:
            item.after_step(optimizer.params, rates)

    def _worst(self, grads: Mapping[str, Array | None]) -> str:
        """The first gradient that is not finite."""
        for name, grad in self._wanted(grads).items():
            if grad is not None and not namespace(grad).isfinite(grad.astype(np.float64)).all():
                return f"one that is not in {name!r}"
        return "a norm that is not"
