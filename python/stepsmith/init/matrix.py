"""Matrices with orthonormal rows or columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith.init._target import Array, check_rng, store, target
from stepsmith.init.scaled import fans

__all__ = ["orthogonal"]


def orthogonal(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    gain: float = 1.0,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Gain times a matrix whose shorter side is orthonormal, uniformly distributed among all such matrices.

    Q of the decomposition QR of a matrix of normal draws; Q's columns take the signs of R's diagonal, without which
    they would not be uniform. Its bits hold for one LAPACK.

    Args:
        shape: (out, in, ...); the axes after the first are taken together as columns.
        rng: Source of the draws.
        gain: Factor, at least 0.
        dtype: See `uniform`.
        out: Likewise.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.nn.init.orthogonal_``; Saxe, McClelland, Ganguli, "Exact solutions", 2014.

    Example:
        >>> q = orthogonal((3, 5), np.random.default_rng(0), dtype=np.float64)
        >>> np.allclose(q @ q.T, np.eye(3))
        True
    """
    gain = _check.number("orthogonal", "gain", gain, low=0.0)
    check_rng("orthogonal", rng)
    n_in, _ = fans(shape)
    result = target("orthogonal", shape, dtype, out)
    sides = result.shape[0], n_in
    q, r = np.linalg.qr(rng.standard_normal((max(sides), min(sides))))
    q *= gain * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return store(result, (q if sides[0] >= sides[1] else q.T).reshape(result.shape))
