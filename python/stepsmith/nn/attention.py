"""Attention of a sequence to itself."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith import init as initializers
from stepsmith._backend import namespace
from stepsmith.nn.base import check_gradient
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.drawn import Drawn
from stepsmith.nn.functional.softmax import softmax, softmax_backward

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(Drawn):
    """Self attention (Vaswani et al. 2017); as ``torch.nn.MultiheadAttention(batch_first=True)`` of one input.

    q, k, v = the thirds of x·in_proj_weightᵀ + in_proj_bias, each cut into heads of d = features/heads; in each head
    weights = softmax(q·kᵀ/√d) and context = weights·v; y = context·out_proj_weightᵀ + out_proj_bias. With `causal` the
    weights of later positions are exactly 0. Input and output have shape (samples, time, features).

    | here | PyTorch | drawn from |
    |---|---|---|
    | in_proj_weight (3·features, features) | in_proj_weight | Xavier's uniform |
    | in_proj_bias (3·features,) | in_proj_bias | zeros |
    | out_proj_weight (features, features) | out_proj.weight | U(±1/√features) |
    | out_proj_bias (features,) | out_proj.bias | zeros |

    Args:
        features: Length of a row.
        heads: Number of heads, of which `features` is a multiple.
        causal: Whether a position sees no later one.
        bias: Whether there are biases.
        rng: Generator or seed to draw the weights from at once; None leaves the draw to the model (see `Module`).
        dtype: float32 or float64, of parameters, inputs and outputs.

    Attributes:
        attention: Weights of the last pass, (samples, heads, time, time); they hold until the next pass.

    Raises:
        ValueError: A length below 1, or heads that do not divide the features.
        TypeError: Another dtype.

    Example:
        >>> layer = MultiHeadAttention(4, 2, causal=True, rng=0)
        >>> layer(np.ones((1, 3, 4), np.float32)).shape, layer.attention[0, 0].round(2).tolist()[1]
        ((1, 3, 4), [0.5, 0.5, 0.0])
    """

    def __init__(
        self,
        features: int,
        heads: int,
        causal: bool = False,
        bias: bool = True,
        *,
        rng: int | np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        owner = "MultiHeadAttention"
        self.features, n = _check.integer(owner, "features", features, low=1), features
        self.heads = _check.integer(owner, "heads", heads, low=1)
        if n % self.heads:
            raise ValueError(f"{owner}: heads must divide features, {n}, got {heads}")
        self.causal = _check.boolean(owner, "causal", causal)
        shapes: dict[str, tuple[int, ...]] = {"in_proj_weight": (3 * n, n), "out_proj_weight": (n, n)}
        if _check.boolean(owner, "bias", bias):
            shapes |= {"in_proj_bias": (3 * n,), "out_proj_bias": (n,)}
        self._allocate(shapes, dtype)
        self._qkv, self._dqkv, self._context, self._dcontext = Buffer(), Buffer(), Buffer(), Buffer()
        self._weights, self._dweights, self._y, self._dx = Buffer(), Buffer(), Buffer(), Buffer()
        self._future = np.zeros((0, 0), np.bool_)
        self._start(rng)

    def _first(self, rng: np.random.Generator) -> dict[str, Array]:
        into, out = self.params["in_proj_weight"].shape, self.params["out_proj_weight"].shape
        bound = 1.0 / math.sqrt(self.features)
        return {
            "in_proj_weight": initializers.xavier_uniform(into, rng, dtype=self.dtype),
            "out_proj_weight": initializers.uniform(out, rng, a=-bound, b=bound, dtype=self.dtype),
        }

    @property
    def attention(self) -> Array:
        """The last weights, each row with a sum of 1."""
        return self._saved.y

    def forward(self, x: Array, training: bool = False) -> Array:
        """Output of the shape of `x`, (samples, time, features); keeps `x` itself for `backward`, not a copy."""
        self._check_sequences(x, self.features)
        samples, steps, features = self._shape = x.shape
        self._x, xp = x.reshape(-1, features), namespace(x)
        qkv = self._project("in_proj", self._x, self._qkv.get((samples * steps, 3 * features), self.dtype, x))
        # The queries are scaled, which are fewer than their products.
        xp.multiply(qkv[:, :features], self._scale, out=qkv[:, :features])
        q, k, v = self._split(qkv)
        weights = self._weights.get((samples, self.heads, steps, steps), self.dtype, x)
        xp.matmul(q, k.swapaxes(2, 3), out=weights)
        if self.causal:
            xp.copyto(weights, -np.inf, where=self._later(steps, x))
        weights, self._saved = softmax(weights, out=weights)
        context = self._context.get(self._x.shape, self.dtype, x)
        xp.matmul(weights, v, out=self._split(context)[0])
        return self._project("out_proj", context, self._y.get(self._x.shape, self.dtype, x)).reshape(x.shape)

    @property
    def _scale(self) -> float:
        return 1.0 / math.sqrt(self.features // self.heads)

    def _project(self, name: str, rows: Array, out: Array) -> Array:
        xp = namespace(rows)
        xp.matmul(rows, self.params[f"{name}_weight"].T, out=out)
        if f"{name}_bias" in self.params:
            xp.add(out, self.params[f"{name}_bias"], out=out)
        return out

    def _split(self, rows: Array) -> Array:
        """Rows (samples·time, n·features) as n arrays (samples, heads, time, d), without a copy."""
        samples, steps, _ = self._shape
        count = rows.shape[1] // self.features
        parts = rows.reshape(samples, steps, count, self.heads, self.features // self.heads)
        return parts.transpose(2, 0, 3, 1, 4)

    def _later(self, steps: int, of: Array) -> Array:
        if len(self._future) < steps:
            places = namespace(of).arange(steps)
            self._future = places > places[:, None]
        return self._future[:steps, :steps]

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Write the parameters' gradients; return that of the last input."""
        check_gradient(self._owner, dy, self._shape, self.dtype, self._x)
        context = self._context.get(self._x.shape, self.dtype, dy)
        dcontext = self._dcontext.get(self._x.shape, self.dtype, dy)
        self._project_back("out_proj", dy.reshape(-1, self.features), context, dcontext)
        dqkv = self._dqkv.get((len(self._x), 3 * self.features), self.dtype, dy)
        self._attend_back(self._split(dcontext)[0], self._split(dqkv))
        namespace(dy).multiply(dqkv[:, : self.features], self._scale, out=dqkv[:, : self.features])
        dx = self._dx.get(self._x.shape, self.dtype, dy) if input_grad else None
        self._project_back("in_proj", dqkv, self._x, dx)
        return None if dx is None else dx.reshape(self._shape)

    def _attend_back(self, dcontext: Array, grads: Array) -> None:
        """From the gradient of the context to those of queries, keys and values."""
        q, k, v = self._split(self._qkv.get((len(self._x), 3 * self.features), self.dtype, dcontext))
        weights, xp = self.attention, namespace(dcontext)
        dweights = self._dweights.get(weights.shape, self.dtype, dcontext)
        xp.matmul(dcontext, v.swapaxes(2, 3), out=dweights)
        xp.matmul(weights.swapaxes(2, 3), dcontext, out=grads[2])
        softmax_backward(dweights, self._saved, out=dweights)
        xp.matmul(dweights, k, out=grads[0])
        xp.matmul(dweights.swapaxes(2, 3), q, out=grads[1])

    def _project_back(self, name: str, dy: Array, rows: Array, dx: Array | None) -> None:
        xp = namespace(dy)
        xp.matmul(dy.T, rows, out=self.grads[f"{name}_weight"])
        if f"{name}_bias" in self.grads:
            xp.add.reduce(dy, axis=0, out=self.grads[f"{name}_bias"])
        if dx is not None:
            xp.matmul(dy, self.params[f"{name}_weight"], out=dx)

    def flops(self, x: tuple[int, ...], y: tuple[int, ...]) -> int:
        """8·features² for each position, and 4·features for each pair of positions."""
        samples, steps, features = x
        return samples * steps * features * (8 * features + 4 * steps)
