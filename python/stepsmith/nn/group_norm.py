"""Layers that normalize groups of channels of a sample, or each channel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stepsmith import _check, norm
from stepsmith.nn.buffer import Array
from stepsmith.nn.norm import Norm, names

__all__ = ["GroupNorm", "InstanceNorm"]


class GroupNorm(Norm):
    """Normalizes each group of channels of a sample; as ``torch.nn.GroupNorm``, see `stepsmith.norm.group_norm`.

    Args:
        groups: Number of groups, which divides that of the channels.
        channels: Length of the input's axis 1.
        eps: Added to the variance, at least 0.
        affine: Whether there are parameters, one a channel.
        bias: Whether there is a bias among them.
        dtype: float32 or float64, of the parameters; see `Norm`.

    Raises:
        TypeError: Another dtype.
        ValueError: Numbers below 1, groups that do not divide the channels, or a negative `eps`.

    Example:
        >>> GroupNorm(1, 2, eps=0.0)(np.array([[[1.0], [3.0]]], np.float32)).tolist()
        [[[-1.0], [1.0]]]
    """

    def __init__(
        self,
        groups: int,
        channels: int,
        eps: float = 1e-5,
        *,
        affine: bool = True,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        owner = type(self).__name__
        self.channels = _check.integer(owner, "channels", channels, low=1)
        self.groups = _check.integer(owner, "groups", groups, low=1)
        if self.channels % self.groups:
            raise ValueError(f"{owner}: groups must divide the {self.channels} channels, got {self.groups}")
        super().__init__((self.channels,), eps, names(owner, affine, bias), dtype)

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return shape[1:2] == (self.channels,)

    def _shape(self) -> str:
        return f"shape (samples, {self.channels}, ...)"

    def _normalize(self, x: Array, y: Array, training: bool) -> norm.Saved:
        return norm.group_norm(x, self.weight, self.bias, groups=self.groups, eps=self.eps, out=y)[1]

    def _differentiate(self, dy: Array, dx: Array) -> None:
        norm.group_norm_backward(dy, self._saved, out=(dx, self._dweight, self._dbias))


class InstanceNorm(GroupNorm):
    """`GroupNorm` with a group for each channel; as ``torch.nn.InstanceNorm1d`` to ``3d``, without running statistics.

    Args:
        channels: Length of the input's axis 1.
        eps: Added to the variance, at least 0.
        affine: Whether there are parameters, one a channel; none by default, as in PyTorch.
        bias: Whether there is a bias among them.
        dtype: float32 or float64, of the parameters; see `Norm`.

    Raises:
        TypeError: Another dtype.
        ValueError: Channels below 1, or a negative `eps`.

    Example:
        >>> InstanceNorm(1, eps=0.0)(np.array([[[1.0, 3.0]]], np.float32)).tolist()
        [[[-1.0, 1.0]]]
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        *,
        affine: bool = False,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__(channels, channels, eps, affine=affine, bias=bias, dtype=dtype)
