"""Casts on a GPU have the CPU's bits, in every direction and layout."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from gpu_layouts import LAYOUTS, on_device
from helpers import Array
from test_cast import BF16, E4M3, E5M2, F16, F32, F64, LARGEST, PAIRS, assert_same, every

SLOW = 40_000
"""Elements of a quick run."""


def stored(x: Array) -> Array:
    """As CuPy has it: bytes of the 8-bit floats."""
    return x.view(np.uint8) if x.dtype in LARGEST else x


def given(dtype: np.dtype) -> dict[str, Any]:
    """What says what bytes are."""
    return {"x_dtype": dtype} if dtype in LARGEST else {}


def check(gpu: Any, x: Array, dtype: np.dtype, layout: str = "C", **options: Any) -> None:
    want = ss.cast(x, dtype, **options)
    out = on_device(gpu, stored(np.zeros(x.shape, dtype)), layout)
    y = ss.cast(on_device(gpu, stored(x), layout), dtype, out=out, **given(x.dtype), **options)
    assert y is out
    assert_same(y.get().view(dtype), want, (x.dtype, dtype, layout, options))


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("dtypes", PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_every_direction(gpu: Any, dtypes: tuple[np.dtype, np.dtype]) -> None:
    x = every(dtypes[0])
    for part in (x[: SLOW // 4], x[-3 * SLOW // 4 :]):
        check(gpu, part, dtypes[1])
        if dtypes[1] in LARGEST:
            check(gpu, part, dtypes[1], saturate=False)


@pytest.mark.slow
@pytest.mark.parametrize("dtypes", PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_every_number(gpu: Any, dtypes: tuple[np.dtype, np.dtype]) -> None:
    check(gpu, every(dtypes[0]), dtypes[1])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtypes", [(E4M3, F32), (F64, E5M2), (E5M2, E4M3), (BF16, F16), (F32, BF16), (F64, F64)])
def test_layouts_and_shapes_change_nothing(gpu: Any, dtypes: tuple[np.dtype, np.dtype], layout: str) -> None:
    for shape in ((), (0,), (2, 0, 3), (1,), (13, 11), (3, 5, 7)):
        x = np.asarray(np.random.default_rng(1).standard_normal(shape) * 30, np.float32).astype(dtypes[0])
        check(gpu, x, dtypes[1], layout)


def test_a_new_array_is_where_its_source_is(gpu: Any) -> None:
    x = gpu.asarray(np.array([0.3, -1000.0], np.float32))
    y = ss.cast(x, ml_dtypes.float8_e4m3fn)
    assert (type(y), y.dtype) == (gpu.ndarray, np.uint8)
    assert ss.cast(y, np.float32, x_dtype=E4M3).get().tolist() == [0.3125, -448.0]
    assert ss.cast(y, E4M3, x_dtype=E4M3).get().tolist() == y.get().tolist()
    assert ss.cast(y.get(), np.float32, x_dtype=E4M3).tolist() == [0.3125, -448.0]


@pytest.mark.parametrize("dtypes", [(E4M3, E5M2), (BF16, F16), (F16, BF16)])
def test_out_may_take_the_place_of_x(gpu: Any, dtypes: tuple[np.dtype, np.dtype]) -> None:
    x = np.random.default_rng(2).standard_normal((30, 31)).astype(np.float32).astype(dtypes[0])
    want, there = ss.cast(x, dtypes[1]), gpu.asarray(stored(x))
    out = there if dtypes[0] in LARGEST else there.view(dtypes[1])
    assert_same(ss.cast(there, dtypes[1], out=out, **given(dtypes[0])).get().view(dtypes[1]), want)


def test_what_is_refused_is_named_and_nothing_is_written(gpu: Any) -> None:
    x, codes = gpu.ones((4, 4), np.float32), gpu.zeros(10, np.uint8)
    with pytest.raises(TypeError, match=r"x must be float32.*got uint8"):
        ss.cast(codes, F32)
    with pytest.raises(TypeError, match="x_dtype must be float8_e4m3fn or float8_e5m2, got float16"):
        ss.cast(codes, F32, x_dtype=F16)
    with pytest.raises(TypeError, match="x must be uint8, the bytes of float8_e5m2, got float32"):
        ss.cast(x, F32, x_dtype=E5M2)
    with pytest.raises(TypeError, match="out must have dtype uint8, got float32"):
        ss.cast(x, E4M3, out=x)
    with pytest.raises(TypeError, match="out must be an array of CuPy"):
        ss.cast(x, BF16, out=np.zeros((4, 4), BF16))
    for first, second, dtype in ((codes[1:], codes[:-1], E5M2), (x, x.view(BF16).reshape(-1)[:16].reshape(4, 4), BF16)):
        with pytest.raises(ValueError, match="x and out must not share elements"):
            ss.cast(first, dtype, out=second, **({"x_dtype": E4M3} if dtype == E5M2 else {}))
    with pytest.raises(ValueError, match="out must not repeat elements"):
        ss.cast(x, BF16, out=gpu.broadcast_to(gpu.zeros(1, BF16), (4, 4)))
    assert (x.get() == 1).all()
