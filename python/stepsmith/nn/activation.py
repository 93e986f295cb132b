"""Activations without parameters, applied to each element."""

from __future__ import annotations

from stepsmith import _check
from stepsmith._backend import core_of
from stepsmith._outputs import like
from stepsmith.nn.base import Module
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.functional.activation import NO_SUMS, Activation

__all__ = [
    "ELU",
    "GELU",
    "Hardtanh",
    "LeakyReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
]


class _Activation(Module):
    """Keeps the input itself, not a copy, for the backward pass."""

    kind = ""

    def __init__(self, **scalars: float) -> None:
        super().__init__()
        self._name = type(self).__name__
        self._activation = Activation.of(self._name, self.kind, scalars)
        self._y, self._dx = Buffer(), Buffer()

    def forward(self, x: Array, training: bool = False) -> Array:
        """Y of an array of any shape."""
        self._x = x
        return self._run(x, None, self._y)

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Dy times the derivative at the last input."""
        return self._run(self._x, like(self._name, "dy", dy, self._x), self._dx) if input_grad else None

    def _run(self, x: Array, dy: Array | None, buffer: Buffer) -> Array:
        out, activation = buffer.get(x.shape, x.dtype, x), self._activation
        shape = 1, 1, x.size
        core = core_of(x)
        core.activate(self._name, activation.kind, activation.numbers, out, (x, None, dy), NO_SUMS, shape)
        return out


class ReLU(_Activation):
    """y = max(x, 0), dx = dy where x > 0 else 0; NaN stays NaN. As ``torch.nn.ReLU``.

    Example:
        >>> ReLU()(np.array([[-1.0, 2.0]]))
        array([[0., 2.]])
    """

    kind = "relu"


class LeakyReLU(_Activation):
    """y = x above 0, else negative_slope·x. As ``torch.nn.LeakyReLU``.

    Args:
        negative_slope: any finite number.

    Example:
        >>> LeakyReLU(0.5)(np.array([[-1.0, 2.0]]))
        array([[-0.5,  2. ]])
    """

    kind = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(negative_slope=negative_slope)


class ELU(_Activation):
    """y = x above 0, else alpha·(e^x - 1); Clevert et al. 2015. As ``torch.nn.ELU``.

    Args:
        alpha: any finite number.

    Example:
        >>> ELU()(np.array([[-1000.0, 2.0]]))
        array([[-1.,  2.]])
    """

    kind = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha=alpha)


class GELU(_Activation):
    """y = x·Φ(x) with the normal distribution Φ; Hendrycks and Gimpel 2016. As ``torch.nn.GELU``.

    Args:
        approximate: "none", or "tanh" for Φ(x) = (1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.

    Raises:
        ValueError: Another approximation.

    Example:
        >>> GELU()(np.array([[0.0, 100.0]]))
        array([[  0., 100.]])
    """

    def __init__(self, approximate: str = "none") -> None:
        self.kind = (
            "gelu" if _check.one_of("GELU", "approximate", approximate, ("none", "tanh")) == "none" else "gelu_tanh"
        )
        super().__init__()


class SiLU(_Activation):
    """y = x·σ(x), σ(x) = 1/(1 + e^-x). As ``torch.nn.SiLU``.

    Example:
        >>> SiLU()(np.array([[0.0, 100.0]]))
        array([[  0., 100.]])
    """

    kind = "silu"


class Sigmoid(_Activation):
    """y = 1/(1 + e^-x), dx = dy·y·(1 - y). As ``torch.nn.Sigmoid``.

    Example:
        >>> Sigmoid()(np.array([[0.0, -1000.0, 1000.0]]))
        array([[0.5, 0. , 1. ]])
    """

    kind = "sigmoid"


class Tanh(_Activation):
    """y = tanh(x), dx = dy·(1 - y²). As ``torch.nn.Tanh``.

    Example:
        >>> Tanh()(np.array([[0.0]]))
        array([[0.]])
    """

    kind = "tanh"


class Hardtanh(_Activation):
    """y = x between min_val and max_val. As ``torch.nn.Hardtanh``.

    Args:
        min_val: of y.
        max_val: of y, at least min_val.

    Raises:
        ValueError: min_val above max_val.

    Example:
        >>> Hardtanh()(np.array([[-3.0, 0.5]]))
        array([[-1. ,  0.5]])
    """

    kind = "hardtanh"

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        super().__init__(min_val=min_val, max_val=max_val)


class Softsign(_Activation):
    """y = x/(1 + abs(x)). As ``torch.nn.Softsign``.

    Example:
        >>> Softsign()(np.array([[-1.0, 3.0]]))
        array([[-0.5 ,  0.75]])
    """

    kind = "softsign"


class Softplus(_Activation):
    """y = log(1 + e^(beta·x))/beta, x itself where beta·x is above the threshold. As ``torch.nn.Softplus``.

    Args:
        beta: above 0.
        threshold: of beta·x.

    Raises:
        ValueError: beta not above 0.

    Example:
        >>> Softplus()(np.array([[-1000.0, 25.0]]))
        array([[ 0., 25.]])
    """

    kind = "softplus"

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(beta=beta, threshold=threshold)
