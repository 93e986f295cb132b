"""Bound gradients: their contents may change, the arrays may not; each change is refused by name."""

import gc
import warnings

import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits, different, values
from reference import Reference

RNG = np.random.default_rng(37)


def build(n: int = 70):
    params = {"a": values(RNG, n, np.float32), "b": values(RNG, (4, 6), np.float32), "c": values(RNG, 5, np.float64)}
    grads = {name: values(RNG, x.shape, np.float32) for name, x in params.items()}
    return params, grads, ss.optim.AdamW(params, lr=0.1)


@pytest.mark.parametrize("n", [70, 70001])
def test_bound_gradients_may_change_their_contents(n) -> None:
    params, grads, optimizer = build(n)
    reference = Reference("adamw", params, lr=0.1)
    container = dict(grads)
    optimizer.bind(container)
    container.clear()
    gc.collect()
    for _ in range(3):
        for grad in grads.values():
            grad[...] = values(RNG, grad.shape, np.float32)
        optimizer.step()
        reference.step(grads)
        for name, param in params.items():
            assert_same_bits(param, reference.params[name], name)


def test_bound_arrays_are_kept_alive() -> None:
    params, _, optimizer = build()
    before = params["a"].copy()
    optimizer.bind([np.full(x.shape, 2.0, np.float32) for x in params.values()])
    gc.collect()
    rubbish = [np.full(70, np.nan, np.float32) for _ in range(50)]
    optimizer.step()
    assert np.isfinite(params["a"]).all()
    assert different(params["a"], before).size == 70
    assert len(rubbish) == 50


def test_a_bound_none_skips_its_tensor_and_given_gradients_do_not_unbind() -> None:
    params, grads, optimizer = build()
    optimizer.bind({**grads, "b": None})
    kept = params["b"].copy()
    optimizer.step()
    assert_same_bits(params["b"], kept)
    optimizer.step(grads)
    assert optimizer.state_dict()["steps"] == {"a": 2, "b": 1, "c": 2}
    optimizer.step()
    assert optimizer.state_dict()["steps"] == {"a": 3, "b": 1, "c": 3}


def test_a_step_without_gradients_is_an_error() -> None:
    params, grads, optimizer = build()
    before = params["a"].copy()
    message = r"^AdamW: step\(\) needs gradients: pass them, or bind\(grads\) first$"
    with pytest.raises(RuntimeError, match=message):
        optimizer.step()
    optimizer.bind(grads)
    optimizer.bind(None)
    with pytest.raises(RuntimeError, match=message):
        optimizer.step()
    assert_same_bits(params["a"], before)
    assert optimizer.state_dict()["steps"] == {"a": 0, "b": 0, "c": 0}


def set_attribute(name: str, value: object):
    def change(array: np.ndarray) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            setattr(array, name, value)

    return change


def move(array: np.ndarray) -> None:
    """The same shape, dtype, strides, flags and contents elsewhere."""
    address = array.ctypes.data
    array.resize(100_000, refcheck=False)
    array.resize((4, 6), refcheck=False)
    assert array.ctypes.data != address


# Each keeps something of the array: its size, its pointer, its bytes.
CHANGES = {
    "resize-larger": lambda x: x.resize(1000, refcheck=False),
    "resize-smaller": lambda x: x.resize(23, refcheck=False),
    "dtype-same-size": set_attribute("dtype", np.int32),
    "dtype-narrower": set_attribute("dtype", np.float16),
    "dtype-byte-swapped": set_attribute("dtype", np.dtype(">f4")),
    "shape-transposed": set_attribute("shape", (6, 4)),
    "shape-flat": set_attribute("shape", (24,)),
    "shape-more-axes": set_attribute("shape", (2, 2, 6)),
    "strides": set_attribute("strides", (4, 16)),
    "data": move,
    "flags": lambda x: x.setflags(write=not x.flags.writeable),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_bound_gradient_that_changed_is_refused_by_name(change) -> None:
    params, grads, optimizer = build()
    optimizer.bind(grads)
    optimizer.step()
    before = {name: x.copy() for name, x in params.items()}
    CHANGES[change](grads["b"])
    with pytest.raises(ValueError, match=r"^AdamW: grads\['b'\] must stay as it was bound, got another "):
        optimizer.step()
    for name, param in params.items():
        assert_same_bits(param, before[name])
    assert optimizer.state_dict()["steps"] == {"a": 1, "b": 1, "c": 1}
    optimizer.bind([np.ones(x.shape, np.float32) for x in params.values()])
    assert optimizer.step().step == 2


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("bound", [True, False])
def test_a_parameter_that_changed_is_refused_by_name(change, bound) -> None:
    params, grads, optimizer = build()
    if bound:
        optimizer.bind(grads)
    others = {name: params[name].copy() for name in "ac"}
    CHANGES[change](params["b"])
    with pytest.raises(ValueError, match=r"^AdamW: params\['b'\] must stay as it was"):
        optimizer.step(None if bound else grads)
    for name, before in others.items():
        assert_same_bits(params[name], before)
    assert optimizer.state_dict()["steps"] == {"a": 0, "b": 0, "c": 0}


def test_what_users_do_to_views_of_the_state_does_not_reach_the_step() -> None:
    params, grads, optimizer = build()
    reference = Reference("adamw", params, lr=0.1)
    optimizer.bind(grads)
    for _ in range(2):
        optimizer.step()
        reference.step(grads)
        with pytest.raises(ValueError, match="resize"):
            optimizer.state["b"]["m"].resize(1000, refcheck=False)
        with pytest.raises(TypeError):
            optimizer.state["b"]["m"] = None
        optimizer.state["b"]["m"].setflags(write=False)
        assert_same_bits(np.array(optimizer.state["b"]["m"]), reference.state["b"]["m"])
        assert_same_bits(params["b"], reference.params["b"])
