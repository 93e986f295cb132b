"""Gradients that a step zeroes: exactly, in any layout, and only when they have been used."""

import math

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import stepsmith as ss
from helpers import assert_same_bits, values
from reference_storage import DTYPES
from test_layouts import LAYOUTS

RNG = np.random.default_rng(107)
SHAPE = (13, 6, 37)


def assert_zero(grad: np.ndarray) -> None:
    assert (np.ascontiguousarray(grad).view(f"u{grad.itemsize}") == 0).all(), "+0.0"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bound", [False, True])
def test_gradients_of_any_layout_become_zero(layout, dtype, bound) -> None:
    params = {"w": values(RNG, SHAPE, np.float32), "b": values(RNG, 130, np.float64)}
    other = {name: x.copy() for name, x in params.items()}
    grads = {"w": LAYOUTS[layout](values(RNG, SHAPE, DTYPES[dtype])), "b": -np.zeros(130, np.float16)}
    plain = {name: grad.copy() for name, grad in grads.items()}
    optimizer = ss.optim.AdamW(params, lr=0.1, zero_grads=True)
    if bound:
        optimizer.bind(grads)
    optimizer.step(None if bound else grads)
    ss.optim.AdamW(other, lr=0.1).step(plain)
    for name, grad in grads.items():
        assert_zero(grad)
        assert_same_bits(params[name], other[name])
    if bound:
        for name, grad in grads.items():
            grad[...] = plain[name]
        optimizer.step()
        assert_zero(grads["w"])


def test_what_lies_between_the_elements_stays() -> None:
    buffer = np.full((40, 60), 5.0, np.float32)
    param, grad = np.ones((20, 20), np.float32), buffer[::2, 1::3]
    ss.optim.SGD([param], zero_grads=True).step([grad])
    assert (grad == 0).all()
    assert buffer.sum() == 5.0 * (40 * 60 - 400)
    # A gradient beside its parameter in one buffer, and one beside another gradient.
    both = np.ones((50, 9), np.float32)
    ss.optim.SGD([both[:, :4]], lr=0.5, zero_grads=True).step([both[:, 4:8]])
    assert both.sum(axis=0).tolist() == [25.0] * 4 + [0.0] * 4 + [50.0]
    params, pair = [np.ones(40, np.float32) for _ in range(2)], np.ones(80, np.float32)
    ss.optim.SGD(params, lr=0.5, zero_grads=True).step([pair[::2], pair[1::2]])
    assert_zero(pair)
    assert (np.array(params) == 0.5).all()


def test_large_gradients_become_zero_on_several_threads() -> None:
    param = values(RNG, (3, ss._core.CHUNK + 77), np.float32)
    for grad in (values(RNG, param.shape, np.float32), np.asfortranarray(values(RNG, param.shape, np.float64))):
        with ss.threads(3):
            ss.optim.SGD([param], zero_grads=True).step([grad])
            assert ss._core.info()["last_threads"] == 3
        assert_zero(grad)


def test_none_and_empty_and_0d_gradients() -> None:
    params = {"a": np.ones(()), "b": np.ones((0, 3)), "c": np.ones(4)}
    grads = {"a": np.ones(()), "b": np.ones((0, 3)), "c": None}
    optimizer = ss.optim.SGD(params, lr=0.5, zero_grads=True)
    optimizer.step(grads)
    assert (grads["a"], params["a"], params["c"][0]) == (0, 0.5, 1)
    optimizer.bind({**grads, "a": np.ones(())})
    optimizer.step()
    assert params["a"] == 0


def read_only() -> np.ndarray:
    grad = np.ones((4, 3), np.float32)
    grad.flags.writeable = False
    return grad


ROW = np.ones(12, np.float32)
REFUSED = {
    "read-only": (read_only, ValueError, r"grads\['a'\] must be writable, got a read-only array"),
    "broadcast": (lambda: np.broadcast_to(ROW[:3], (4, 3)), ValueError, r"grads\['a'\] must be writable, got .*"),
    "repeats": (lambda: as_strided(ROW, (4, 3), (0, 4)), ValueError, r"grads\['a'\] must not repeat elements, got .*"),
    "windows": (lambda: as_strided(ROW, (4, 3), (4, 4)), ValueError, r"grads\['a'\] must not repeat elements, got .*"),
    "another": (None, ValueError, r"grads\['a'\] and grads\['b'\] must not share elements, got .*"),
    "list": (lambda: [1.0], TypeError, r"grads\['a'\] must be a NumPy array .*, got list"),
}


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_zeroed_is_refused_before_anything_is_written(case, bound) -> None:
    make, kind, message = REFUSED[case]
    params = {"a": np.ones((4, 3), np.float32), "b": np.ones((4, 3), np.float32), "c": np.ones(5)}
    other = np.ones((4, 3), np.float32)
    grads = {"a": other if make is None else make(), "b": other, "c": np.ones(5)}
    optimizer = ss.optim.AdamW(params, zero_grads=True, ema=0.5)
    with pytest.raises(kind, match=f"^AdamW: {message}$"):
        (optimizer.bind if bound else optimizer.step)(grads)
    for x in params.values():
        assert (x == 1).all()
    assert (other == 1).all()
    assert (grads["c"] == 1).all()
    assert optimizer.state_dict()["steps"] == dict.fromkeys(params, 0)
    if kind is ValueError:
        ss.optim.AdamW(params).step(grads)


def test_a_numpy_scalar_cannot_be_zeroed() -> None:
    param = np.ones((), np.float32)
    with pytest.raises(TypeError, match=r"^SGD: grads\['0'\] must be a NumPy array .*, got numpy\.float32$"):
        ss.optim.SGD([param], zero_grads=True).step([np.float32(2.0)])
    assert param == 1


def test_a_bound_gradient_that_became_read_only_is_refused() -> None:
    param, grad = np.ones(4), np.ones(4)
    optimizer = ss.optim.SGD([param], zero_grads=True)
    optimizer.bind([grad])
    grad.flags.writeable = False
    with pytest.raises(ValueError, match=r"^SGD: grads\['0'\] must stay as it was bound, got another flags$"):
        optimizer.step()
    assert (param == 1).all()
    assert (grad == 1).all()


@pytest.mark.parametrize("policy", ["skip", "raise"])
def test_a_refused_step_leaves_the_gradients(policy) -> None:
    params, grads = [np.ones(700), np.ones(3)], [np.ones(700), np.array([1.0, math.inf, 1.0])]
    optimizer = ss.optim.SGD(params, zero_grads=True, on_nonfinite=policy)
    if policy == "skip":
        assert optimizer.step(grads).skipped
    else:
        with pytest.raises(ss.NonFiniteError):
            optimizer.step(grads)
    assert (grads[0] == 1).all()
    assert grads[1].tolist() == [1.0, math.inf, 1.0]
    optimizer.step([grads[0], None])
    assert_zero(grads[0])


def test_zero_grads_must_be_a_flag() -> None:
    with pytest.raises(TypeError, match=r"^SGD: zero_grads must be True or False, got 'yes'$"):
        ss.optim.SGD([np.ones(3)], zero_grads="yes")
