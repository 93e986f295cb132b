"""The trainer: epochs over batches, one optimizer step a window of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stepsmith import _check
from stepsmith._outputs import is_same
from stepsmith.nn import Loss
from stepsmith.nn.regularization import Regularizer
from stepsmith.train import checkpoint, checks
from stepsmith.train.averages import Averages, averages_of, deep_copy
from stepsmith.train.callbacks import Callback
from stepsmith.train.clock import Clock
from stepsmith.train.evaluation import evaluate, predict, update_statistics
from stepsmith.train.freezing import matching, statistics_of
from stepsmith.train.history import History
from stepsmith.train.loader import Augment
from stepsmith.train.lr_finder import LRFinder, lr_find
from stepsmith.train.model import Array, LossFunction, Metric, Model, View, view
from stepsmith.train.moves import move
from stepsmith.train.progress import ProgressMode
from stepsmith.train.run import FitOptions, Run
from stepsmith.train.scaling import DynamicLossScale, LossScale, loss_scale_of
from stepsmith.train.sources import Source, Stream, open_source
from stepsmith.train.state import dump, load
from stepsmith.train.updater import Optimizer, Updater

__all__ = ["Trainer"]


class Trainer:
    """Trains a model in place.

    Order of the samples, augmentation and dropout depend on (seed, clock) alone, schedules on the steps of the
    optimizer, so equal trainers give equal results, and a fit that broke off goes on where it was. The model draws its
    own parameters (`nn.Module`).

    Args:
        model: An `nn.Module`, a `FunctionModel`, or anything with `parameters()` and `loss_and_grads(batch)`.
        loss: For a module: "cross_entropy" (if None), another name in `nn.LOSSES`, an `nn.Loss`, or a function of
            (output, target) that returns (mean loss, gradient for the output). Other models bring their own: None.
        optimizer: One of `stepsmith.optim` over the model's own arrays; parameters that it does not hold stay frozen.
            `optim.LBFGS` and `optim.Scipy` see all data in each step, which is an epoch then.
        seed: In [0, 2^64).
        callbacks: Called in this order, those that save the run last.
        metrics: For a module: name, other than "loss", to a function of (output, target) that returns (sum, count) of a
            batch; evaluations report sum / count over all batches. Output and target are on the model's device.
        regularizers: Penalties and constraints of `stepsmith.nn`; those that act after a step want an optimizer that
            tells its learning rates.
        loss_scale: What the loss is multiplied by before the backward pass: None, a number, "dynamic" or a `LossScale`.
            A dynamic one wants an optimizer with ``on_nonfinite="skip"``.
        blas_threads: Threads of the BLAS during a fit, None for its own choice. Matrix products keep their bits for one
            number of threads; 1 makes them the same on every machine with the same BLAS and CPU. On a busy machine,
            and for small layers, 1 is often faster too: the BLAS's threads wait for work by keeping a core busy.

    Attributes:
        clock: How far the run is.
        history: One row an epoch.
        frozen: Names of the parameters and running statistics that are frozen.
        resumed: Whether the coming fit goes on from a loaded state; callbacks still see it in `on_fit_begin`.

    Raises:
        TypeError: Not a model, or an argument of another kind.
        ValueError: Unknown loss, seed out of range, an optimizer over other arrays than the model's, or a callback with
            methods ``on_*`` that are no hooks.

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
        metrics: Mapping[str, Metric] | None = None,
        regularizers: Sequence[Regularizer] = (),
        loss_scale: float | str | LossScale | None = None,
        blas_threads: int | None = None,
    ) -> None:
        self.seed = _check.integer("Trainer", "seed", seed, low=0, high=2**64 - 1)
        checks.check_optimizer(optimizer)
        self._loss, self._metrics = loss, checks.metrics_of(metrics)
        self.view = view(model, loss, self._metrics)
        self.model, self.optimizer = model, optimizer
        self.callbacks = checks.callbacks_of(callbacks)
        self.regularizers, self.frozen = checks.regularizers_of(regularizers, optimizer), set[str]()
        self.loss_scale = loss_scale_of(loss_scale)
        self.blas_threads = None
        if blas_threads is not None:
            self.blas_threads = _check.integer("Trainer", "blas_threads", blas_threads, low=1)
        self.clock, self.history = Clock(), History()
        self.validating = self.stopping = self.resumed = False
        self._averages: Averages | None = None
        self._stream: Stream | None = None
        _check_optimizer(model, optimizer)
        _check_together(self)
        self.updater: Updater | None = None

    def fit(
        self,
        data: Any,
        validation: Any = None,
        epochs: int = 1,
        batch_size: int | Callable[[int], float] = 32,
        progress: ProgressMode = True,
        shuffle: bool = True,
        *,
        accumulate: int = 1,
        augment: Augment | None = None,
        class_weight: str | Mapping[int, float] | None = None,
        steps_per_epoch: int | None = None,
        prefetch: int = 0,
        validation_weights: str | None = None,
        drop_last: bool = False,
    ) -> History:
        """Train until `epochs` epochs are done in all, those of earlier fits included.

        Args:
            data: Tuple of arrays with the samples along axis 0, (inputs, targets) or (inputs, targets, sample weights)
                for a module, one more with a loss of two targets; memory-mapped ones are fine, and, for a model on a
                GPU, arrays of CuPy, of which batches are made on the device. Or an object with
                ``__len__`` and ``__getitem__`` whose items are samples, or an iterable of batches (a plain iterator is
                read once, in all epochs). A model that computes its own loss gets each batch as it is, however many
                arrays that has.
            validation: Data of any of these kinds but a plain iterator, evaluated after each epoch as "val_loss" and so
                on; or a part of `data` in (0, 1), held out at random.
            epochs: The total, at least 0.
            batch_size: Samples of a micro-batch, at least 1: a number, or a function of the step such as a schedule,
                rounded. The last batch of an epoch may be smaller. An iterable's batches are taken as they are.
            progress: True for a bar on a terminal and a line an epoch elsewhere, "bar" for the bar alone, or False.
            shuffle: Whether each epoch has its own order.
            accumulate: Micro-batches a step of the optimizer; their gradients are weighted by what counts in them, so
                that the step is that of one large batch. 1 for an optimizer that sees all data in each step.
            augment: ``augment(batch, rng)`` returns the batch to train on; `rng` is a Generator that depends on (seed,
                epoch, position) alone, the arrays are copies.
            class_weight: Label to factor of its samples' losses, 1 where there is none, or "balanced": samples /
                (classes·samples of the class). Training only. Where data are arrays, they must have each label.
            steps_per_epoch: Steps after which an epoch ends; None for the data's end, and for an optimizer that sees
                all data in each step.
            prefetch: Micro-batches to prepare ahead in a thread; worth it for slow data or augmentation.
            validation_weights: See `evaluate`; an average that there is not yet stands back for the live weights.
            drop_last: Leave out what is too small for a whole batch at the end of an epoch of arrays or items: a last
                batch of few samples takes a noisy step, and of one sample has no batch statistics. Other samples are
                left out in each epoch that is shuffled.

        Returns:
            The history of all fits: epoch, step, loss (the mean over what counts, as it was trained), lr (of the last
            step, first group), and the validation's columns.

        Raises:
            NonFiniteError: A loss or gradient that is NaN or infinite, before the update that it would spoil; it names
                step, epoch and parameter.
            TypeError, ValueError: Arguments of the wrong kind, or out of range, before anything is trained.
        """
        options = FitOptions(
            epochs,
            batch_size,
            shuffle,
            accumulate,
            augment,
            class_weight,
            steps_per_epoch,
            prefetch,
            validation_weights,
            drop_last,
        )
        checks.check_fit(options, validation, self.optimizer)
        Run(self, data, validation, options).go(progress)
        return self.history

    def evaluate(self, data: Any, batch_size: int = 1024, *, weights: str | None = None) -> dict[str, float]:
        """Means over all samples: "loss", the metrics, and for classifiers "accuracy".

        Args:
            data: As `fit` takes it.
            batch_size: At least 1.
            weights: "live", or an average: "ema" (the optimizer's), "swa" (of the callback), "average" (of a
                schedule-free optimizer). They are evaluated in a copy of the model, the live weights stay as they are.
                None is "average" if there is one, else "live".

        Raises:
            TypeError, ValueError: Arguments of the wrong kind, or out of range.
        """
        return evaluate(self.view_of(weights), data, batch_size)

    def predict(self, inputs: Array, batch_size: int = 1024, *, weights: str | None = None) -> Array:
        """The model's outputs (logits, for a classifier) for all rows of `inputs`, in a fresh array.

        They are where the inputs are, wherever the model is: of NumPy for rows of NumPy, which go to the model's device
        batch by batch and back, of CuPy for rows of CuPy. Other arguments as of `evaluate`.
        """
        return predict(self.view_of(weights), inputs, batch_size, type(self.model).__name__)

    def view_of(self, weights: str | None = None) -> View:
        """The model with these weights, as `evaluate` takes them, as they are now; it holds until the next call."""
        averages, name = averages_of(self.optimizer, self.callbacks), self.check_weights(weights)
        if name == "live":
            return self.view
        if self._averages is None:
            self._averages = Averages(self.model, deep_copy(self.model))
        self._averages.load(averages[name]())
        return view(self._averages.twin, self._loss, self._metrics)

    def averaged_model(self, weights: str | None = None, data: Any = None, batch_size: int = 1024) -> Model:
        """A model of its own with averaged weights, as they are now.

        Args:
            weights: As of `evaluate`.
            data: Inputs in a tuple, or data as `fit` takes them: running statistics of `BatchNorm` layers are measured
                anew with these weights. None keeps the live model's.
            batch_size: Of those passes.

        Raises:
            TypeError, ValueError: Arguments of the wrong kind, or out of range.
        """
        twin, name = deep_copy(self.model), self.check_weights(weights)
        if name != "live":
            Averages(self.model, twin).load(averages_of(self.optimizer, self.callbacks)[name]())
        if data is not None:
            update_statistics(twin, data, batch_size)
        return twin

    def lr_find(
        self,
        data: Any,
        start: float = 1e-7,
        end: float = 10.0,
        steps: int = 100,
        batch_size: int = 32,
        smoothing: float = 0.9,
        stop_factor: float = 4.0,
        *,
        accumulate: int = 1,
        augment: Augment | None = None,
        class_weight: str | Mapping[int, float] | None = None,
    ) -> LRFinder:
        """Learning rate range test: the loss while the rate grows exponentially from step to step.

        It trains a copy, with a copy of the optimizer as it is now: model, optimizer, clock and history stay as they
        are, no callback is called, and a fit after it gives the bits that it would have given without. Only data that
        draw from a random stream of their own, when they are read, have gone on in it.

        Args:
            data: As `fit` takes it, but no plain iterator.
            start: First rate of the first group, more than 0; other groups keep their ratios to it, whatever schedules
                they have.
            end: Last rate, more than `start`.
            steps: Steps of the optimizer from one to the other, at least 2; data start anew where they end.
            batch_size: As of `fit`.
            smoothing: β of the moving average, in [0, 1).
            stop_factor: The test ends early when the smoothed loss is this many times its minimum, more than 1 (its
                rise is measured by the minimum's magnitude), or when a loss or gradient is not finite.
            accumulate: As of `fit`.
            augment: As of `fit`.
            class_weight: As of `fit`.

        Returns:
            Rates, losses, smoothed losses, `suggestion` and `plot`.

        Raises:
            TypeError, ValueError: Arguments of the wrong kind or out of range, or an optimizer without `clone`.

        Follows: Smith 2017, Cyclical Learning Rates for Training Neural Networks; fastai's ``lr_find``.

        Example:
            >>> import stepsmith as ss
            >>> model = ss.nn.Linear(2, 2)
            >>> trainer = Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=0.1))
            >>> finder = trainer.lr_find((np.eye(2, dtype=np.float32), np.array([0, 1])), end=1.0)
            >>> 1e-3 < finder.suggestion < 1.0, trainer.clock.step
            (True, 0)
        """
        settings = {
            "batch_size": batch_size,
            "accumulate": accumulate,
            "augment": augment,
            "class_weight": class_weight,
        }
        return lr_find(self, data, start, end, steps, smoothing, stop_factor, settings)

    def source_of(self, data: Any, kept: int) -> Source:
        """The source of a fit; a plain iterator that an earlier fit has begun goes on."""
        if self._stream is None or self._stream.data is not data:
            source = open_source("data", data)
            self._stream = source if isinstance(source, Stream) else None
            if self._stream is not None and not self.resumed:
                self.clock.drawn = 0
        if self._stream is None:
            return source
        self._stream.keep(kept)
        return self._stream

    def check_weights(self, weights: str | None) -> str:
        """The name of weights that `evaluate` takes."""
        known = averages_of(self.optimizer, self.callbacks)
        if weights is None:
            return "average" if "average" in known else "live"
        return _check.one_of("Trainer", "weights", weights, ["live", *known])

    def stop(self) -> None:
        """End the running fit after the epoch that runs; for callbacks."""
        self.stopping = True

    def to(self, device: str) -> Trainer:
        """Move model, loss and optimizer with all their state to a device, where fits go on from then.

        The optimizer becomes another object, `optimizer`, over the model's new arrays. Clock, history and callbacks
        stay; checkpoints say nothing of a device. Data may stay where they are: batches of NumPy arrays are copied to
        the model's device when they are used, and arrays of CuPy are used there.

        Args:
            device: "cpu", "cuda" for CuPy's current device, or "cuda:N".

        Returns:
            The trainer itself.

        Raises:
            TypeError: Another kind of device, or a model or optimizer without `to`; nothing has changed then.
            ValueError: Another device, or one that this machine has not.
            ImportError: CuPy is missing.
            RuntimeError: There is no GPU or no driver, or a fit is running.
        """
        move(self, self._loss, device)
        self._averages = None
        return self

    def freeze(self, *patterns: str, statistics: bool = False) -> None:
        """Leave parameters as they are from the next step on, their state and step counts too.

        Args:
            patterns: Globs of names, such as "0.*".
            statistics: Whether to freeze `BatchNorm` layers as wholes whose ``running_mean`` matches: they normalize
                with their running statistics and leave them, as PyTorch's in ``eval()``. Without it the statistics of
                a layer with frozen parameters go on following the batches, as PyTorch's do.

        Raises:
            ValueError: One that matches no parameter of the optimizer, nor such a layer.
        """
        known = [*self.optimizer.params, *(statistics_of(self.model) if statistics else ())]
        self.set_frozen(self.frozen | matching("freeze", patterns, known))

    def unfreeze(self, *patterns: str) -> None:
        """The reverse of `freeze`, for statistics too."""
        known = [*self.optimizer.params, *statistics_of(self.model)]
        self.set_frozen(self.frozen - matching("unfreeze", patterns, known))

    def set_frozen(self, names: set[str]) -> None:
        """Freeze these names of parameters and running statistics, and no others."""
        self.frozen = names
        if self.updater is not None:
            self.updater.bind(names)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs: a tree of dicts, lists, JSON values and copies of arrays."""
        return dump(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` of an equal trainer gave.

        Raises:
            ValueError: Names, shapes, dtypes or settings that differ; the model is as it was then.
        """
        load(self, state)

    def save(self, folder: str | os.PathLike[str]) -> str:
        """Write a checkpoint into a folder of them, whole or not at all; return its path. See `train.Checkpoint`."""
        return checkpoint.save(folder, self)

    @staticmethod
    def resume(folder: str | os.PathLike[str], trainer: Trainer) -> Trainer:
        """Bring a freshly built trainer to the newest good checkpoint.

        Args:
            folder: Of checkpoints, or one checkpoint itself. One that holds none leaves the trainer as it is and warns:
                that run ended before its first checkpoint.
            trainer: Built as the one that was saved: same model, optimizer, callbacks, seed.

        Returns:
            The trainer.

        Raises:
            FileNotFoundError: No such folder.
            ValueError: Only damaged checkpoints, or one of another trainer (missing and unknown names are listed).
        """
        checkpoint.resume(folder, trainer)
        return trainer


def _check_optimizer(model: Model, optimizer: Optimizer) -> None:
    params = model.parameters()
    for name, held in optimizer.params.items():
        if name not in params:
            raise ValueError(f"Trainer: optimizer must hold parameters of {list(params)}, got {name!r}")
        if params[name].size and not is_same(held, params[name]):
            raise ValueError(f"Trainer: optimizer must hold the model's own arrays, got another array as {name!r}")


def _check_together(trainer: Trainer) -> None:
    """What this optimizer and model cannot have."""
    optimizer, scale = trainer.optimizer, trainer.loss_scale
    takes_closure = getattr(optimizer, "takes_closure", False)
    on_nonfinite = getattr(optimizer, "on_nonfinite", "skip")
    if isinstance(scale, DynamicLossScale) and on_nonfinite != "skip":
        raise ValueError(f"Trainer: loss_scale must be a constant beside {on_nonfinite=}, got a DynamicLossScale")
    if scale is not None and (not trainer.view.has_scale or takes_closure):
        raise ValueError(f"Trainer: loss_scale must be None for this model or optimizer, got {scale.scale}")
    after = [type(item).__name__ for item in trainer.regularizers if item.acts_after]
    if takes_closure and after:
        rule = f"must be penalties beside {type(optimizer).__name__}, which does not come back after each step"
        raise ValueError(f"Trainer: regularizers {rule}, got {after[0]} that acts after steps")
