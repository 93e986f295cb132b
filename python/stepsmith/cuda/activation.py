"""Activations on a GPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepsmith import _core
from stepsmith.cuda._call import check_lengths, dense, is_wide, taken
from stepsmith.cuda._channel_sums import Shape, launch_pass, line_of

__all__ = ["KINDS", "activate"]

KINDS = (
    "gelu",
    "gelu_tanh",
    "silu",
    "sigmoid",
    "tanh",
    "softplus",
    "hardtanh",
    "softsign",
    "relu",
    "leaky_relu",
    "elu",
)
"""``enum Kind`` of kernels/activation.cuh."""

ACTIVATION = np.dtype([("scalars", np.float64, 3), ("kind", np.int32), ("is_backward", np.int32)])


def activate(
    owner: str,
    kind: str,
    scalars: Sequence[float],
    out: Any,
    read: tuple[Any, Any | None, Any | None],
    dbias: Any,
    shape: Shape,
) -> None:
    """As `_core.activate`."""
    if kind not in KINDS:
        raise ValueError(f"kind must be the name of an activation, got '{kind}'")
    x, bias, dy = read
    size = shape[0] * shape[1] * shape[2]
    arrays = taken(owner, {"out": out}, {"x": x, "bias": bias, "dy": dy})
    check_lengths(size, {"x": x, "dy": dy, "out": out})
    check_lengths(shape[1], {"bias": bias, "dbias": dbias if dbias.size else None})
    check_lengths(len(_core.ACTIVATIONS[kind]), {"scalars": np.asarray(scalars)})
    if size == 0:
        return
    line = line_of(shape if bias is not None else (1, 1, size))
    activation = np.zeros((), ACTIVATION)
    activation["scalars"][: len(scalars)] = scalars
    activation["kind"], activation["is_backward"] = KINDS.index(kind), dy is not None
    head = arrays["out"], arrays["x"], arrays["dy"], dense(bias), line, activation
    launch_pass("activation", "activate", "f64" if is_wide(x) else "f32", head, line, size, dbias)
