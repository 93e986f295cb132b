"""What every layer is: parameters and gradients by name, forward, backward, and a place in the random stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith._backend import device_of, namespace, require_same_kind
from stepsmith.nn._moves import Movable
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.loss import CrossEntropy, Loss
from stepsmith.nn.summary import Summary, summarize

__all__ = ["Counter", "Module", "check_gradient", "float_dtype"]


@dataclass
class Counter:
    """Where the next forward pass stands in the random stream; one object for all layers of a model.

    Attributes:
        seed: 64-bit key.
        step: Number of the update, the first is 1.
        sample: Position in the global batch of the first sample of the pass; micro-batches and ranks shift it.
    """

    seed: int = 0
    step: int = 1
    sample: int = 0


class Module(Movable, ABC):
    """A layer or a tree of layers.

    A layer fills `params` and `grads` (same names, shapes and dtypes; arrays fixed for life) in its constructor,
    draws its parameters in `draw`, and writes `forward` and `backward`. What these return are the layer's own
    scratch arrays: they hold until the layer's next pass, and whoever keeps one copies it. What a layer must keep
    and no optimizer changes, such as running statistics, is in `state` (arrays fixed for life too).

    Parameters are drawn once, when the tree is first used: layer i in depth-first order from a Generator keyed by
    the root's `seed` and i. So a model that is built twice, in two processes too, starts from the same numbers, its
    layers differ, and a trained layer that moves into another model keeps its weights.

    ``copy.deepcopy`` makes a model with arrays of its own, as they are now, and `to` one that computes elsewhere; so a
    layer keeps arrays as attributes, also in lists, tuples, dicts and dataclasses, but no views of them. Work on arrays
    goes through ``namespace(x)`` or ``core_of(x)``, which are those of the input.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.state: dict[str, Array] = {}
        self.counter = Counter()
        self.index = 0
        self._gradients: dict[str, Array] | None = None
        self._loss: Loss | None = None
        self._scaled = Buffer()

    def to(self, device: str) -> Self:
        """Move parameters, gradients, buffers and whatever else the layers keep to a device, with all their bits.

        The arrays are new ones: an optimizer over the old ones has to be moved too (`Optimizer.to`, or `Trainer.to` for
        both). What layers keep for a backward pass is gone, so a forward pass comes first. Parameters that are not
        drawn yet will have the numbers that they would have had on the CPU. Inputs must be where the model is.

        On a GPU products are those of cuBLAS, sums over rows CuPy's, and what CuPy computes of single elements takes
        denormal float32 numbers for zero; all else has the bits of the CPU.

        Args:
            device: "cpu", "cuda" for CuPy's current device, or "cuda:N".

        Returns:
            The module itself.

        Raises:
            TypeError, ValueError: Another device, or one that this machine has not.
            ImportError: CuPy is missing.
            RuntimeError: There is no GPU or no driver.

        Example:
            >>> model = ss.nn.Sequential(ss.nn.Linear(4, 3)).to("cpu")
            >>> model.device
            'cpu'
        """
        self._move(device)
        return self

    @property
    def device(self) -> str:
        """Where parameters and buffers are, "cpu", "cuda:0" and so on; "cpu" for a module without any."""
        arrays = (chain(layer.params.values(), layer.state.values()) for _, layer in self.named_layers())
        first = next(chain.from_iterable(arrays), None)
        return "cpu" if first is None else device_of(first)

    @abstractmethod
    def forward(self, x: Array, training: bool = False) -> Array:
        """Output for a batch `x` of shape (samples, ...)."""

    @abstractmethod
    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Write the parameters' gradients; return the gradient of the last input, or None without `input_grad`."""

    def draw(self, seed: int) -> None:
        """Draw the parameters from a Generator of (`seed`, `index`), unless they were drawn before."""

    def flops(self, x: tuple[int, ...], y: tuple[int, ...]) -> int:
        """Multiplications and additions of the products in a forward pass from shape `x` to shape `y`."""
        return 0

    def named_layers(self) -> Iterator[tuple[str, Module]]:
        """The layers in depth-first order, each with the prefix of its parameters' names."""
        yield "", self

    def prepare(self) -> dict[str, Array]:
        """Number the layers, share the counter, draw the parameters, and list the gradients: the first use."""
        gradients: dict[str, Array] = {}
        for index, (prefix, layer) in enumerate(self.named_layers()):
            layer.index, layer.counter = index, self.counter
            layer.draw(self.seed)
            gradients |= {prefix + name: grad for name, grad in layer.grads.items()}
        self._gradients = gradients
        return gradients

    def __call__(self, x: Array, training: bool = False) -> Array:
        """`forward`, after the parameters are drawn."""
        if self._gradients is None:
            self.prepare()
        return self.forward(x, training)

    def parameters(self) -> dict[str, Array]:
        """The parameters themselves by name; "0.weight" is the weight of a Sequential's first layer."""
        if self._gradients is None:
            self.prepare()
        return {prefix + name: param for prefix, layer in self.named_layers() for name, param in layer.params.items()}

    def gradients(self) -> dict[str, Array]:
        """The gradient arrays by the parameters' names; each `loss_and_grads` overwrites these same arrays."""
        return self.prepare() if self._gradients is None else self._gradients

    def buffers(self) -> dict[str, Array]:
        """The arrays themselves that belong to the model and are no parameters; "1.running_mean", as in PyTorch."""
        return {prefix + name: array for prefix, layer in self.named_layers() for name, array in layer.state.items()}

    def summary(self, inputs: Sequence[int] | Array, dtype: npt.DTypeLike = np.float32) -> Summary:
        """Layers with output shapes, parameters, bytes and FLOPs, from one forward pass outside training.

        FLOPs are what `flops` says: multiplications and additions of products. Norms, activations and whatever else
        works on single elements count as 0. Parameters are drawn if they were not; nothing else of the model changes
        but what layers keep of their last pass, such as `last_state`.

        Args:
            inputs: Shape of a sample, without the batch's axis, for a pass with zeros; or a batch.
            dtype: Of the zeros; an integer one where an embedding comes first.

        Raises:
            TypeError: Neither a shape nor an array.
            ValueError: A length below 1, or what a layer does not take.

        Example:
            >>> import stepsmith as ss
            >>> print(ss.nn.Sequential(ss.nn.Linear(4, 8), ss.nn.ReLU()).summary((4,)))
            layer  type    output  parameters  bytes  buffers  FLOPs
            0      Linear  (8,)            40    160        0     64
            1      ReLU    (8,)             0      0        0      0
            total                          40    160        0     64
            trainable: 40 of 40 parameters
        """
        return summarize(self, inputs, dtype)

    def loss_and_grads(
        self, batch: Sequence[Any], loss: Loss | None = None, loss_scale: float = 1.0
    ) -> tuple[float, dict[str, Array]]:
        """Mean loss of a batch in training mode, with `gradients` filled for it.

        Moves `counter.step` on by one afterwards: a loop without a trainer gets a fresh dropout mask each time.

        Args:
            batch: (inputs, targets) or (inputs, targets, sample_weight): inputs (samples, ...), targets and weights as
                the loss wants them; the two targets of `Distillation` are (inputs, labels, teacher's logits).
            loss: Cross entropy when omitted.
            loss_scale: Factor of the gradients, not of the loss that is returned; above 0.

        Raises:
            ValueError: Another number of arrays, a scale that is not above 0, or shapes or labels that do not fit.
            TypeError: Inputs that have not the parameters' dtype, or targets of the wrong kind.
        """
        if loss is None:
            loss = self._loss = self._loss or CrossEntropy()
        inputs, target, weight = loss.parts("loss_and_grads: batch", batch)
        value, dy = loss(self(inputs, True), target, *weight)
        if loss_scale != 1.0:
            scale = _check.number("loss_and_grads", "loss_scale", loss_scale, low=0.0, open_low=True)
            # Not in place: a user's loss may keep what it returned.
            dy = namespace(dy).multiply(dy, scale, out=self._scaled.get(dy.shape, dy.dtype, dy))
        self.backward(dy, False)
        self.counter.step += 1
        return value, self.gradients()


def float_dtype(owner: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The dtype of a layer's parameters, which must be float32 or float64."""
    found: np.dtype[Any] = np.dtype(dtype)
    if found not in (np.float32, np.float64):
        raise TypeError(f"{owner}: dtype must be float32 or float64, got {found}")
    return found


def check_gradient(owner: str, dy: Array, shape: tuple[int, ...], dtype: np.dtype[Any], of: Array) -> None:
    """Fails unless `dy` is like the output that the last input led to, and where another array of the layer is."""
    require_same_kind(owner, "dy", dy, of, "the layer's arrays")
    if dy.dtype != dtype:
        raise TypeError(f"{owner}: dy must have the dtype of the output, {dtype}, got {dy.dtype}")
    if dy.shape != shape:
        raise ValueError(f"{owner}: dy must have the shape of the output, {shape}, got {dy.shape}")
