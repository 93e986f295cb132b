"""What a trainer trains: the protocol, a wrapper for functions, and one face for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from stepsmith._backend import assign, device_of, moved
from stepsmith.nn import LOSSES, CrossEntropy, Loss, Module

__all__ = [
    "Array",
    "Batch",
    "FunctionModel",
    "LossFunction",
    "Metric",
    "Model",
    "View",
    "brought",
    "buffers_of",
    "device_of_model",
    "loss_of",
    "view",
]

Array = npt.NDArray[Any]
Batch = Sequence[Array]
LossFunction = Callable[[Array, Array], tuple[float, Array]]
Metric = Callable[[Array, Array], tuple[float, float]]
"""Output and target of a batch → sum over its samples, and what the mean divides by."""


class Model(Protocol):
    """Anything with these two methods can be trained.

    With a method `gradients()` too, it promises that `loss_and_grads` fills those same arrays each time; the
    optimizer is then bound to them once. With a method `buffers()`, name to array, it has arrays that its
    `loss_and_grads` changes, such as running statistics: an update that fails or is skipped leaves them as they were.
    """

    def parameters(self) -> Mapping[str, Array]:
        """The parameters themselves, which the optimizer changes in place."""

    def loss_and_grads(self, batch: Batch) -> tuple[float, Mapping[str, Array | None]]:
        """Mean loss over the batch, and the gradients by the parameters' names."""


def buffers_of(model: Model) -> Mapping[str, Array]:
    """What a model keeps beside its parameters; nothing for a model without `buffers()`."""
    buffers = getattr(model, "buffers", None)
    found: Mapping[str, Array] = {} if buffers is None else buffers()
    return found


def device_of_model(model: Any) -> str:
    """Where a model's parameters are; "cpu" for what has none, such as a function."""
    if isinstance(model, Module):
        return model.device
    params = model.parameters() if hasattr(model, "parameters") else {}
    return device_of(next(iter(params.values()), None))


def brought(array: Array, device: str) -> Array:
    """An array of NumPy as one on the device; what is on a GPU is where it was meant to be."""
    return moved(array, device) if device != "cpu" and isinstance(array, np.ndarray) else array


class FunctionModel:
    """A model made of arrays and a function, as HIPS autograd or JAX give one.

    Args:
        params: Name to array; trained in place.
        fn: ``fn(params, batch) -> (mean loss, gradients by name)``.
        predict: ``predict(params, X) -> outputs``, if `Trainer.predict` is wanted.

    Example:
        >>> import numpy as np
        >>> def square(params, batch):
        ...     error = params["w"] - batch[0].mean()
        ...     return float(error**2), {"w": np.asarray(2 * error)}
        >>> FunctionModel({"w": np.array(1.0)}, square).loss_and_grads((np.zeros(3),))
        (1.0, {'w': array(2.)})
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        fn: Callable[[Mapping[str, Array], Batch], tuple[float, Mapping[str, Array | None]]],
        predict: Callable[[Mapping[str, Array], Array], Array] | None = None,
    ) -> None:
        self._params = dict(params)
        self._fn, self._predict = fn, predict

    def parameters(self) -> dict[str, Array]:
        """The arrays that were given, or copies on the device that the model was moved to."""
        return self._params

    def to(self, device: str) -> Self:
        """Move the parameters; the function gets those on the device from then on, and batches there."""
        self._params = {name: moved(array, device) for name, array in self._params.items()}
        return self

    def loss_and_grads(self, batch: Batch) -> tuple[float, Mapping[str, Array | None]]:
        """Call the function."""
        return self._fn(self._params, batch)

    @property
    def predict(self) -> Callable[[Array], Array] | None:
        """The function of inputs alone, if there is one."""
        function = self._predict
        return None if function is None else lambda inputs: function(self._params, inputs)


@dataclass(frozen=True)
class View:
    """A model as the trainer sees it.

    Attributes:
        loss_and_grads: Mean loss of a batch, what it divides its sum by, and the gradients by name, which are
            multiplied by the loss scale.
        sums: Sum and count over a batch of each thing that an evaluation reports, nothing trained.
        predict: Outputs for inputs, which hold until the next call; None if the model cannot.
        check: Raises if the first samples of some data are not what the model and its loss take.
        device: Where its parameters are now.
        has_scale: Whether a loss scale other than 1 is possible.
        targets: Arrays of a batch that are its target.
    """

    loss_and_grads: Callable[[Batch, float], tuple[float, float, Mapping[str, Array | None]]]
    sums: Callable[[Batch], Mapping[str, tuple[float, float]]]
    predict: Callable[[Array], Array] | None
    check: Callable[[Batch], None]
    device: Callable[[], str]
    has_scale: bool
    targets: int = 1


def view(model: Model, loss: str | Loss | LossFunction | None, metrics: Mapping[str, Metric]) -> View:
    """Join a model, its loss and metrics; both belong to an `nn.Module`, any other model brings its own loss.

    Raises:
        TypeError: Not a model, or a loss that is neither name nor callable.
        ValueError: An unknown loss, or loss or metrics given to a model that brings its own.
    """
    if isinstance(model, Module):
        return _module_view(model, loss_of(loss), metrics)
    if not (hasattr(model, "parameters") and hasattr(model, "loss_and_grads")):
        raise TypeError(f"Trainer: model must have parameters() and loss_and_grads(), got {type(model).__name__}")
    for name, value in (("loss", loss), ("metrics", metrics or None)):
        if value is not None:
            raise ValueError(f"Trainer: {name} must be None for a model that computes its own loss, got {value!r}")
    return _own_view(model)


def _module_view(module: Module, loss: Loss, metrics: Mapping[str, Metric]) -> View:
    counted = _Counted(loss)

    def loss_and_grads(batch: Batch, loss_scale: float) -> tuple[float, float, Mapping[str, Array | None]]:
        mean, grads = module.loss_and_grads(batch, counted, loss_scale)
        return mean, counted.last, grads

    def sums(batch: Batch) -> Mapping[str, tuple[float, float]]:
        inputs, target, weight = loss.parts("Trainer: data", batch)
        output = module(inputs)
        found = loss.sums(output, target, *weight)
        return {**found, **{name: _measured(name, metric, output, batch[1]) for name, metric in metrics.items()}}

    def check(data: Batch) -> None:
        inputs, target, _ = loss.parts("Trainer: data", data)
        # Two rows, because one has no batch statistics. They go to the targets, which are many.
        output = module(brought(inputs[:2], module.device))
        loss.check(moved(output, device_of(target[-1] if isinstance(target, tuple) else target)), target)

    return View(loss_and_grads, sums, module, check, lambda: module.device, True, loss.targets)


def _measured(name: str, metric: Metric, output: Array, target: Array) -> tuple[float, float]:
    found: object = metric(output, target)
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"Trainer: metrics[{name!r}] must return (sum, count), got {found!r}")
    try:
        total, count = map(float, found)
    except (TypeError, ValueError) as error:
        raise TypeError(f"Trainer: metrics[{name!r}] must return two numbers, got {found!r}") from error
    return total, count


def _own_view(model: Model) -> View:
    def loss_and_grads(batch: Batch, _loss_scale: float) -> tuple[float, float, Mapping[str, Array | None]]:
        mean, grads = model.loss_and_grads(batch)
        return float(mean), float(len(batch[0])), grads

    def sums(batch: Batch) -> Mapping[str, tuple[float, float]]:
        # It is a training pass: what that changes beside gradients is put back.
        buffers = buffers_of(model)
        before = {name: array.copy() for name, array in buffers.items()}
        mean, samples, _ = loss_and_grads(batch, 1.0)
        for name, array in before.items():
            assign(buffers[name], array)
        return {"loss": (mean * samples, samples)}

    device = partial(device_of_model, model)
    return View(loss_and_grads, sums, getattr(model, "predict", None), _no_check, device, False)


def _no_check(data: Batch) -> None:
    """The model's own function is the judge of its data."""


class _Counted(Loss):
    """A loss that remembers what its last mean divided by."""

    last = 0.0

    def __init__(self, loss: Loss) -> None:
        self._loss, self.targets = loss, loss.targets

    def check(self, output: Array, target: Any) -> None:
        """As the loss itself."""
        self._loss.check(output, target)

    def __call__(self, output: Array, target: Any, sample_weight: Array | None = None) -> tuple[float, Array]:
        mean, self.last, grad = self._loss.measured(output, target, sample_weight)
        return mean, grad


class _Function(Loss):
    """A user's function as a loss."""

    def __init__(self, function: LossFunction) -> None:
        self._function = function

    def check(self, output: Array, target: Array) -> None:
        """The function itself is the judge of its arguments."""

    def __call__(self, output: Array, target: Array, sample_weight: Array | None = None) -> tuple[float, Array]:
        if sample_weight is not None:
            raise TypeError("Trainer: loss must be an nn.Loss where samples have weights, got a function")
        loss, grad = self._function(output, target)
        return float(loss), grad


def loss_of(loss: str | Loss | LossFunction | None) -> Loss:
    """The loss of that name or function; cross entropy for None."""
    if loss is None:
        return CrossEntropy()
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"Trainer: loss must be one of {sorted(LOSSES)} or a function, got {loss!r}")
        return LOSSES[loss]()
    if not callable(loss):
        raise TypeError(f"Trainer: loss must be a name or a function, got {type(loss).__name__}")
    return _Function(loss)
