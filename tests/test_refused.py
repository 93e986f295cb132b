"""What must be refused is, by name, rule and value, and nothing is written: parameters, state, step counts."""

import copy

import ml_dtypes
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import stepsmith as ss

BUFFER = np.arange(1, 61, dtype=np.float32)


def read_only() -> np.ndarray:
    array = np.ones(4, np.float32)
    array.flags.writeable = False
    return array


REPEATS = "must not repeat elements, got an array in which indices share memory"
SHARES = "must not share elements, got arrays that overlap in memory"
PARAMS = {
    "read-only": (lambda: {"w": read_only()}, ValueError, "AdamW: params['w'] must be writable, got a read-only array"),
    "broadcast": (lambda: {"w": np.broadcast_to(BUFFER, (2, 60))}, ValueError, "AdamW: params['w'] must be writable"),
    "broadcast-writable": (lambda: {"w": as_strided(BUFFER, (3, 4), (0, 4))}, ValueError, f"params['w'] {REPEATS}"),
    "windows": (lambda: {"w": as_strided(BUFFER, (9, 3), (4, 4))}, ValueError, f"AdamW: params['w'] {REPEATS}"),
    "windows-apart": (lambda: {"w": as_strided(BUFFER, (3, 4), (12, 4))}, ValueError, f"AdamW: params['w'] {REPEATS}"),
    "half-an-element": (
        lambda: {"w": as_strided(BUFFER.view(np.uint8)[:64].view(np.float32), (4,), (2,))},
        ValueError,
        f"AdamW: params['w'] {REPEATS}",
    ),
    "coprime-meet": (lambda: {"w": as_strided(BUFFER, (4, 4), (12, 8))}, ValueError, f"AdamW: params['w'] {REPEATS}"),
    "same-twice": (lambda: {"a": BUFFER, "b": BUFFER}, ValueError, f"params['a'] and params['b'] {SHARES}"),
    "one-element": (lambda: {"a": BUFFER[:5], "b": BUFFER[4:]}, ValueError, f"params['a'] and params['b'] {SHARES}"),
    "one-byte": (
        lambda: {"a": BUFFER[:4], "b": BUFFER.view(np.uint8)[15:31].view(np.float32)},
        ValueError,
        f"params['a'] and params['b'] {SHARES}",
    ),
    "columns-meet": (
        lambda: {"a": BUFFER.reshape(6, 10)[:, :5], "b": BUFFER.reshape(6, 10)[:, 4:]},
        ValueError,
        f"params['a'] and params['b'] {SHARES}",
    ),
    "other-dtype": (
        lambda: {"a": BUFFER, "b": BUFFER.view(np.float64)},
        ValueError,
        f"params['a'] and params['b'] {SHARES}",
    ),
    "across-groups": (
        lambda: [{"params": [BUFFER[:9]]}, {"params": [BUFFER[8:]]}],
        ValueError,
        f"params['0'] and params['1'] {SHARES}",
    ),
    "byte-swapped": (
        lambda: {"w": np.ones(3, ">f4")},
        TypeError,
        "AdamW: params['w'] must be float32, float64, bfloat16 or float16 in native byte order, got dtype('>f4')",
    ),
    "integers": (
        lambda: {"w": np.ones(3, np.int64)},
        TypeError,
        "AdamW: params['w'] must be float32, float64, bfloat16 or float16",
    ),
    "complex": (lambda: {"w": np.ones(3, complex)}, TypeError, "got dtype('complex128')"),
    "objects": (lambda: {"w": np.array([1.0, None])}, TypeError, "got dtype('O')"),
    "booleans": (lambda: {"w": np.ones(3, bool)}, TypeError, "got dtype('bool')"),
    "float8": (lambda: {"w": np.ones(3, ml_dtypes.float8_e4m3fn)}, TypeError, "AdamW: params['w'] must be float32"),
    "long-double": (lambda: {"w": np.ones(3, np.longdouble)}, TypeError, "AdamW: params['w'] must be float32"),
    "structured": (lambda: {"w": np.ones(3, [("x", np.float32)])}, TypeError, "AdamW: params['w'] must be float32"),
    "masked": (
        lambda: {"w": np.ma.masked_array(BUFFER, BUFFER > 3)},
        TypeError,
        "AdamW: params['w'] must be a plain NumPy array",
    ),
    "list": (lambda: {"w": [1.0, 2.0]}, TypeError, "AdamW: params['w'] must be a NumPy array"),
    "ragged": (lambda: [BUFFER, [[1.0], [1.0, 2.0]]], TypeError, "AdamW: params['1'] must be a NumPy array"),
    "scalar": (lambda: {"w": np.float32(1.0)}, TypeError, "AdamW: params['w'] must be a NumPy array"),
    "bare-array": (
        lambda: BUFFER,
        TypeError,
        "AdamW: params must be a mapping, a sequence of arrays or a sequence of groups",
    ),
    "number": (
        lambda: 3,
        TypeError,
        "AdamW: params must be a mapping, a sequence of arrays or a sequence of groups, got int",
    ),
    "nothing": (list, ValueError, "AdamW: params must hold at least one array, got none"),
    "no-names": (lambda: {1: BUFFER}, TypeError, "AdamW: names of params must be strings, got 1"),
}


@pytest.mark.parametrize("case", PARAMS)
def test_bad_parameters_are_refused(case) -> None:
    make, kind, message = PARAMS[case]
    before = BUFFER.copy()
    with pytest.raises(kind) as caught:
        ss.optim.AdamW(make())
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert (before == BUFFER).all()


def build() -> tuple[dict[str, np.ndarray], ss.optim.AdamW]:
    """An optimizer that has made a step, so that state and counts are worth comparing."""
    params = {"a": np.ones((3, 4), np.float32), "b": np.arange(5, dtype=np.float64), "c": np.ones(0, np.float16)}
    optimizer = ss.optim.AdamW(params, amsgrad=True, max_norm=1e9)
    optimizer.step([np.ones((3, 4), np.float32), None, np.ones(0, np.float32)])
    return params, optimizer


def good() -> dict[str, object]:
    return {"a": np.ones((3, 4)), "b": np.ones(5, np.float32), "c": np.zeros(0)}


GRADS = {
    "own-parameter": (lambda p, _: {"b": p["b"]}, ValueError, f"AdamW: grads['b'] and params['b'] {SHARES}"),
    "other-parameter": (
        lambda p, _: {"b": p["a"].reshape(-1)[3:8]},
        ValueError,
        f"grads['b'] and params['a'] {SHARES}",
    ),
    "parameter-reversed": (lambda p, _: {"a": p["a"][::-1, ::-1]}, ValueError, f"grads['a'] and params['a'] {SHARES}"),
    "broadcast-parameter": (
        lambda p, _: {"a": np.broadcast_to(p["b"][:4], (3, 4))},
        ValueError,
        f"AdamW: grads['a'] and params['b'] {SHARES}",
    ),
    "own-state": (lambda _, o: {"a": o.state["a"]["v"]}, ValueError, f"AdamW: grads['a'] and state['a']['v'] {SHARES}"),
    "other-state": (
        lambda _, o: {"b": o.state["a"]["m"][1:, 2:].T.reshape(-1)[:4], "a": o.state["a"]["v_max"]},
        ValueError,
        "must have shape",
    ),
    "state-column": (
        lambda _, o: {"b": o.state["a"]["v_max"].reshape(-1)[2:12:2]},
        ValueError,
        f"AdamW: grads['b'] and state['a']['v_max'] {SHARES}",
    ),
    "shape": (lambda *_: {"a": np.ones((4, 3))}, ValueError, "AdamW: grads['a'] must have shape (3, 4), got (4, 3)"),
    "shapes": (
        lambda *_: {"a": np.ones((4, 3)), "b": np.ones(6)},
        ValueError,
        "AdamW: grads['a'] must have shape (3, 4), got (4, 3); grads['b'] must have shape (5,), got (6,)",
    ),
    "axes": (lambda *_: {"b": np.ones((5, 1))}, ValueError, "AdamW: grads['b'] must have shape (5,), got (5, 1)"),
    "no-axes": (lambda *_: {"b": np.ones(())}, ValueError, "AdamW: grads['b'] must have shape (5,), got ()"),
    "byte-swapped": (
        lambda *_: {"b": np.ones(5, ">f8")},
        TypeError,
        "AdamW: grads['b'] must be float32, float64, bfloat16 or float16 in native byte order, got dtype('>f8')",
    ),
    "integers": (lambda *_: {"b": np.ones(5, int)}, TypeError, "AdamW: grads['b'] must be float32, float64, bfloat16"),
    "complex": (
        lambda *_: {"b": np.ones(5, complex)},
        TypeError,
        "AdamW: grads['b'] must be float32, float64, bfloat16",
    ),
    "objects": (lambda *_: {"b": np.array([1.0] * 5, object)}, TypeError, "AdamW: grads['b'] must be float32"),
    "masked": (
        lambda *_: {"b": np.ma.masked_array(np.ones(5), [0, 0, 1, 1, 0])},
        TypeError,
        "AdamW: grads['b'] must be a plain NumPy array",
    ),
    "list": (lambda *_: {"b": [1.0] * 5}, TypeError, "AdamW: grads['b'] must be a NumPy array"),
    "ragged": (lambda *_: {"b": [[1.0], [1.0, 2.0]]}, TypeError, "AdamW: grads['b'] must be a NumPy array"),
    "number": (lambda *_: {"b": 1.0}, TypeError, "AdamW: grads['b'] must be a NumPy array"),
}


def snapshot(params, optimizer):
    return copy.deepcopy((params, optimizer.state_dict()))


def assert_unchanged(before, after) -> None:
    (params, state), (params_after, state_after) = before, after
    assert state["steps"] == state_after["steps"]
    assert state["groups"] == state_after["groups"]
    for name in params:
        assert params[name].tobytes() == params_after[name].tobytes(), name
        for slot in state["state"][name]:
            assert state["state"][name][slot].tobytes() == state_after["state"][name][slot].tobytes(), (name, slot)


@pytest.mark.parametrize("way", ["step", "bind"])
@pytest.mark.parametrize("case", GRADS)
def test_bad_gradients_are_refused_and_nothing_is_written(case, way) -> None:
    make, kind, message = GRADS[case]
    params, optimizer = build()
    bound = good()
    optimizer.bind(bound)
    before = snapshot(params, optimizer)
    grads = {**good(), **make(params, optimizer)}
    with pytest.raises(kind) as caught:
        getattr(optimizer, way)(grads)
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert_unchanged(before, snapshot(params, optimizer))
    # The binding from before still holds, and the next step is a good one.
    assert optimizer.step().step == 2
    assert optimizer.state_dict()["steps"] == {"a": 2, "b": 1, "c": 2}


CONTAINERS = {
    "missing": ({"a": 1, "b": 1}, ValueError, "AdamW: grads must have the names of params, missing ['c'], extra []"),
    "extra": ({"a": 1, "b": 1, "c": 1, "d": 1}, ValueError, "missing [], extra ['d']"),
    "renamed": ({"a": 1, "B": 1, "C": 1}, ValueError, "missing ['b', 'c'], extra ['B', 'C']"),
    "short": ([1, 1], ValueError, "AdamW: grads must be 3 arrays (a, b, c), got 2"),
    "long": ([1, 1, 1, 1], ValueError, "AdamW: grads must be 3 arrays (a, b, c), got 4"),
    "array": (
        np.ones((3, 4)),
        TypeError,
        "AdamW: grads must be a mapping by name or a sequence in parameter order, got ndarray",
    ),
    "number": (1.0, TypeError, "AdamW: grads must be a mapping by name or a sequence in parameter order, got float"),
}


@pytest.mark.parametrize("way", ["step", "bind"])
@pytest.mark.parametrize("case", CONTAINERS)
def test_gradients_that_do_not_match_by_name_or_number_are_refused(case, way) -> None:
    grads, kind, message = CONTAINERS[case]
    params, optimizer = build()
    before = snapshot(params, optimizer)
    with pytest.raises(kind) as caught:
        getattr(optimizer, way)(grads)
    assert message in str(caught.value)
    assert_unchanged(before, snapshot(params, optimizer))
