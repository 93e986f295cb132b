"""Layers in a row."""

from __future__ import annotations

from collections.abc import Iterator

from stepsmith import _check
from stepsmith._backend import namespace
from stepsmith.nn.base import Module
from stepsmith.nn.buffer import Array, Buffer

__all__ = ["Residual", "Sequential"]


class Sequential(Module):
    """Applies its layers in order; as ``torch.nn.Sequential``. Parameters are named "0.weight", "0.bias", "2.weight".

    Args:
        modules: Layers or further Sequentials.
        seed: Of the parameters that no `rng` has drawn; inside another Sequential the outer one's holds.

    Raises:
        TypeError: Something that is not a Module.
        ValueError: The same layer twice (its buffers would be overwritten), or a negative seed.

    Example:
        >>> import numpy as np
        >>> from stepsmith.nn import Linear, ReLU
        >>> model = Sequential(Linear(4, 8), ReLU(), Linear(8, 2))
        >>> loss, grads = model.loss_and_grads((np.ones((3, 4), np.float32), np.array([0, 1, 1])))
        >>> list(grads)
        ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *modules: Module, seed: int = 0) -> None:
        owner = type(self).__name__
        super().__init__(_check.integer(owner, "seed", seed, low=0))
        for index, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(f"{owner}: layer {index} must be a Module, got {type(module).__name__}")
        self.modules = modules
        layers = [layer for _, layer in self.named_layers()]
        if len({id(layer) for layer in layers}) < len(layers):
            raise ValueError(f"{owner}: each layer must appear once, got one twice")
        # Nothing before the first layer with parameters needs a gradient, unless the caller wants that of the input.
        self._first = next((i for i, module in enumerate(modules) if _has_params(module)), len(modules))

    def named_layers(self) -> Iterator[tuple[str, Module]]:
        """The layers of all modules, named by position."""
        for index, module in enumerate(self.modules):
            for prefix, layer in module.named_layers():
                yield f"{index}.{prefix}", layer

    def forward(self, x: Array, training: bool = False) -> Array:
        """The last module's output."""
        for module in self.modules:
            x = module.forward(x, training)
        return x

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Backward through the modules in reverse, as far as somebody needs it."""
        grad: Array | None = dy
        stop = 0 if input_grad else self._first
        for index in range(len(self.modules) - 1, stop - 1, -1):
            assert grad is not None
            grad = self.modules[index].backward(grad, input_grad or index > stop)
        return grad if input_grad else None


class Residual(Sequential):
    """y = x + f(x), f its layers in order (He et al. 2015). Parameters are named as those of a `Sequential`.

    Args:
        modules: Layers that together keep shape and dtype.
        seed: As that of a `Sequential`.

    Raises:
        TypeError: Something that is not a Module; layers that change the dtype.
        ValueError: The same layer twice, a negative seed; layers that change the shape.

    Example:
        >>> from stepsmith.nn import Linear, ReLU
        >>> model = Sequential(Linear(4, 8), Residual(ReLU(), Linear(8, 8)), Linear(8, 2))
        >>> list(model.parameters())
        ['0.weight', '0.bias', '1.1.weight', '1.1.bias', '2.weight', '2.bias']
    """

    def __init__(self, *modules: Module, seed: int = 0) -> None:
        super().__init__(*modules, seed=seed)
        self._y, self._dx = Buffer(), Buffer()

    def forward(self, x: Array, training: bool = False) -> Array:
        """`x` plus the last module's output."""
        change = super().forward(x, training)
        if change.dtype != x.dtype:
            raise TypeError(f"Residual: layers must keep the dtype, {x.dtype}, got {change.dtype}")
        if change.shape != x.shape:
            raise ValueError(f"Residual: layers must keep the shape, {x.shape}, got {change.shape}")
        y = self._y.get(x.shape, x.dtype, x)
        namespace(x).add(x, change, out=y)
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """`dy` plus the gradient that comes back through the modules."""
        change = super().backward(dy, input_grad)
        if change is None:
            return None
        dx = self._dx.get(dy.shape, dy.dtype, dy)
        namespace(dy).add(dy, change, out=dx)
        return dx


def _has_params(module: Module) -> bool:
    return any(layer.params for _, layer in module.named_layers())
