"""Layouts that must work do, bit for bit; the others are refused by name before anything is written."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import stepsmith as ss
from battery import CONFIGS
from helpers import assert_same_bits, different, misaligned, offset, values
from reference import Reference
from reference_storage import DTYPES

SHAPE = (13, 6, 37)
RNG = np.random.default_rng(29)


def like(array: np.ndarray, view: np.ndarray) -> np.ndarray:
    """The view, which must have the array's shape, with the array's elements."""
    assert view.shape == array.shape
    view[...] = array
    return view


def empty(array: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    return np.zeros(tuple(n * k for n, k in zip(array.shape, factors)), array.dtype)


LAYOUTS = {
    "contiguous": np.copy,
    "fortran": np.asfortranarray,
    "transposed": lambda x: like(x, np.zeros(np.array(x.shape)[[1, 2, 0]], x.dtype).transpose(2, 0, 1)),
    "transposed-other": lambda x: like(x, np.zeros(np.array(x.shape)[[1, 0, 2]], x.dtype).transpose(1, 0, 2)),
    "strided": lambda x: like(x, empty(x, (2, 1, 3))[::2, :, ::3]),
    "strided-rows": lambda x: like(x, empty(x, (3, 1, 1))[::3]),
    "gap": lambda x: like(x, empty(x, (1, 1, 2))[:, :, : x.shape[2]]),
    "negative": lambda x: like(x, empty(x, (1, 1, 1))[::-1, ::-1, ::-1]),
    "negative-middle": lambda x: like(x, empty(x, (1, 1, 2))[:, ::-1, ::-2]),
    "offset": offset,
    "misaligned": misaligned,
    "misaligned-fortran": lambda x: misaligned(x.T).T,
    "misaligned-strided": lambda x: like(x, misaligned(empty(x, (1, 2, 1)))[:, ::2]),
}


def step_both(params, grads, config="adamw", state_dtype="float32", steps=2):
    """The optimizer on the arrays as they are, the oracle on contiguous copies; both must end the same."""
    rule, hyperparameters = CONFIGS[config]
    reference = Reference(
        rule, {name: np.array(x, order="C") for name, x in params.items()}, state_dtype, **hyperparameters
    )
    start = {name: np.array(x) for name, x in params.items()}
    optimizer = ss.optim.REGISTRY[rule](params, state_dtype=state_dtype, on_nonfinite="propagate", **hyperparameters)
    for _ in range(steps):
        optimizer.step(grads)
        reference.step(grads)
    for name, param in params.items():
        assert_same_bits(param, reference.params[name], name)
        for slot, array in optimizer.state[name].items():
            assert_same_bits(array, reference.state[name][slot], f"{name} {slot}")
        assert param.size < 32 or different(param, start[name]).size > 0
    return optimizer


@pytest.mark.parametrize("grad_layout", LAYOUTS)
@pytest.mark.parametrize("param_layout", LAYOUTS)
def test_every_pair_of_layouts_equals_the_oracle(param_layout, grad_layout) -> None:
    params, grads = {}, {}
    for p, g in zip(DTYPES, ("f64", "bf16", "f16", "f32")):
        params[p] = LAYOUTS[param_layout](values(RNG, SHAPE, DTYPES[p]))
        grads[p] = LAYOUTS[grad_layout](values(RNG, SHAPE, DTYPES[g]))
    step_both(params, grads)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_arrays_of_every_layout_step_in_parallel(layout) -> None:
    x, g = values(RNG, (41, 26, 97), np.float32), values(RNG, (41, 26, 97), np.float32)
    with ss.threads(3):
        step_both({"w": LAYOUTS[layout](x)}, {"w": LAYOUTS[layout](g)}, "adam-amsgrad")
        step_both({"w": LAYOUTS[layout](x)}, {"w": g}, "sgd-momentum")
        assert ss._core.info()["last_threads"] == 3


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("config", CONFIGS)
def test_a_non_contiguous_gradient_equals_its_copy(config, layout) -> None:
    rule, hyperparameters = CONFIGS[config]
    x, g = values(RNG, SHAPE, np.float32), values(RNG, SHAPE, np.float32)
    results = []
    for grad in (LAYOUTS[layout](g), g.copy()):
        param = x.copy()
        ss.optim.REGISTRY[rule]([param], max_norm=0.5, **hyperparameters).step([grad])
        results.append(param)
    assert different(results[0], x).size > 0
    assert_same_bits(*results)


def test_state_is_laid_out_like_its_parameter() -> None:
    for layout in ("contiguous", "fortran", "transposed", "transposed-other"):
        param = LAYOUTS[layout](values(RNG, SHAPE, np.float32))
        optimizer = ss.optim.AdamW({"w": param})
        assert optimizer.state["w"]["m"].strides == np.zeros_like(param, order="K").strides == param.strides


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars_and_empty_arrays_step(dtype) -> None:
    shapes = [(), (1,), (1, 1, 1), (0,), (3, 0, 5), (0, 0)]
    params = {str(shape): values(RNG, shape, DTYPES[dtype]) + DTYPES[dtype].type(1) for shape in shapes}
    params = {name: np.asarray(x, DTYPES[dtype]) for name, x in params.items()}
    grads = {str(shape): np.ones(shape, np.float32) for shape in shapes}
    before = params["()"].copy()
    optimizer = step_both(params, grads, "sgd-momentum", steps=3)
    assert params["()"] != before
    assert optimizer.state_dict()["steps"] == dict.fromkeys(params, 3)
    backward = np.zeros((4, 0, 3), np.float32)[::-1, :, ::-1]
    step_both({"w": backward}, {"w": backward.copy()})


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 3, 2, 5), (1,) * 9, (2, 0, 3, 4)])
def test_many_axes_step(shape) -> None:
    x, g = values(RNG, shape, np.float32) + np.float32(1), values(RNG, shape, np.float32)
    for param, grad in ((x.copy(), g.copy()), (np.asfortranarray(x), g), (x.copy(), np.asfortranarray(g))):
        optimizer = step_both({"w": param}, {"w": grad}, "sgd-momentum")
        optimizer.bind([grad])
        assert optimizer.step().step == 3
    message = r"SGD: grads\['0'\] must have shape \(.*\), got \(7,\)$"
    with pytest.raises(ValueError, match=message):
        ss.optim.SGD([x]).step([np.ones(7)])


def test_interleaved_views_of_one_buffer_step() -> None:
    for cut in (
        lambda b: (b[:, :4], b[:, 4:]),
        lambda b: (b[::2], b[1::2]),
        lambda b: (b[:, ::2], b[:, 1::2]),
        lambda b: (b[::-2], b[-2::-2]),
        lambda b: (b.T[::3], b.T[1::3], b.T[2::3]),
        lambda b: (b[:5, :7], b[5:, :7], b[:, 7:]),
    ):
        params = dict(zip("abc", cut(values(RNG, (10, 12), np.float32))))
        grads = {name: values(RNG, x.shape, np.float32) for name, x in params.items()}
        step_both(params, grads, "adam-weight-decay")
    # A gradient beside its parameter, neither of which changes the other.
    buffer = values(RNG, (50, 9), np.float32)
    grad = buffer[:, 4:8].copy()
    step_both({"w": buffer[:, :4]}, {"w": buffer[:, 4:8]})
    assert_same_bits(np.array(buffer[:, 4:8]), grad)


def test_read_only_and_broadcast_gradients_step_and_stay() -> None:
    param = values(RNG, SHAPE, np.float32)
    read_only = values(RNG, SHAPE, np.float64)
    read_only.flags.writeable = False
    row = values(RNG, SHAPE[2], np.float32)
    for grad in (
        read_only,
        np.broadcast_to(row, SHAPE),
        np.broadcast_to(np.float32(0.25), SHAPE),
        np.broadcast_to(row[:13, None, None], SHAPE),
        as_strided(values(RNG, 100, np.float32), SHAPE, (4, 8, 4), writeable=False),
    ):
        copy = grad.copy()
        step_both({"w": param.copy()}, {"w": grad})
        step_both({"w": np.asfortranarray(param)}, {"w": grad})
        assert_same_bits(np.array(grad), copy)


def test_one_gradient_array_serves_two_parameters() -> None:
    grad = values(RNG, (30, 5), np.float32)
    step_both({"a": values(RNG, (30, 5), np.float32), "b": values(RNG, (30, 5), np.float64)}, {"a": grad, "b": grad})


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((2, 3), (12, 8)),
        ((3, 2), (8, 12)),
        ((2, 4), (4, 8)),
        ((3, 5), (40, 24)),
        ((1, 5), (0, 4)),
        ((2, 2, 2), (28, 8, 12)),
    ],
)
def test_strides_that_cross_without_meeting_step(shape, strides) -> None:
    buffer = np.arange(64, dtype=np.float32)
    view = as_strided(buffer, shape, strides)
    assert np.unique(np.array(view)).size == view.size, "no element twice"
    untouched = np.setdiff1d(buffer, np.array(view))
    step_both({"w": view}, {"w": values(RNG, shape, np.float32) + np.float32(1)}, "sgd-weight-decay")
    assert np.isin(untouched, buffer).all()


layout_names = st.sampled_from(sorted(LAYOUTS))
dtype_names = st.sampled_from(sorted(DTYPES))


@st.composite
def tensors(draw):
    """Shape, dtype and layout of a parameter, dtype and layout of its gradient, which may be missing."""
    shape = draw(st.tuples(*[st.integers(0, 9)] * 2, st.sampled_from([0, 1, 2, 15, 17, 33, 64, 65, 130])))
    return shape, draw(dtype_names), draw(layout_names), draw(dtype_names), draw(layout_names), draw(st.booleans())


def check_any(config, state_dtype, listed, seed, max_norm, grad_scale) -> None:
    rule, hyperparameters = CONFIGS[config]
    rng = np.random.default_rng(seed)
    params, grads = {}, {}
    for k, (shape, p, p_layout, g, g_layout, missing) in enumerate(listed):
        params[str(k)] = LAYOUTS[p_layout](values(rng, shape, DTYPES[p]))
        grads[str(k)] = None if missing else LAYOUTS[g_layout](values(rng, shape, DTYPES[g]))
    reference = Reference(rule, params, state_dtype, max_norm=max_norm, **hyperparameters)
    optimizer = ss.optim.REGISTRY[rule](params, state_dtype=state_dtype, max_norm=max_norm, **hyperparameters)
    for step in range(2):
        present = {name: None if (step and i % 3 == 1) else grad for i, (name, grad) in enumerate(grads.items())}
        info = optimizer.step(present, grad_scale=grad_scale)
        assert info.grad_norm == reference.step(present, grad_scale)
    assert optimizer.state_dict()["steps"] == reference.steps
    for name, param in params.items():
        assert_same_bits(np.array(param, order="C"), np.array(reference.params[name], order="C"), name)
        for slot, array in optimizer.state[name].items():
            assert_same_bits(np.array(array, order="C"), np.array(reference.state[name][slot], order="C"), slot)


anything = given(
    config=st.sampled_from(sorted(CONFIGS)),
    state_dtype=st.sampled_from(["float32", "bfloat16"]),
    listed=st.lists(tensors(), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
    max_norm=st.sampled_from([None, 1e-3, 1.0, 1e6]),
    grad_scale=st.sampled_from([1.0, -3.0, 1024.0, 0.1]),
)
patient = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=1500, deadline=None, suppress_health_check=patient, derandomize=True)
@anything
def test_anything_equals_the_oracle(config, state_dtype, listed, seed, max_norm, grad_scale) -> None:
    check_any(config, state_dtype, listed, seed, max_norm, grad_scale)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=patient)
@anything
def test_anything_equals_the_oracle_many_times(config, state_dtype, listed, seed, max_norm, grad_scale) -> None:
    check_any(config, state_dtype, listed, seed, max_norm, grad_scale)
