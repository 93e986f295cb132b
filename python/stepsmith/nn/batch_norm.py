"""The layer that normalizes over the batch and keeps running statistics for inference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stepsmith import _check, norm
from stepsmith.nn.buffer import Array
from stepsmith.nn.norm import Norm
from stepsmith.norm.batch import differentiate

__all__ = ["BatchNorm"]


class BatchNorm(Norm):
    """y = (x - mean)·rstd·weight + bias for each channel; as ``torch.nn.BatchNorm1d`` to ``3d``.

    In training mean and variance are those of the batch, of two values a channel at least, and the running statistics
    move; else, and in a `frozen` layer, they are the running ones. See `stepsmith.norm.batch_norm`.

    Args:
        features: Number of channels.
        eps: Added to the variance, at least 0.
        momentum: Weight of a batch in the running statistics, in [0, 1]; None for the average of all batches.
        affine: Whether there are weight and bias.
        track_running_stats: Whether there are running statistics; without them every batch has its own.
        axis: Of the channels: 1 for NC, NCL and NCHW, -1 for NHWC.
        dtype: float32 or float64, of parameters and statistics; see `Norm`.

    Attributes:
        running_mean: (features,) or None; in `buffers()`, like the next two.
        running_var: Likewise.
        num_batches_tracked: Batches that moved them, int64 of no axes, or None.
        frozen: Whether training too uses the running statistics and leaves them, as PyTorch's layer in ``eval()``;
            `Trainer.freeze` sets it.

    Raises:
        TypeError: Another dtype.
        ValueError: Numbers out of range.

    Example:
        >>> layer = BatchNorm(1, eps=0.0, momentum=1.0)
        >>> layer(np.array([[1.0], [3.0]], np.float32), training=True).tolist()
        [[-1.0], [1.0]]
        >>> {name: array.tolist() for name, array in layer.buffers().items()}
        {'running_mean': [2.0], 'running_var': [2.0], 'num_batches_tracked': 1}
    """

    def __init__(
        self,
        features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        *,
        affine: bool = True,
        track_running_stats: bool = True,
        axis: int = 1,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        owner = "BatchNorm"
        self.features = _check.integer(owner, "features", features, low=1)
        affine = _check.boolean(owner, "affine", affine)
        super().__init__((self.features,), eps, ("weight", "bias") if affine else (), dtype)
        self.momentum = None if momentum is None else _check.number(owner, "momentum", momentum, low=0.0, high=1.0)
        self.axis = _check.integer(owner, "axis", axis)
        if _check.boolean(owner, "track_running_stats", track_running_stats):
            self.state = {
                "running_mean": np.zeros(self.features, self.dtype),
                "running_var": np.ones(self.features, self.dtype),
                "num_batches_tracked": np.zeros((), np.int64),
            }
        self.running_mean, self.running_var = self.state.get("running_mean"), self.state.get("running_var")
        self.num_batches_tracked = self.state.get("num_batches_tracked")
        self.frozen = False

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches: as they were at first."""
        for name, first in (("running_mean", 0), ("running_var", 1), ("num_batches_tracked", 0)):
            if name in self.state:
                self.state[name][...] = first

    def _fits(self, shape: tuple[int, ...]) -> bool:
        inside = len(shape) >= 2 and -len(shape) <= self.axis < len(shape)
        return inside and shape[self.axis] == self.features

    def _shape(self) -> str:
        return f"samples and {self.features} channels along axis {self.axis}"

    def _normalize(self, x: Array, y: Array, training: bool) -> norm.BatchSaved:
        batches, training = self.num_batches_tracked, training and not self.frozen
        # Reading the count waits for a GPU.
        seen = 0 if batches is None or self.momentum is not None else int(batches)
        _, saved = norm.batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            momentum=self.momentum,
            batches=seen,
            training=training or batches is None,
            eps=self.eps,
            axis=self.axis,
            out=y,
        )
        if training and batches is not None and x.size:
            batches += 1
        return saved

    def _differentiate(self, dy: Array, dx: Array) -> None:
        norm.batch_norm_backward(dy, self._saved, out=(dx, self._dweight, self._dbias))

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Write the parameters' gradients; return that of the input, or None without the pass for it."""
        if not input_grad and self.params:
            out = None, self._dweight, self._dbias
            differentiate("batch_norm_backward", dy, self._saved, out, input_grad=False)
            return None
        return super().backward(dy, input_grad)
