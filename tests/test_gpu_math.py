"""Functions of the kernels against the oracle's bits, on the stand-in."""

import numpy as np
import pytest

import gpu_shim
import reference_math as ref
from helpers import assert_same_bits
from reference_random import uniform

NAMES = {
    "exp": "exponential",
    "expm1": "exponential_less_one",
    "log": "logarithm",
    "log1p": "logarithm_of_one_plus",
    "tanh": "hyperbolic_tangent",
    "erf": "error_function",
    "sigmoid": "sigmoid",
}


def probe():
    """A kernel for each function and type, over the project's own text."""
    text = ""
    for name, function in NAMES.items():
        for dtype in ("float", "double"):
            text += (
                f"KERNEL({name}_{dtype})(const {dtype} *x, {dtype} *y, u64 n) {{"
                f" u64 i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = {function}<{dtype}>(x[i]); }}\n"
            )
    return gpu_shim.probe("math.cuh", text=text)


def arguments(dtype):
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    near = rng.uniform(-20, 20, 3000)
    wide = rng.choice([-1, 1], 3000) * 2.0 ** rng.uniform(info.minexp - 20, 10, 3000)
    ends = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        info.tiny,
        -info.tiny,
        info.smallest_subnormal,
        1,
        -1,
        info.max,
        -info.max,
        89,
        -104,
    ]
    return np.concatenate([near, wide, ends]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_function_has_the_bits_of_the_oracle(gpu, dtype):
    x, module = arguments(dtype), probe()
    for name in NAMES:
        y = gpu.empty(x.size, dtype)
        kernel = module.get_function(f"{name}_{'float' if dtype is np.float32 else 'double'}")
        kernel((-(-x.size // 256),), (256,), (gpu.asarray(x), y, np.uint64(x.size)))
        assert_same_bits(y.get(), getattr(ref, name)(x), name)


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("start", [0, 1, 2, 3, 2**34 + 5])
def test_uniform_numbers_are_those_of_the_cpu(gpu, start):
    import stepsmith.cuda

    out = gpu.empty((3, 337), np.float32)
    stepsmith.cuda.uniform(out, 2**40 + 7, 5, 9, start)
    assert_same_bits(out.get().ravel(), uniform(out.size, 2**40 + 7, 5, 9, start))
    wide = gpu.empty((50, 20), np.float32)
    stepsmith.cuda.uniform(wide[:, ::2], 1, 2, 3, start)
    assert_same_bits(wide.get()[:, ::2].ravel(), uniform(500, 1, 2, 3, start))
