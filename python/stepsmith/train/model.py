"""What a trainer trains: the protocol, a wrapper for functions, and one face for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from stepsmith.nn import LOSSES, CrossEntropy, Loss, Module

__all__ = ["Array", "Batch", "FunctionModel", "LossFunction", "Model", "View", "view"]

Array = npt.NDArray[Any]
Batch = Sequence[Array]
LossFunction = Callable[[Array, Array], tuple[float, Array]]


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
        self._fn = fn
        if predict is not None:
            self.predict = lambda inputs: predict(self._params, inputs)

    def parameters(self) -> dict[str, Array]:
        """The arrays that were given."""
        return self._params

    def loss_and_grads(self, batch: Batch) -> tuple[float, Mapping[str, Array | None]]:
        """Call the function."""
        return self._fn(self._params, batch)


@dataclass(frozen=True)
class View:
    """A model as the trainer sees it.

    Attributes:
        loss_and_grads: As `Model`'s.
        sums: What an evaluation reports of a batch, as (sum, count), nothing trained.
        predict: Outputs for inputs, which hold until the next call; None if the model cannot.
        check: Raises if arrays are not what the model and its loss take.
    """

    loss_and_grads: Callable[[Batch], tuple[float, Mapping[str, Array | None]]]
    sums: Callable[[Batch], Mapping[str, tuple[float, float]]]
    predict: Callable[[Array], Array] | None
    check: Callable[[Batch], None]


def view(model: Model, loss: str | Loss | LossFunction | None) -> View:
    """Join a model and its loss; `loss` belongs to an `nn.Module`, any other model brings its own.

    Raises:
        TypeError: Not a model, or a loss that is neither name nor callable.
        ValueError: An unknown loss, or one given to a model that brings its own.
    """
    if isinstance(model, Module):
        return _module_view(model, _loss(loss))
    if not (hasattr(model, "parameters") and hasattr(model, "loss_and_grads")):
        raise TypeError(f"Trainer: model must have parameters() and loss_and_grads(), got {type(model).__name__}")
    if loss is not None:
        raise ValueError(f"Trainer: loss must be None for a model that computes its own, got {loss!r}")
    return View(model.loss_and_grads, lambda batch: _own_sums(model, batch), getattr(model, "predict", None), _no_check)


def _module_view(module: Module, loss: Loss) -> View:
    def loss_and_grads(batch: Batch) -> tuple[float, Mapping[str, Array | None]]:
        return module.loss_and_grads(batch, loss)

    def sums(batch: Batch) -> Mapping[str, tuple[float, float]]:
        return loss.sums(module(batch[0]), batch[1])

    def check(data: Batch) -> None:
        if len(data) != 2:
            raise ValueError(f"Trainer: data must be (inputs, targets), got {len(data)} arrays")
        # Two rows, because one has no batch statistics.
        loss.check(module(data[0][:2]), data[1])

    return View(loss_and_grads, sums, module, check)


def _own_sums(model: Model, batch: Batch) -> Mapping[str, tuple[float, float]]:
    return {"loss": (float(model.loss_and_grads(batch)[0]) * len(batch[0]), len(batch[0]))}


def _no_check(data: Batch) -> None:
    """The model's own function is the judge of its data."""


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


def _loss(loss: str | Loss | LossFunction | None) -> Loss:
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
