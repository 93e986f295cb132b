"""Recurrent layers: plain, with long short-term memory, and with gates alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith._backend import namespace
from stepsmith.nn.buffer import Array
from stepsmith.nn.recurrent import Recurrent, Where, activate

__all__ = ["GRU", "LSTM", "RNN"]


class RNN(Recurrent):
    """h = tanh(weight_ih·x + bias_ih + weight_hh·h + bias_hh), step by step; as ``torch.nn.RNN``, one layer of it.

    Input (samples, time, in), output (samples, time, hidden). Parameters go by PyTorch's names without "_l0" and are
    drawn as there, from U(±1/√hidden). Several layers stand in a `Sequential`. To go on where a pass has ended, set
    ``layer.initial_state = layer.last_state``; no gradient goes through it.

    Args:
        in_features: Length of an input row.
        hidden: Length of the state.
        nonlinearity: "tanh" or "relu".
        bias: Whether there are biases.
        return_sequences: False for the last step's state alone, (samples, hidden).
        rng: Generator or seed to draw from at once; None leaves it to the model (see `Module`).
        dtype: float32 or float64, of parameters, inputs and outputs.

    Attributes:
        initial_state: (samples, hidden), or None for zeros.
        last_state: (samples, hidden), a copy.

    Raises:
        ValueError: A length below 1, or another nonlinearity.
        TypeError: Another dtype.

    Example:
        >>> layer = RNN(2, 3, rng=0)
        >>> layer(np.ones((5, 7, 2), np.float32)).shape, layer.params["weight_hh"].shape
        ((5, 7, 3), (3, 3))
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        nonlinearity: str = "tanh",
        bias: bool = True,
        *,
        return_sequences: bool = True,
        rng: int | np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.nonlinearity = _check.one_of("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(in_features, hidden, bias, return_sequences=return_sequences, rng=rng, dtype=dtype)

    def _step(self, on: Where, product: Array, kept: Array, before: Array, after: Array) -> None:
        activate(on, self.nonlinearity, on[0].add(kept, product, out=after[0]))

    def _differentiate(self, kept: Array, before: Array, after: Array, factors: Array) -> None:
        if self.nonlinearity == "tanh":
            _tanh_slope(after[0], factors)
        else:
            namespace(kept).greater(after[0], 0.0, out=factors)

    def _step_back(self, on: Where, factors: Array, kept: Array, grad: Array) -> None:
        xp = on[0]
        xp.multiply(factors, grad[0], out=factors)
        xp.matmul(self.params["weight_hh"].T, factors, out=grad[0])


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997); as ``torch.nn.LSTM``, one layer of it.

    i, f, g, o = σ, σ, tanh, σ of weight_ih·x + bias_ih + weight_hh·h + bias_hh, four blocks of rows in this order;
    c = f·c + i·g; h = o·tanh(c). Else as `RNN`.

    Args:
        in_features: Length of an input row.
        hidden: Length of h and of c.
        bias: Whether there are biases.
        return_sequences: False for the last step's h alone, (samples, hidden).
        rng: Generator or seed to draw from at once; None leaves it to the model (see `Module`).
        dtype: float32 or float64, of parameters, inputs and outputs.

    Attributes:
        initial_state: (h, c), each (samples, hidden), or None for zeros.
        last_state: (h, c), copies.

    Raises:
        ValueError: A length below 1.
        TypeError: Another dtype.

    Example:
        >>> layer = LSTM(2, 3, return_sequences=False, rng=0)
        >>> h = layer(np.ones((5, 7, 2), np.float32))
        >>> h.shape, bool((layer.last_state[0] == h).all())
        ((5, 3), True)
    """

    _gates, _kept, _factors, _slots = 4, 5, 5, ("h", "c")

    def _step(self, on: Where, product: Array, kept: Array, before: Array, after: Array) -> None:
        xp, n, (h, c) = on[0], self.hidden, after
        xp.add(kept[: 4 * n], product, out=kept[: 4 * n])
        activate(on, "sigmoid", kept[: 2 * n])
        i, f, g, o, tanh_c = _blocks(kept, n)
        xp.multiply(f, before[1], out=c)
        xp.add(c, xp.multiply(i, activate(on, "tanh", g), out=h), out=c)
        xp.multiply(activate(on, "sigmoid", o), activate(on, "tanh", c, out=tanh_c), out=h)

    def _differentiate(self, kept: Array, before: Array, after: Array, factors: Array) -> None:
        """Of i, f, g by the gradient of c, of o by that of h, and of c by that of h."""
        xp, n = namespace(kept), self.hidden
        i, _, g, o, tanh_c = _blocks(kept, n)
        for_i, for_f, for_g, for_o, for_c = _blocks(factors, n)
        _sigmoid_slope(kept[..., : 2 * n, :], factors[..., : 2 * n, :])
        xp.multiply(for_i, g, out=for_i)
        xp.multiply(for_f, before[1], out=for_f)
        xp.multiply(_tanh_slope(g, for_g), i, out=for_g)
        xp.multiply(_sigmoid_slope(o, for_o), tanh_c, out=for_o)
        xp.multiply(_tanh_slope(tanh_c, for_c), o, out=for_c)

    def _step_back(self, on: Where, factors: Array, kept: Array, grad: Array) -> None:
        xp, n, (dh, dc) = on[0], self.hidden, grad
        for_o, for_c = factors[3 * n : 4 * n], factors[4 * n :]
        xp.add(dc, xp.multiply(for_c, dh, out=for_c), out=dc)
        by_cell = factors[: 3 * n].reshape(3, n, -1)
        xp.multiply(by_cell, dc, out=by_cell)
        xp.multiply(for_o, dh, out=for_o)
        xp.multiply(dc, kept[n : 2 * n], out=dc)
        xp.matmul(self.params["weight_hh"].T, factors[: 4 * n], out=dh)


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014); as ``torch.nn.GRU``, one layer of it.

    r, z = σ of weight_ih·x + bias_ih + weight_hh·h + bias_hh; n = tanh(weight_ih·x + bias_ih + r·(weight_hh·h +
    bias_hh)); h = (1 - z)·n + z·h. The weights' rows are three blocks for r, z, n. Else as `RNN`.

    Args:
        in_features: Length of an input row.
        hidden: Length of the state.
        bias: Whether there are biases.
        return_sequences: False for the last step's state alone, (samples, hidden).
        rng: Generator or seed to draw from at once; None leaves it to the model (see `Module`).
        dtype: float32 or float64, of parameters, inputs and outputs.

    Attributes:
        initial_state: (samples, hidden), or None for zeros.
        last_state: (samples, hidden), a copy.

    Raises:
        ValueError: A length below 1.
        TypeError: Another dtype.

    Example:
        >>> layer = GRU(2, 3, rng=0)
        >>> layer(np.ones((5, 7, 2), np.float32)).shape, layer.params["weight_ih"].shape
        ((5, 7, 3), (9, 2))
    """

    _gates, _kept, _factors = 3, 4, 4

    def _bias(self) -> Array:
        """Without the hidden bias of n, which the reset gate multiplies."""
        hidden = self.params["bias_hh"].copy()
        hidden[2 * self.hidden :] = 0.0
        return self.params["bias_ih"] + hidden

    def _step(self, on: Where, product: Array, kept: Array, before: Array, after: Array) -> None:
        xp, size, h = on[0], self.hidden, after[0]
        r, z, n, reset = _blocks(kept, size)
        activate(on, "sigmoid", xp.add(kept[: 2 * size], product[: 2 * size], out=kept[: 2 * size]))
        xp.copyto(reset, product[2 * size :])
        if "bias_hh" in self.params:
            xp.add(reset, self.params["bias_hh"][2 * size :, None], out=reset)
        activate(on, "tanh", xp.add(n, xp.multiply(r, reset, out=h), out=n))
        xp.multiply(xp.subtract(before[0], n, out=h), z, out=h)
        xp.add(h, n, out=h)

    def _differentiate(self, kept: Array, before: Array, after: Array, factors: Array) -> None:
        """Of r, z, the hidden product of n, and n."""
        xp = namespace(kept)
        r, z, n, reset = _blocks(kept, self.hidden)
        for_r, for_z, for_reset, for_n = _blocks(factors, self.hidden)
        xp.multiply(_tanh_slope(n, for_n), xp.subtract(1.0, z, out=for_z), out=for_n)
        xp.multiply(_sigmoid_slope(z, for_z), xp.subtract(before[0], n, out=for_reset), out=for_z)
        xp.multiply(for_n, reset, out=for_reset)
        xp.multiply(_sigmoid_slope(r, for_r), for_reset, out=for_r)
        xp.multiply(for_n, r, out=for_reset)

    def _step_back(self, on: Where, factors: Array, kept: Array, grad: Array) -> None:
        xp, size, dh = on[0], self.hidden, grad[0]
        blocks = factors.reshape(4, size, -1)
        xp.multiply(blocks, dh, out=blocks)
        xp.multiply(dh, kept[size : 2 * size], out=dh)
        through = self._take(grad, "product", size, dh.shape[1])
        xp.add(dh, xp.matmul(self.params["weight_hh"].T, factors[: 3 * size], out=through), out=dh)

    def _turn_to_input(self, sums: Array, factors: Array) -> None:
        namespace(sums).copyto(sums[2 * self.hidden :], factors[:, 3 * self.hidden :].transpose(1, 0, 2))


def _blocks(rows: Array, size: int) -> list[Array]:
    """The gates' blocks of rows, of one step or of several."""
    return [rows[..., start : start + size, :] for start in range(0, rows.shape[-2], size)]


def _sigmoid_slope(y: Array, out: Array) -> Array:
    """y·(1 - y) of a sigmoid's value."""
    xp = namespace(y)
    xp.multiply(xp.subtract(1.0, y, out=out), y, out=out)
    return out


def _tanh_slope(y: Array, out: Array) -> Array:
    """1 - y² of a tanh's value."""
    xp = namespace(y)
    xp.subtract(1.0, xp.multiply(y, y, out=out), out=out)
    return out
