"""What recurrent layers share: the walk over the steps of a sequence and back."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith import init as initializers
from stepsmith._backend import core_of, namespace, require_array, require_same_kind
from stepsmith.nn.base import check_gradient
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.drawn import Drawn
from stepsmith.nn.functional.activation import NO_SUMS

__all__ = ["Recurrent", "State", "Where", "activate"]

_SPAN = 16384
"""Elements of a state of so many steps as are differentiated in one go: few calls, but all in the cache."""

State = Array | tuple[Array, ...]

Where = tuple[Any, Any]
"""Namespace and core of the arrays of a pass: looked up once, not at every step."""


class Recurrent(Drawn):
    """A layer that carries a state from step to step; a subclass says what one step is, and its derivative.

    Inside, the samples are the last axis: a gate is a block of rows then, in one piece, and the product of a step needs
    no transposed copy. The products with the input and those that give the weights' gradients are one for all steps.

    Args:
        in_features: Length of an input row.
        hidden: Length of a state.
        bias: Whether there are biases.
        return_sequences: Whether the output has the states of all steps, or that of the last one alone.
        rng: Generator or seed to draw the parameters from at once; None leaves it to the model (see `Module`).
        dtype: float32 or float64, of parameters, inputs and outputs.

    Attributes:
        initial_state: What the next passes begin with; None for zeros.
        last_state: What the last pass ended with, a copy.

    Raises:
        ValueError: A length below 1.
        TypeError: Another dtype.
    """

    _gates = 1
    """Blocks of `hidden` rows of the weights."""
    _kept = 1
    """Blocks that a step leaves for the backward pass; those of the weights come first."""
    _factors = 1
    """Blocks of derivatives of a step, those of the hidden product first."""
    _slots: tuple[str, ...] = ("h",)
    """Parts of the state; the first is the output."""

    def __init__(
        self,
        in_features: int,
        hidden: int,
        bias: bool = True,
        *,
        return_sequences: bool = True,
        rng: int | np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.in_features = _check.integer(owner, "in_features", in_features, low=1)
        self.hidden = _check.integer(owner, "hidden", hidden, low=1)
        self.return_sequences = _check.boolean(owner, "return_sequences", return_sequences)
        self._rows = rows = self._gates * self.hidden
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, self.in_features), "weight_hh": (rows, self.hidden)}
        if _check.boolean(owner, "bias", bias):
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        self._allocate(shapes, dtype)
        self._scratch: defaultdict[str, Buffer] = defaultdict(Buffer)
        self._initial: Array | None = None
        self._last = np.zeros((len(self._slots), self.hidden, 0), self.dtype)
        self._start(rng)

    def _first(self, rng: np.random.Generator) -> dict[str, Array]:
        bound = 1.0 / math.sqrt(self.hidden)
        draw = partial(initializers.uniform, rng=rng, a=-bound, b=bound, dtype=self.dtype)
        return {name: draw(param.shape) for name, param in self.params.items()}

    @abstractmethod
    def _step(self, on: Where, product: Array, kept: Array, before: Array, after: Array) -> None:
        """Write the state after a step and what the backward pass needs of it.

        Args:
            on: What works on the arrays.
            product: weight_hh·h, (rows, samples).
            kept: The input's product and the biases in its first rows, to be written; (blocks·hidden, samples).
            before: State, (slots, hidden, samples).
            after: Likewise, to be written.
        """

    @abstractmethod
    def _differentiate(self, kept: Array, before: Array, after: Array, factors: Array) -> None:
        """Write what some steps multiply the gradients of their states with; the steps are an axis more."""

    @abstractmethod
    def _step_back(self, on: Where, factors: Array, kept: Array, grad: Array) -> None:
        """Turn the factors into gradients, and the gradient of the state after a step into that of the one before."""

    def _turn_to_input(self, sums: Array, factors: Array) -> None:
        """Make the gradients of the hidden product, (rows, steps, samples), those of the input's product."""

    def _bias(self) -> Array:
        """What is added to the input's product."""
        return self.params["bias_ih"] + self.params["bias_hh"]

    @property
    def initial_state(self) -> State | None:
        """What passes begin with: (samples, hidden) or a tuple of such arrays; None for zeros."""
        return None if self._initial is None else self._given_out(self._initial)

    @initial_state.setter
    def initial_state(self, state: State | None) -> None:
        parts = None if state is None else self._parts(state)
        self._initial = None if parts is None else namespace(parts[0]).stack([part.T for part in parts])

    @property
    def last_state(self) -> State:
        """A copy of the state after the last step: (samples, hidden) or a tuple of such arrays."""
        return self._given_out(self._last)

    def _given_out(self, states: Array) -> State:
        parts = tuple(state.T.copy() for state in states)
        return parts if len(parts) > 1 else parts[0]

    def _parts(self, state: object) -> list[Array]:
        parts = [state] if len(self._slots) == 1 else state
        if not isinstance(parts, list | tuple) or len(parts) != len(self._slots):
            wanted = f"a tuple ({', '.join(self._slots)})"
            raise TypeError(f"{self._owner}: initial_state must be {wanted}, got {type(state).__name__}")
        found = [require_array(self._owner, "initial_state", part) for part in parts]
        for part in found:
            require_same_kind(self._owner, "initial_state", part, found[0], "its other parts")
            if part.dtype != self.dtype:
                raise TypeError(f"{self._owner}: initial_state must be {self.dtype}, got {part.dtype}")
            if part.ndim != 2 or part.shape[1] != self.hidden or part.shape != found[0].shape:
                shape = f"(samples, {self.hidden})"
                raise ValueError(f"{self._owner}: initial_state must have shape {shape}, got {part.shape}")
        return found

    def forward(self, x: Array, training: bool = False) -> Array:
        """Output (samples, time, hidden), or (samples, hidden), for `x` of shape (samples, time, in)."""
        self._check_sequences(x, self.in_features)
        samples, steps, _ = x.shape
        if self._initial is not None:
            self._check_initial(self._initial, x)
        self._shape = x.shape
        states, kept = self._states(x), self._take(x, "kept", steps, self._kept * self.hidden, samples)
        self._give(x, kept[:, : self._rows])
        states[:, 0] = 0.0 if self._initial is None else self._initial
        product, weight = self._take(x, "product", self._rows, samples), self.params["weight_hh"]
        on = xp, _ = namespace(x), core_of(x)
        for t in range(steps):
            xp.matmul(weight, states[0, t], out=product)
            self._step(on, product, kept[t], states[:, t], states[:, t + 1])
        self._last = states[:, steps]
        return self._output(states[0, 1:])

    def _check_initial(self, states: Array, x: Array) -> None:
        require_same_kind(self._owner, "initial_state", states, x, "the inputs")
        if states.shape[2] != len(x):
            raise ValueError(f"{self._owner}: initial_state must have {len(x)} samples, got {states.shape[2]}")

    def _take(self, of: Array, name: str, *shape: int) -> Array:
        return self._scratch[name].get(shape, self.dtype, of)

    def _states(self, of: Array) -> Array:
        """Those before, between and after the steps."""
        return self._take(of, "states", len(self._slots), self._shape[1] + 1, self.hidden, self._shape[0])

    def _give(self, x: Array, out: Array) -> None:
        """The input's product and the biases for all steps, (steps, rows, samples); its rows stay for the way back."""
        samples, steps, features = x.shape
        rows, product = self._take(x, "x", steps, samples, features), self._take(x, "given", self._rows, steps, samples)
        xp = namespace(x)
        xp.copyto(rows, x.transpose(1, 0, 2))
        xp.matmul(self.params["weight_ih"], rows.reshape(-1, features).T, out=product.reshape(self._rows, -1))
        bias = self._bias()[:, None] if "bias_ih" in self.params else self.dtype.type(0.0)
        xp.add(product.transpose(1, 0, 2), bias, out=out)

    def _output(self, states: Array) -> Array:
        steps, hidden, samples = states.shape
        if not self.return_sequences:
            return _copied(states[-1].T, self._take(states, "y", samples, hidden))
        return _copied(states.transpose(2, 0, 1), self._take(states, "y", samples, steps, hidden))

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Back through time: write the parameters' gradients; return that of the last input."""
        samples, steps, features = self._shape
        shape = (samples, steps, self.hidden) if self.return_sequences else (samples, self.hidden)
        check_gradient(self._owner, dy, shape, self.dtype, self.params["weight_hh"])
        factors, xp = self._walk_back(dy), namespace(dy)
        sums = self._take(dy, "given", self._rows, steps, samples)
        flat, before = sums.reshape(self._rows, -1), self._take(dy, "before", steps, samples, self.hidden)
        xp.copyto(before, self._states(dy)[0, :-1].transpose(0, 2, 1))
        xp.copyto(sums, factors[:, : self._rows].transpose(1, 0, 2))
        self._of_weights("hh", flat, before.reshape(-1, self.hidden))
        self._turn_to_input(sums, factors)
        self._of_weights("ih", flat, self._take(dy, "x", steps, samples, features).reshape(-1, features))
        if not input_grad:
            return None
        rows = self._take(dy, "dx_rows", steps, samples, features)
        xp.matmul(flat.T, self.params["weight_ih"], out=rows.reshape(-1, features))
        return _copied(rows.transpose(1, 0, 2), self._take(dy, "dx", samples, steps, features))

    def _walk_back(self, dy: Array) -> Array:
        """From the last step to the first; the gradients of all steps' products."""
        samples, steps, _ = self._shape
        states, kept = self._states(dy), self._take(dy, "kept", steps, self._kept * self.hidden, samples)
        factors = self._take(dy, "factors", steps, self._factors * self.hidden, samples)
        grad = self._take(dy, "grad", len(self._slots), self.hidden, samples)
        on = xp, _ = namespace(dy), core_of(dy)
        grad[...] = 0.0
        given = dy.transpose(1, 2, 0) if self.return_sequences else dy.T[None]
        given, span = _copied(given, self._take(dy, "dy", *given.shape)), max(_SPAN // max(grad[0].size, 1), 1)
        for t in range(steps - 1, -1, -1):
            if (steps - 1 - t) % span == 0:
                some = slice(max(t + 1 - span, 0), t + 1)
                before, after = states[:, :-1][:, some], states[:, 1:][:, some]
                self._differentiate(kept[some], before, after, factors[some])
            if t >= steps - len(given):
                xp.add(grad[0], given[t - steps], out=grad[0])
            self._step_back(on, factors[t], kept[t], grad)
        return factors

    def _of_weights(self, which: str, grad: Array, rows: Array) -> None:
        """Write the gradients of one weight and bias, each a sum over all steps."""
        xp = namespace(grad)
        xp.matmul(grad, rows, out=self.grads[f"weight_{which}"])
        if f"bias_{which}" in self.grads:
            xp.add.reduce(grad, axis=1, out=self.grads[f"bias_{which}"])

    def flops(self, x: tuple[int, ...], y: tuple[int, ...]) -> int:
        """2·(in + hidden)·rows for each step of each sample."""
        return 2 * (self.in_features + self.hidden) * self._rows * x[0] * x[1]


def _copied(source: Array, target: Array) -> Array:
    namespace(target).copyto(target, source)
    return target


def activate(on: Where, kind: str, x: Array, out: Array | None = None) -> Array:
    """An activation by the core, in place if nowhere else."""
    y = x if out is None else out
    on[1].activate("nn", kind, (), y, (x, None, None), NO_SUMS, (1, 1, x.size))
    return y
