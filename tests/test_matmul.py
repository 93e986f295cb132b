"""Products with quantized weights: near the exact ones, and the oracle's bits at any level, threads and batch."""

import re
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import LAYOUTS, Array, assert_same_bits, laid_out
from quant_cases import DTYPES
from reference_matmul import matmul_floats, matmul_integers
from stepsmith.quant import FP4, NF4, Affine, Scheme

FLOATS: list[Scheme] = [NF4(), NF4(256), FP4(32)]
INTEGERS: list[Scheme] = [
    Affine(),
    Affine(axis=0),
    Affine(axis=-2, scaling="full"),
    Affine(group_size=64),
    Affine(group_size=7),
    Affine(bits=4),
    Affine(bits=4, axis=0, scaling="full"),
    Affine(bits=4, group_size=64),
    Affine(bits=4, group_size=128),
    Affine(bits=4, group_size=32),
    Affine(bits=4, group_size=6),
]
SHAPES = (
    *((5, 64), (3, 1), (1, 200), (7, 63), (4, 65), (3, 127), (2, 513), (33, 300), (0, 5), (5, 0)),
    # Whole tiles: rows side by side, four or two and those that are left.
    *((7, 128), (6, 192), (9, 256), (11, 320), (5, 512)),
)


def weights(scheme: Scheme, shape: tuple[int, int]) -> ss.quant.QuantizedArray:
    w = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
    return ss.quant.quantize(w, scheme)


def inputs(batch: int, length: int) -> Array:
    x = np.random.default_rng(batch).standard_normal((batch, length)) * 2.0 ** np.arange(batch)[:, None]
    return x.astype(np.float32)


@pytest.mark.parametrize("scheme", [*FLOATS, *INTEGERS], ids=repr)
def test_floats_are_near_the_exact_product_and_the_oracles_bits(scheme: Scheme) -> None:
    for shape in SHAPES:
        q = weights(scheme, shape)
        for batch in (0, 1, 2, 3, 4, 5, 9):
            x = inputs(batch, shape[1])
            got = q.matmul(x)
            assert_same_bits(got, matmul_floats(q, x), f"{shape} {batch}")
            exact = x.astype(np.float64) @ q.dequantize().astype(np.float64).T
            size = np.abs(x).astype(np.float64) @ np.abs(q.dequantize()).astype(np.float64).T
            assert (np.abs(got - exact) <= 1e-6 * size).all()


@pytest.mark.parametrize("scheme", INTEGERS, ids=repr)
def test_integers_are_near_the_exact_product_and_the_oracles_bits(scheme: Scheme) -> None:
    for shape in SHAPES:
        q = weights(scheme, shape)
        for batch in (0, 1, 2, 3, 4, 5, 9):
            x = inputs(batch, shape[1])
            got = q.matmul(x, activations="int8")
            assert_same_bits(got, matmul_integers(q, x), f"{shape} {batch}")
            exact = x.astype(np.float64) @ q.dequantize().astype(np.float64).T
            size = np.abs(x).max(axis=1, keepdims=True, initial=0) * np.abs(q.dequantize()).sum(axis=1)
            assert (np.abs(got - exact) <= size / 253).all()


def test_activations_are_divided_by_their_scale_half_to_even() -> None:
    q = ss.quant.quantize(np.eye(128, dtype=np.float32), Affine())
    largest = np.random.default_rng(0).uniform(1, 2, (200, 1)).astype(np.float32)
    x = np.concatenate([(np.arange(127, dtype=np.float32) + np.float32(0.5)) * (largest / np.float32(127)), largest], 1)
    x[:100, :127] = np.nextafter(x[:100, :127], np.float32(0))
    assert_same_bits(q.matmul(x, activations="int8"), matmul_integers(q, x))


def test_sums_of_many_integers_are_exact() -> None:
    w = np.ones((1, 300_001), np.float32)
    q = ss.quant.quantize(w, Affine())
    got = q.matmul(w, activations="int8")
    assert_same_bits(
        got, (np.float32(127 * 127 * 300_001) * q.scales * (np.float32(1) / np.float32(127))).reshape(1, 1)
    )


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_layouts_dtypes_and_shapes_of_x_and_out(activations: str) -> None:
    q = weights(Affine(bits=4, axis=0), (33, 65))
    for dtype in DTYPES:
        x = (inputs(6, 65) * 1e-3).astype(dtype)
        want = q.matmul(x.astype(np.float32), activations=activations)
        for layout in LAYOUTS:
            assert_same_bits(q.matmul(laid_out(x, layout), activations=activations), want)
        assert_same_bits(q.matmul(x.reshape(2, 3, 65), activations=activations), want.reshape(2, 3, 33))
        assert_same_bits(q.matmul(x[2], activations=activations), want[2])
        assert_same_bits(q.matmul(np.broadcast_to(x[2], (4, 65)), activations=activations), np.stack([want[2]] * 4))
        for layout in LAYOUTS:
            out = laid_out(np.full((6, 33), 7, np.float32), layout)
            assert q.matmul(x, out=out, activations=activations) is out
            assert_same_bits(out, want)


def test_codes_may_begin_anywhere() -> None:
    q = weights(Affine(bits=4, group_size=32), (8, 96))
    codes = np.zeros(q.codes.size + 1, np.uint8)[1:].reshape(q.codes.shape)
    codes[...] = q.codes
    again = ss.quant.QuantizedArray(q.scheme, q.shape, {"codes": codes, "scales": q.scales})
    assert_same_bits(again.matmul(inputs(2, 96)), q.matmul(inputs(2, 96)))


def test_nan_and_infinity_spread_or_are_named() -> None:
    q, x = weights(Affine(axis=0), (3, 70)), inputs(2, 70)
    x[1, 69] = np.inf
    assert np.isfinite(q.matmul(x)[0]).all()
    assert not np.isfinite(q.matmul(x)[1]).any()
    out = np.full((2, 3), 7, np.float32)
    for bad in (np.nan, -np.inf):
        x[1, 69] = bad
        with pytest.raises(
            ValueError,
            match=re.escape("matmul: x must be finite to be quantized, got NaN or infinity at index [1, 69]"),
        ):
            q.matmul(x, out=out, activations="int8")
    assert (out == 7).all()


def test_bad_arguments_are_named() -> None:
    w, x = np.ones((4, 64), np.float32), np.ones((2, 64), np.float32)
    q = ss.quant.quantize(w, Affine(axis=0))
    bad: list[tuple[type[Exception], str, Any]] = [
        (
            ValueError,
            r"x must have shape (..., 64) for weights of shape (4, 64), got (2, 63)",
            lambda: q.matmul(x[:, 1:]),
        ),
        (ValueError, "x must have shape (..., 64)", lambda: q.matmul(np.ones((), np.float32))),
        (TypeError, "x must be float32, float64, bfloat16 or float16", lambda: q.matmul(np.ones((2, 64), int))),
        (TypeError, "x must be a NumPy array", lambda: q.matmul([1.0])),  # type: ignore[arg-type]
        (ValueError, "out must have shape (2, 4), got (4, 2)", lambda: q.matmul(x, out=np.ones((4, 2), np.float32))),
        (TypeError, "out must have dtype float32, got float64", lambda: q.matmul(x, out=np.ones((2, 4)))),
        (ValueError, "activations must be one of float32, int8, got 'int4'", lambda: q.matmul(x, activations="int4")),
        (ValueError, "out and x must not share memory", lambda: q.matmul(x, out=x[:, :4])),
        (TypeError, "q must be a QuantizedArray, got ndarray", lambda: ss.quant.matmul(w, x)),  # type: ignore[arg-type]
    ]
    read_only = np.ones((2, 4), np.float32)
    read_only.flags.writeable = False
    bad.append((ValueError, "out must be writable", lambda: q.matmul(x, out=read_only)))
    for scheme in (ss.quant.Dynamic8(), ss.quant.GGML("q8_0"), Affine(axis=1), Affine(symmetric=False), Affine(bits=6)):
        other = ss.quant.quantize(w, scheme)
        bad.append(
            (ValueError, "q must be quantized by NF4, FP4, or symmetric Affine", lambda other=other: other.matmul(x))
        )
    flat = ss.quant.quantize(w.reshape(-1), NF4())
    bad.append((ValueError, "q must have shape (outputs, inputs), got (256,)", lambda: flat.matmul(x)))
    nf4 = ss.quant.quantize(w, NF4())
    message = "activations must be 'float32' for weights by NF4"
    bad.append((ValueError, message, lambda: nf4.matmul(x, activations="int8")))
    for kind, message, call in bad:
        with pytest.raises(kind, match="matmul: .*" + re.escape(message)):
            call()
