"""Fake quantization on a GPU."""

from typing import Any

import numpy as np

from stepsmith.cuda._call import check_lengths, is_wide, taken
from stepsmith.cuda._channel_sums import Shape, launch_pass, line_of

__all__ = ["fake_quantize"]

SETTINGS = np.dtype(
    [("qmin", np.float64), ("qmax", np.float64), ("is_reciprocal", np.int32), ("is_backward", np.int32)]
)
"""``struct FakeSettings`` of kernels/fake.cuh."""


def fake_quantize(
    owner: str,
    out: Any,
    read: tuple[Any, Any | None],
    scales: Any,
    zero_points: Any,
    dscales: Any,
    bounds: tuple[float, float, bool],
    shape: Shape,
) -> None:
    """As `_core.fake_quantize`."""
    x, dy = read
    size = shape[0] * shape[1] * shape[2]
    arrays = taken(owner, {"out": out}, {"x": x, "dy": dy})
    check_lengths(size, {"x": x, "dy": dy, "out": out})
    check_lengths(shape[1], {"scale": scales, "zero_point": zero_points, "dscale": None if dy is None else dscales})
    if size == 0:
        return
    line, settings = line_of(shape), np.array((*bounds, dy is not None), SETTINGS)
    head = arrays["out"], arrays["x"], arrays["dy"], scales, zero_points, line, settings
    launch_pass("fake", "fake_quantize", "f64" if is_wide(x) else "f32", head, line, size, dscales)
