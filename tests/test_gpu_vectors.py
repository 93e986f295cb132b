"""Functions over lists of CuPy arrays, and what is built on them: bits, errors and waits as the CPU's."""

import math

import ml_dtypes
import numpy as np
import pytest

import gpu_shim
import stepsmith as ss
from gpu_rows import on_gpu
from gpu_shim import standin
from helpers import assert_same_bits, laid_out, values
from reference_storage import BFLOAT16, DTYPES, encode
from stepsmith import _core

KINDS = ("sum", "sum_abs", "sum_squares", "max_abs")
SHAPES = ((0,), (1,), (127,), (128,), (43, 3), (4095,), (4096,), (17, 241), (12289,), (), (3, 0), (5, 7, 11))
LAYOUTS = ("C", "F", "strided", "negative", "offset")
MIXES = {"f32": ("f32",), "f64": ("f64",), "mixed": ("f16", "f64", "bf16", "f32")}


def arrays_of(mix, layout="C", seed=1, shapes=SHAPES):
    rng, dtypes = np.random.default_rng(seed), MIXES[mix]
    drawn = (encode(values(rng, shape, np.float64), DTYPES[dtypes[k % len(dtypes)]]) for k, shape in enumerate(shapes))
    return [laid_out(x, layout) for x in drawn]


def names_of(arrays):
    return [f"x[{k}]" for k in range(len(arrays))]


def here_and_there(gpu, arrays):
    return arrays, [on_gpu(gpu, array) for array in arrays]


def assert_all_same(got, want):
    for k, (there, here) in enumerate(zip(got, want)):
        assert_same_bits(there.get(), here, f"array {k} of shape {here.shape}")


@pytest.fixture
def cuda(gpu):  # noqa: ARG001 - CuPy or its stand-in must be there first
    import stepsmith.cuda

    return stepsmith.cuda


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_and_products_have_the_bits_of_the_cpu(gpu, cuda, mix, layout):
    here, there = here_and_there(gpu, arrays_of(mix, layout))
    others, others_there = here_and_there(gpu, arrays_of("mixed", "C", seed=2))
    names = names_of(here)
    for kind in KINDS:
        want = _core.reduce("f", names, here, kind)
        assert want != 0.0
        assert cuda.reduce("f", names, there, kind) == want
    assert cuda.dot("f", names, there, others_there) == _core.dot("f", names, here, others)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_largest_magnitude_that_is_no_number(gpu, cuda, dtype, value):
    for n in (1, 129, 4097):
        for place in {0, n // 2, n - 1}:
            x = encode(values(np.random.default_rng(3), n, np.float64), DTYPES[dtype])
            x[place] = value
            found = cuda.reduce("f", ["x"], [gpu.asarray(x)], "max_abs")
            assert math.isnan(found) if math.isnan(value) else found == math.inf


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function", ["scale", "clamp", "axpy", "assign"])
def test_changes_in_place_have_the_bits_of_the_cpu(gpu, cuda, mix, layout, function):
    here, there = here_and_there(gpu, arrays_of(mix, layout))
    here[8][[0, -1]] = np.nan
    there[8][...] = on_gpu(gpu, here[8])
    names, rest, rest_there = names_of(here), (0.37,), (0.37,)
    before = [array.copy() for array in here]
    if function in ("axpy", "assign"):
        others, others_there = here_and_there(gpu, arrays_of("mixed", "F" if layout == "C" else "C", seed=2))
        rest, rest_there = (-1.7, others), (-1.7, others_there)
    getattr(_core, function)("f", names, here, *rest)
    getattr(cuda, function)("f", names, there, *rest_there)
    assert any((old != new).any() for old, new in zip(before, here))
    assert_all_same(there, here)


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("state", ["f32", "bf16"])
def test_arrays_move_towards_others_and_their_shadows_follow(gpu, cuda, layout, state):
    here, there = here_and_there(gpu, arrays_of("mixed", layout))
    ends = [
        array.astype(np.float64 if array.dtype == np.float64 else DTYPES[state]) for array in arrays_of("mixed", seed=2)
    ]
    shadows = [encode(array, BFLOAT16) if k % 2 else None for k, array in enumerate(here)]
    shadows_there = [None if shadow is None else on_gpu(gpu, shadow) for shadow in shadows]
    names, weights = names_of(here), [0.1 * k for k in range(len(here))]
    ends_there = [on_gpu(gpu, end) for end in ends]
    _core.lerp("f", names, here, ends, shadows, weights)
    cuda.lerp("f", names, there, ends_there, shadows_there, weights)
    assert_all_same(there, here)
    assert_all_same(ends_there, ends)
    assert_all_same([x for x in shadows_there if x is not None], [x for x in shadows if x is not None])


def test_the_rows_of_the_same_arrays_are_made_once(gpu, cuda):
    from stepsmith.cuda.optim import lists

    x = [gpu.asarray(array) for array in arrays_of("mixed")]
    lists._rows.cache_clear()
    first = cuda.reduce("f", names_of(x), x, "sum")
    x[8] += 1
    assert cuda.reduce("f", names_of(x), x, "sum") != first
    assert lists._rows.cache_info().hits == 1
    x[8] = x[8][::2]
    cuda.reduce("f", names_of(x), x, "sum")
    assert lists._rows.cache_info().misses == 2
    with gpu.cuda.Stream():
        cuda.reduce("f", names_of(x), x, "sum")
    assert lists._rows.cache_info().misses == 3


# Gradients.


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("part", [0.3, 2.0])
def test_clipping_by_norm_has_the_bits_of_the_cpu(gpu, mix, norm_type, part):
    here, there = here_and_there(gpu, arrays_of(mix, "strided"))
    norm = ss.grad_norm([*here, None], norm_type)
    assert ss.grad_norm([*there, None], norm_type) == norm
    before = standin.syncs()
    found = ss.clip_grad_norm(dict(enumerate(there)), part * norm, norm_type)
    assert standin.syncs() == before or gpu_shim.has_gpu()
    assert ss.clip_grad_norm(here, part * norm, norm_type) == norm
    assert (type(found), found.shape, found.dtype, float(found)) == (gpu.ndarray, (), np.float64, norm)
    assert_all_same(there, here)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_is_said_or_spreads(gpu, value):
    grads = [np.array([1.0, value], np.float32), np.array([1.0])]
    there = [gpu.asarray(grad) for grad in grads]
    with pytest.raises(ss.NonFiniteError, match=rf"^clip_grad_norm: the norm of grads must be finite, got {value}$"):
        ss.clip_grad_norm(there, 1.0, error_if_nonfinite=True)
    assert_all_same(there, grads)
    assert ss.clip_grad_norm(there, 1.0, error_if_nonfinite=False).get() == pytest.approx(value, nan_ok=True)
    ss.clip_grad_norm(grads, 1.0)
    assert_all_same(there, grads)
    huge = [gpu.asarray(np.array([1e300, 1e300]))]
    assert (ss.grad_norm(huge), ss.grad_norm(huge, math.inf)) == (math.inf, 1e300)


def test_clipping_by_value_has_the_bits_of_the_cpu(gpu):
    here, there = here_and_there(gpu, arrays_of("mixed"))
    ss.clip_grad_value(here, 0.3)
    ss.clip_grad_value({str(k): grad for k, grad in enumerate(there)}, 0.3)
    assert_all_same(there, here)


def test_nothing_to_clip(gpu):
    empty = gpu.zeros((0, 3), np.float32)
    assert ss.grad_norm([empty]) == 0.0
    assert float(ss.clip_grad_norm([None, empty], 1.0)) == 0.0
    ss.clip_grad_value([empty], 1.0)


def bad_calls(gpu, cuda):
    x, y = gpu.ones(6, np.float32), np.ones(6, np.float32)
    whole = gpu.ones((3, 4), np.float32)
    repeated = gpu.ndarray((3, 3), np.float32, x.data, (4, 4))
    odd = gpu.ndarray((2,), np.float32, gpu.zeros(16, np.uint8).data + 1)
    return [
        (lambda: ss.grad_norm([x, y]), TypeError, "grad_norm: arrays must be all NumPy's or all CuPy's"),
        (lambda: ss.clip_grad_norm([x, y], 1.0), TypeError, "grads['0'] of CuPy and grads['1'] of NumPy"),
        (lambda: ss.grad_norm([x], 3.0), ValueError, "grad_norm: norm_type must be 1, 2 or inf, got 3.0"),
        (lambda: ss.clip_grad_norm([x], 1.0, 3.0), ValueError, "clip_grad_norm: norm_type must be 1, 2 or inf"),
        (lambda: ss.clip_grad_norm([x], -1.0), ValueError, "clip_grad_norm: max_norm must be finite and at least 0"),
        (lambda: ss.grad_norm(x), TypeError, "grad_norm: grads must be a mapping by name or a sequence of arrays"),
        (lambda: ss.grad_norm([x > 0]), TypeError, "grads['0'] must be float32, float64, bfloat16 or float16"),
        (lambda: ss.grad_norm([odd]), ValueError, "grad_norm: grads['0'] must be aligned to its elements"),
        (
            lambda: ss.clip_grad_norm([x[:4], x[3:]], 1.0),
            ValueError,
            "grads['0'] and grads['1'] must not share elements",
        ),
        (lambda: ss.clip_grad_value([repeated], 1.0), ValueError, "grads['0'] must not repeat elements"),
        (lambda: cuda.reduce("f", ["x"], [x], "mean"), ValueError, "sum, sum_abs, sum_squares, max_abs, got 'mean'"),
        (lambda: cuda.scale("f", ["x"], [y], 1.0), TypeError, "f: x must be an array of CuPy, got numpy.ndarray"),
        (lambda: cuda.axpy("f", ["x"], [x], 1.0, [y]), TypeError, "f: x must be an array of CuPy, got numpy.ndarray"),
        (lambda: cuda.axpy("f", ["x"], [x], 1.0, [x[:5]]), ValueError, "f: x must have shape (6,), got (5,)"),
        (lambda: cuda.axpy("f", ["x"], [x], 1.0, []), ValueError, "f: arrays must have 1 entries, got 0"),
        (lambda: cuda.dot("f", ["x"], [x], [whole]), ValueError, "f: x must have shape (6,), got (3, 4)"),
        (lambda: cuda.assign("f", ["x"], [x[:5]], 1.0, [x[1:]]), ValueError, "f: x and x must not share elements"),
        (lambda: cuda.lerp("f", ["x"], [x], [x * 1], [None], []), ValueError, "weights must have 1 entries, got 0"),
        (
            lambda: cuda.lerp("f", ["x"], [x], [whole], [None], [1]),
            ValueError,
            "state of x must have shape (6,), got (3",
        ),
        (lambda: cuda.lerp("f", ["x"], [x], [x], [None], [1]), ValueError, "x and state of x must not share elements"),
        (
            lambda: cuda.lerp("f", ["x"], [x], [x * 1.0], [x * 2], [1]),
            TypeError,
            "shadow of x must be bfloat16 or float16",
        ),
        (
            lambda: cuda.lerp("f", ["x"], [x], [x.astype(np.float64)], [None], [1]),
            TypeError,
            "must be float32 or bfloat16",
        ),
    ]


@pytest.mark.parametrize("k", range(22))
def test_bad_arguments_are_named_and_nothing_is_written(gpu, cuda, k):
    calls = bad_calls(gpu, cuda)
    assert len(calls) == 22
    call, kind, message = calls[k]
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert message in str(caught.value)


# What is built on them.


def closure_of(xp, params):
    def closure():
        a, b = params
        loss = ((a - 1) ** 4).sum() + xp.float64(((b * b - 2) ** 2).sum())
        return loss, [4 * (a - 1) ** 3, None if closure.calls == 3 else (4 * b * (b * b - 2)).astype(np.float32)]

    closure.calls = 0
    return closure


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_steps_as_on_the_cpu(gpu, search):
    rng = np.random.default_rng(9)
    start = [rng.standard_normal(300).astype(np.float32), np.asfortranarray(rng.standard_normal((5, 7)))]
    params = [start[0].copy(), start[1].copy(order="K")]
    params_there = [on_gpu(gpu, x) for x in start]
    here = ss.optim.LBFGS(params, line_search_fn=search, max_iter=4, lr=0.5, history_size=3)
    there = ss.optim.LBFGS(params_there, line_search_fn=search, max_iter=4, lr=0.5, history_size=3)
    for _ in range(3):
        assert there.step(closure_of(gpu, params_there)) == here.step(closure_of(np, params))
        assert_all_same(params_there, params)
    moved = here.to("cuda")
    assert (here.device, moved.device) == ("cpu", "cuda:0")
    for one, other in ((there.state_dict(), here.state_dict()), (moved.to("cpu").state_dict(), here.state_dict())):
        assert one["memory"] == other["memory"]
        for name, row in other["state"].items():
            for slot, x in row.items():
                assert_same_bits(one["state"][name][slot], x)
    assert moved.step(closure_of(gpu, list(moved.params.values()))) == here.step(closure_of(np, params))
    assert_all_same(list(moved.params.values()), params)


def test_lbfgs_refuses_what_is_not_finite_and_restores(gpu):
    w = gpu.asarray(np.array([3.0, 4.0]))
    opt = ss.optim.LBFGS({"w": w})
    with pytest.raises(ss.NonFiniteError, match=r"grads\['w'\] must be finite, got nan at index \[1\]"):
        opt.step(lambda: (1.0, {"w": gpu.asarray(np.array([1.0, np.nan]))}))
    with pytest.raises(ZeroDivisionError):
        opt.step(lambda: (w.fill(7.0), 1 / 0))
    assert w.get().tolist() == [3.0, 4.0]
    with pytest.raises(TypeError, match=r"LBFGS: grads\['w'\] must be an array of CuPy, got numpy.ndarray"):
        opt.step(lambda: (1.0, {"w": np.ones(2)}))


def test_scipy_s_methods_are_for_the_cpu(gpu):
    message = r"params\['w'\] must be a NumPy array, since SciPy works on these, got one of CuPy"
    with pytest.raises(TypeError, match=f"^ScipyMinimizer: {message}"):
        ss.optim.ScipyMinimizer({"w": gpu.ones(2)})
    pytest.importorskip("scipy")
    with pytest.raises(TypeError, match=f"^minimize: {message}"):
        ss.optim.minimize(lambda w: (0.0, w), {"w": gpu.ones(2)})


@pytest.mark.parametrize("options", [{}, {"state_dtype": "bfloat16", "master": True}])
def test_schedule_free_averages_as_on_the_cpu(gpu, options):
    rng = np.random.default_rng(10)
    start = {"a": values(rng, (9, 5), np.float32), "b": values(rng, 300, ml_dtypes.bfloat16)}
    grads = [{name: values(rng, x.shape, np.float32) for name, x in start.items()} for _ in range(3)]
    params, params_there = ({name: make(x.copy()) for name, x in start.items()} for make in (np.asarray, gpu.asarray))
    settings = {"lr": 0.1, "warmup_steps": 2, **options}
    here, there = (ss.optim.ScheduleFreeAdamW(own, **settings) for own in (params, params_there))
    for step in grads:
        here.step(step)
        there.step({name: gpu.asarray(grad) for name, grad in step.items()})
        for name, want in here.averaged().items():
            assert_same_bits(there.averaged()[name].get(), want, name)
    for change in ("eval", "train"):
        getattr(here, change)()
        getattr(there, change)()
        assert_all_same(params_there.values(), params.values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 9), (12, 4), (1, 6)])
def test_a_matrix_is_made_orthogonal_on_the_device(gpu, dtype, shape):
    from stepsmith.optim.muon import orthogonalized

    update = np.random.default_rng(11).standard_normal(shape).astype(dtype)
    want, before = orthogonalized(update), standin.syncs()
    got = orthogonalized(gpu.asarray(update))
    assert standin.syncs() == before or gpu_shim.has_gpu()
    np.testing.assert_allclose(got.get(), want, rtol=0, atol=1e-5 if dtype is np.float32 else 1e-12)
