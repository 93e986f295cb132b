"""One fit: epochs, validation, callbacks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsmith import _check
from stepsmith._core import NonFiniteError
from stepsmith.train.averages import NoAverageError
from stepsmith.train.callbacks import Callback
from stepsmith.train.checks import check_augment
from stepsmith.train.class_weight import class_weights
from stepsmith.train.evaluation import check_source, evaluate_source, evaluation_source
from stepsmith.train.interrupts import Interrupts
from stepsmith.train.loader import Augment, Loader
from stepsmith.train.model import View
from stepsmith.train.progress import Progress, ProgressMode, open_progress
from stepsmith.train.sources import Indexed, Source, Stream, split
from stepsmith.train.updater import Mean, Updater

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["FitOptions", "Run"]


@dataclass(frozen=True)
class FitOptions:
    """The arguments of `Trainer.fit`, checked."""

    epochs: int
    batch_size: int | Callable[[int], float]
    shuffle: bool
    accumulate: int
    augment: Augment | None
    class_weight: str | Mapping[int, float] | None
    steps_per_epoch: int | None
    prefetch: int
    validation_weights: str | None
    drop_last: bool

    def __post_init__(self) -> None:
        _check.integer("Trainer", "epochs", self.epochs, low=0)
        if not callable(self.batch_size):
            size = _check.integer("Trainer", "batch_size", self.batch_size, low=1)
            object.__setattr__(self, "batch_size", size)
        _check.boolean("Trainer", "shuffle", self.shuffle)
        _check.boolean("Trainer", "drop_last", self.drop_last)
        _check.integer("Trainer", "accumulate", self.accumulate, low=1)
        if self.steps_per_epoch is not None:
            _check.integer("Trainer", "steps_per_epoch", self.steps_per_epoch, low=1)
        _check.integer("Trainer", "prefetch", self.prefetch, low=0)
        check_augment(self.augment)

    def size(self, step: int) -> int:
        """Samples of a micro-batch at a step (from 0), where a function says it."""
        assert callable(self.batch_size)
        name = f"batch_size at step {step}"
        return _check.integer("Trainer", name, round(_check.number("Trainer", name, self.batch_size(step))), low=1)


class Run:
    """A fit, checked when it is made.

    Args:
        trainer: Whose model is trained.
        data: As `Trainer.fit` takes it.
        validation: Likewise.
        options: Likewise.
    """

    def __init__(self, trainer: Trainer, data: Any, validation: Any, options: FitOptions) -> None:
        self.trainer, self.options, self.interrupts = trainer, options, Interrupts()
        self.takes_closure = getattr(trainer.optimizer, "takes_closure", False)
        trainer.check_weights(options.validation_weights)
        self.listeners = [item for item in trainer.callbacks if type(item).on_step_end is not Callback.on_step_end]
        # A window, what waits in the thread's queue, what is put into it, what is drawn to see the end.
        source = trainer.source_of(data, kept=options.accumulate + options.prefetch + 3)
        check_source(source, trainer.view)
        self.validation: Source | None = None
        if isinstance(validation, float):
            source, self.validation = split(source, validation, trainer.seed)
        elif validation is not None:
            self.validation = evaluation_source("validation", validation, trainer.view)
        self.loader, self.is_stream = self._loader(source), isinstance(source, Stream)
        self._check_position(source)
        self.updater = Updater(
            trainer.model,
            trainer.view,
            trainer.optimizer,
            trainer.regularizers,
            trainer.loss_scale,
            trainer.seed,
            options.accumulate > 1,
            self.interrupts,
        )

    def _loader(self, source: Source) -> Loader:
        options, trainer = self.options, self.trainer
        if self.takes_closure and isinstance(source, Stream):
            kinds = "must be arrays or have __getitem__ for an optimizer that reads them several times"
            raise TypeError(f"Trainer: data {kinds}, got {type(source.data).__name__}")
        return Loader(
            source,
            options.size if callable(options.batch_size) else options.batch_size,
            sys.maxsize if self.takes_closure else options.accumulate,
            options.shuffle and not self.takes_closure,
            trainer.seed,
            options.steps_per_epoch,
            options.augment,
            options.prefetch,
            class_weights(options.class_weight, source, trainer.view),
            options.drop_last,
            trainer.view.device(),
        )

    def _check_position(self, source: Source) -> None:
        position = self.trainer.clock.position
        if isinstance(source, Indexed) and position > source.samples:
            raise ValueError(f"Trainer: data must be longer than the {position} samples already done of it")

    def go(self, progress: ProgressMode) -> None:
        """Train, and tell the callbacks of the end however it ends."""
        trainer = self.trainer
        bar = self._progress(progress)
        trainer.validating = self.validation is not None
        begun: list[Callback] = []
        with ExitStack() as ends:
            ends.callback(self._finish, bar, begun)
            ends.enter_context(self.interrupts.watched())
            ends.enter_context(_blas(trainer.blas_threads))
            for callback in trainer.callbacks:
                callback.on_fit_begin(trainer)
                begun.append(callback)
            self._epochs(bar)
            # A request to stop that an error outran still holds when the fit goes on.
            trainer.stopping = False

    def _finish(self, bar: Progress, begun: Sequence[Callback]) -> None:
        bar.close()
        self.trainer.updater = None
        self.updater.let_go()
        _tell(begun, lambda callback: callback.on_fit_end(self.trainer))

    def _progress(self, mode: ProgressMode) -> Progress:
        source, clock = self.loader.source, self.trainer.clock
        samples = source.samples if isinstance(source, Indexed) and self.options.steps_per_epoch is None else None
        total = None if samples is None else samples * self.options.epochs
        return open_progress(mode, total, clock.position + clock.epoch * (samples or 0))

    def _epochs(self, bar: Progress) -> None:
        trainer = self.trainer
        trainer.resumed = False
        optimizer: Any = trainer.optimizer
        if not getattr(optimizer, "training", True):
            optimizer.train()
        trainer.updater = self.updater
        self.updater.bind(trainer.frozen)
        # A resumed epoch ends too, though it was to be the last.
        while trainer.clock.epoch < self.options.epochs and not (trainer.stopping and trainer.clock.position == 0):
            started = time.perf_counter()
            # What overflows on its way is no news: a loss or gradient that is not finite is an error.
            with np.errstate(over="ignore", invalid="ignore"):
                self._train(bar)
            row = self._row()
            with self.interrupts:
                self._close(row, time.perf_counter() - started, bar)

    def _train(self, bar: Progress) -> None:
        """What is left of the running epoch."""
        clock, epoch = self.trainer.clock, partial(self.loader.epoch, self.trainer.clock)
        done = partial(self._done, bar)
        try:
            if not self.takes_closure:
                with closing(epoch()) as micros:
                    for micro in micros:
                        self.updater.take(micro, micros, clock.step + 1, done)
            elif clock.position == 0:
                self.updater.take_all(epoch, clock.step + 1, done)
        except NonFiniteError as error:
            raise NonFiniteError(f"{error} at step {clock.step + 1}, epoch {clock.epoch + 1}") from error
        if clock.epoch_steps == 0:
            raise ValueError(f"Trainer: data must have a batch for epoch {clock.epoch + 1}, got none")

    def _done(self, bar: Progress, mean: Mean, penalty: float, info: Any) -> None:
        """Count a step, and tell the callbacks that want to know."""
        clock = self.trainer.clock
        clock.advance(mean.samples, mean.batches if self.is_stream else 0, getattr(info, "lr", ()))
        clock.meter.add("loss", mean.loss * mean.divisor, mean.divisor)
        if self.trainer.regularizers:
            clock.meter.add("penalty", penalty, 1.0)
        bar.advance(mean.samples)
        if self.listeners:
            row = self._step_row(mean.loss, getattr(info, "grad_norm", None))
            _tell(self.listeners, lambda callback: callback.on_step_end(self.trainer, row))

    def _step_row(self, loss: float, grad_norm: float | None) -> dict[str, float]:
        clock = self.trainer.clock
        row = {"epoch": clock.epoch + 1, "step": clock.step, "samples": clock.samples, "loss": loss}
        return {**row, **_given("lr", clock.lr), **_given("grad_norm", grad_norm)}

    def _row(self) -> dict[str, float]:
        """What the epoch that is done has brought, and its validation; an interrupt here loses neither."""
        trainer, clock = self.trainer, self.trainer.clock
        row: dict[str, float] = {"epoch": clock.epoch + 1, "step": clock.step, **clock.meter.means()}
        row |= _given("lr", clock.lr)
        if trainer.loss_scale is not None:
            row["loss_scale"] = trainer.loss_scale.scale
        if self.validation is not None:
            found = evaluate_source(self._validated(), self.validation)
            row |= {f"val_{name}": value for name, value in found.items()}
        return row

    def _close(self, row: dict[str, float], seconds: float, bar: Progress) -> None:
        """End the epoch."""
        trainer = self.trainer
        trainer.clock.close_epoch()
        trainer.history.append(row, seconds)
        bar.epoch(row, self.options.epochs, seconds)
        _tell(trainer.callbacks, lambda callback: callback.on_epoch_end(trainer, row))

    def _validated(self) -> View:
        """The model with the weights that are evaluated; the live ones as long as there is no average."""
        try:
            return self.trainer.view_of(self.options.validation_weights)
        except NoAverageError:
            return self.trainer.view


def _tell(callbacks: Sequence[Callback], what: Callable[[Callback], None]) -> None:
    """Call all of them, though one may fail: none misses what has happened."""
    first: BaseException | None = None
    for callback in callbacks:
        try:
            what(callback)
        except BaseException as error:
            first = first or error
    if first is not None:
        raise first


def _given(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: value}


def _blas(threads: int | None) -> AbstractContextManager[Any]:
    """A limit to the BLAS's threads."""
    if threads is None:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(threads, "blas")
    return limits
