"""Layers in a row."""

from __future__ import annotations

from collections.abc import Iterator

from stepsmith import _check
from stepsmith.nn.base import Module
from stepsmith.nn.buffer import Array

__all__ = ["Sequential"]


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
        super().__init__(_check.integer("Sequential", "seed", seed, low=0))
        for index, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: layer {index} must be a Module, got {type(module).__name__}")
        self.modules = modules
        layers = [layer for _, layer in self.named_layers()]
        if len({id(layer) for layer in layers}) < len(layers):
            raise ValueError("Sequential: each layer must appear once, got one twice")
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


def _has_params(module: Module) -> bool:
    return any(layer.params for _, layer in module.named_layers())
