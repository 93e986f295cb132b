"""Products with quantized weights on a GPU have the CPU's bits."""

import re
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from gpu_layouts import LAYOUTS, on_device
from helpers import assert_same_bits
from quant_cases import DTYPES
from stepsmith.quant import Affine
from test_matmul import FLOATS, INTEGERS, SHAPES, inputs, weights

QUICK = ((5, 64), (3, 1), (7, 63), (2, 513), (0, 5), (5, 0))


def shapes() -> list[Any]:
    return [shape if shape in QUICK else pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES]


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("shape", shapes(), ids=str)
@pytest.mark.parametrize("scheme", [*FLOATS, *INTEGERS], ids=repr)
def test_products_are_the_cpus(gpu: Any, scheme: Any, shape: tuple[int, int]) -> None:
    want = weights(scheme, shape)
    got = want.to("cuda")
    for batch in (0, 1, 3, 5):
        x = inputs(batch, shape[1])
        for activations in ("float32", "int8") if scheme in INTEGERS else ("float32",):
            product = got.matmul(gpu.asarray(x), activations=activations)
            assert_same_bits(product.get(), want.matmul(x, activations=activations), f"{batch} {activations}")


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_layouts_dtypes_and_shapes_of_x_and_out(gpu: Any, activations: str) -> None:
    on_host = weights(Affine(bits=4, axis=0), (33, 65))
    q = on_host.to("cuda")
    for dtype in DTYPES:
        x = (inputs(6, 65) * 1e-3).astype(dtype)
        want = on_host.matmul(x, activations=activations)
        for layout in LAYOUTS:
            out = on_device(gpu, np.full((6, 33), 7, np.float32), layout)
            assert q.matmul(on_device(gpu, x, layout), out=out, activations=activations) is out
            assert_same_bits(out.get(), want)
        assert_same_bits(
            q.matmul(gpu.asarray(x.reshape(2, 3, 65)), activations=activations).get(), want.reshape(2, 3, 33)
        )
        assert_same_bits(q.matmul(gpu.asarray(x[2]), activations=activations).get(), want[2])


def test_sums_of_many_integers_are_exact(gpu: Any) -> None:
    w = np.ones((1, 40_001), np.float32)
    q = ss.quant.quantize(w, Affine())
    assert_same_bits(q.to("cuda").matmul(gpu.asarray(w), activations="int8").get(), q.matmul(w, activations="int8"))


def test_rows_without_a_normal_scale(gpu: Any) -> None:
    q, x = weights(Affine(axis=0), (3, 70)), inputs(3, 70)
    x[0], x[1] = 0, x[1] * np.float32(1e-42)
    assert_same_bits(q.to("cuda").matmul(gpu.asarray(x), activations="int8").get(), q.matmul(x, activations="int8"))


def test_what_is_not_finite_is_named_before_anything_is_written(gpu: Any) -> None:
    q, x = weights(Affine(axis=0), (3, 70)).to("cuda"), inputs(2, 70)
    out = gpu.full((2, 3), 7, np.float32)
    for bad in (np.nan, -np.inf):
        x[1, 68:] = bad
        message = "matmul: x must be finite to be quantized, got NaN or infinity at index [1, 68]"
        with pytest.raises(ValueError, match=re.escape(message)):
            q.matmul(gpu.asarray(x), out=out, activations="int8")
    assert (out.get() == 7).all()
    room = gpu.ones((3, 70), np.float32)
    with pytest.raises(ValueError, match="out and x must not share memory"):
        q.matmul(room, out=room[:, :3])
