"""Mixed precision: parameters and gradients of 16 bits around a model that computes in float32."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import numpy.typing as npt

from stepsmith._backend import namespace
from stepsmith.nn.base import Module
from stepsmith.nn.buffer import Array
from stepsmith.quant.cast import cast

__all__ = ["MixedPrecision"]

_STORED = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)


class MixedPrecision(Module):
    """16-bit storage, float32 products; Micikevicius et al. 2018.

    `parameters()` and `gradients()` are 16-bit arrays under the model's names. Before a forward pass the parameters are
    written into the model's float32 arrays; after a backward pass its gradients are rounded to the nearest 16-bit
    numbers. In float16 what is too large becomes infinity, which an optimizer sees, and what is below 3e-8 becomes 0:
    `loss_and_grads(batch, loss, loss_scale)` keeps small gradients. The parameters are rounded once from what the model
    has or draws; an optimizer with ``master=True`` keeps float32 copies of them. Buffers stay as they are. The model
    belongs to the wrapper from then on, which itself goes into no other model.

    Args:
        model: With float32 parameters.
        dtype: "bfloat16" or "float16".

    Attributes:
        model: The model.
        dtype: Of the parameters and gradients.

    Raises:
        TypeError: Not a Module, parameters that are not float32, or another dtype.

    Example:
        >>> model = MixedPrecision(ss.nn.Linear(4, 3))
        >>> optimizer = ss.optim.AdamW(model.parameters(), master=True)
        >>> batch = np.ones((2, 4), np.float32), np.array([0, 2])
        >>> loss, grads = model.loss_and_grads(batch, loss_scale=1024.0)
        >>> optimizer.step(grads, grad_scale=1024.0).step, str(grads["weight"].dtype)
        (1, 'bfloat16')
    """

    def __init__(self, model: Module, dtype: npt.DTypeLike = "bfloat16") -> None:
        if not isinstance(model, Module):
            raise TypeError(f"MixedPrecision: model must be a Module, got {type(model).__name__}")
        super().__init__(model.seed)
        self.model, self.counter, self.dtype = model, model.counter, _stored(dtype)
        for prefix, layer in model.named_layers():
            for name, param in layer.params.items():
                if param.dtype != np.float32:
                    rule = "parameters must be float32"
                    raise TypeError(f"MixedPrecision: {rule}, got {param.dtype} for {prefix + name!r}")
        self._single: dict[str, Array] = {}
        self._single_grads: dict[str, Array] = {}
        self._stored: dict[str, Array] = {}

    def named_layers(self) -> Iterator[tuple[str, Module]]:
        """Those of the model."""
        yield from self.model.named_layers()

    def prepare(self) -> dict[str, Array]:
        """Let the model draw, and round what it drew."""
        self._single_grads = super().prepare()
        self._single = super().parameters()
        self._stored = {name: cast(param, self.dtype) for name, param in self._single.items()}
        grads = self._single_grads.items()
        self._gradients = {name: namespace(grad).zeros(grad.shape, self.dtype) for name, grad in grads}
        return self._gradients

    def parameters(self) -> dict[str, Array]:
        """The 16-bit parameters by the model's names."""
        self.gradients()
        return dict(self._stored)

    def forward(self, x: Array, training: bool = False) -> Array:
        """The model's output with the parameters of the moment."""
        # A model around this one has given the layers its own counter, and would train the float32 arrays in vain.
        _, first = next(self.named_layers(), ("", self))
        if self._gradients is None or first.counter is not self.counter:
            raise ValueError("MixedPrecision: must be the outermost module, got one inside another")
        for name, param in self._single.items():
            cast(self._stored[name], np.float32, out=param)
        return self.model.forward(x, training)

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """The model's backward pass, its gradients rounded."""
        dx = self.model.backward(dy, input_grad)
        assert self._gradients is not None
        for name, grad in self._single_grads.items():
            cast(grad, self.dtype, out=self._gradients[name])
        return dx


def _stored(dtype: npt.DTypeLike) -> np.dtype[np.generic]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found not in _STORED:
        raise TypeError(f"MixedPrecision: dtype must be bfloat16 or float16, got {dtype!r}")
    return found
