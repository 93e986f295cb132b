"""The check of gradients itself: what it finds, what it says, what it leaves behind."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import LAYOUTS, assert_same_bits, laid_out

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def arrays() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {"w": rng.normal(size=(3, 5)), "b": rng.normal(size=()), "x": rng.normal(size=5) * 1e3}


def smooth(p: dict[str, Array]) -> tuple[float, dict[str, Array]]:
    """sin(w·x·1e-3 + b), summed."""
    z = p["w"] @ p["x"] * 1e-3 + p["b"]
    g = np.cos(z)
    return float(np.sin(z).sum()), {
        "w": np.outer(g, p["x"] * 1e-3),
        "b": np.array(g.sum()),
        "x": g @ p["w"] * 1e-3,
    }


def changed(name: str, index: tuple[int, ...], by: float):
    def fn(p):
        value, grads = smooth(p)
        grads[name][index] += by
        return value, grads

    return fn


@pytest.mark.parametrize("method", ["central", "forward"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_right_gradients_pass(method: str, layout: str) -> None:
    inputs = {name: laid_out(array, layout) for name, array in arrays().items()}
    report = ss.gradcheck(smooth, inputs, method=method)
    assert report.compared == 21
    assert report.unchecked == ()
    assert 0 < report.error <= report.tolerance < 1e-5
    assert report.error == abs(report.analytic - report.numeric)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.error = 0.0


def test_one_wrong_entry_is_named_with_both_values() -> None:
    with pytest.raises(
        ss.GradcheckError, match=r"gradient of w\[2, 3\] must be .*; 1 of 21 entries are wrong"
    ) as caught:
        ss.gradcheck(changed("w", (2, 3), 1e-4), arrays())
    right = smooth(arrays())[1]["w"][2, 3]
    words = str(caught.value).split()
    assert float(words[words.index("be") + 1]) == pytest.approx(right, abs=1e-9)
    assert float(words[words.index("got") + 1]) == right + 1e-4
    with pytest.raises(AssertionError, match=r"gradient of b must be"):
        ss.gradcheck(changed("b", (), -0.5), arrays())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_wrong(value: float) -> None:
    with pytest.raises(ss.GradcheckError, match=r"gradient of x\[4\].*got (nan|inf|-inf)"):
        ss.gradcheck(changed("x", (4,), value), arrays(), rtol=1e300)
    for number in (np.nan, np.inf):
        inputs = {"x": np.array([1.0, number])}
        with pytest.raises(ss.GradcheckError, match=r"2 of 2"):
            ss.gradcheck(lambda p: (float(p["x"].sum()), {"x": np.ones(2)}), inputs)
        assert inputs["x"][0] == 1.0


def test_small_gradients_are_held_to_small_errors() -> None:
    def fn(p: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        return float(np.square(p["big"]).sum() + 1e-4 * np.square(p["small"]).sum()), {
            "big": 2 * p["big"],
            "small": 2.001e-4 * p["small"],
        }

    inputs = {"big": np.array([3.0]), "small": np.array([1.0, 0.5])}
    with pytest.raises(ss.GradcheckError, match=r"gradient of small\[0\]"):
        ss.gradcheck(fn, inputs)
    ss.gradcheck(fn, inputs, rtol=1e-3)
    ss.gradcheck(fn, inputs, atol=1e-6)


def test_large_values_have_large_rounding() -> None:
    def fn(p: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        return float(1e9 + np.square(p["x"]).sum()), {"x": 2 * p["x"]}

    report = ss.gradcheck(fn, {"x": RNG.normal(size=7)})
    assert report.tolerance > 1e-3


def test_inputs_come_back_to_the_bit() -> None:
    inputs = {"x": np.array([0.1, -0.0, 5e-324, 1e300, 3.0])}
    before = inputs["x"].copy()
    seen = []

    def fn(p: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        seen.append(p["x"].copy())
        return float(p["x"][4] ** 2), {"x": np.array([0, 0, 0, 0, 2 * p["x"][4]])}

    ss.gradcheck(fn, inputs)
    assert_same_bits(inputs["x"], before)
    for k, point in enumerate(seen[2:]):
        assert np.flatnonzero(point != before).tolist() == [k // 2], "one entry at a time"


@pytest.mark.parametrize("call", [0, 1, 2, 5])
def test_inputs_come_back_after_an_error(call: int) -> None:
    inputs, calls = arrays(), 0
    before = {name: array.copy() for name, array in inputs.items()}

    def fn(p: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        nonlocal calls
        calls += 1
        if calls > call:
            p["x"][...] = 7.0
            raise KeyboardInterrupt
        return smooth(p)

    with pytest.raises(KeyboardInterrupt):
        ss.gradcheck(fn, inputs)
    for name, array in inputs.items():
        assert_same_bits(array, before[name])


def test_buffers_that_the_next_pass_overwrites_are_fine() -> None:
    buffer = np.empty(4)

    def fn(p: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        np.multiply(p["x"], 2, out=buffer)
        return float(p["x"] @ p["x"]), {"x": buffer}

    ss.gradcheck(fn, {"x": np.array([1.0, 2.0, -3.0, 40.0])})


def test_some_entries_are_drawn_by_the_seed() -> None:
    inputs = {"x": RNG.normal(size=(20, 20)), "y": np.ones(3)}
    touched: list[list[int]] = []

    def fn(p: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        touched[-1] += np.flatnonzero(p["x"] != before).tolist()
        return float(np.square(p["x"]).sum() + p["y"].sum()), {"x": 2 * p["x"], "y": np.ones(3)}

    before = inputs["x"].copy()
    for seed in (0, 0, 1):
        touched.append([])
        assert ss.gradcheck(fn, inputs, max_entries=5, seed=seed).compared == 8
    assert len(set(touched[0])) == 5
    assert touched[0] == touched[1] != touched[2]


def test_inputs_without_a_gradient_are_told() -> None:
    report = ss.gradcheck(lambda p: (smooth(p)[0], {"b": smooth(p)[1]["b"]}), arrays())
    assert (report.name, report.index, report.compared, report.unchecked) == ("b", (), 1, ("w", "x"))


def test_a_step_may_be_given() -> None:
    seen: list[float] = []

    def fn(p: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        seen.append(float(p["x"][0]))
        return float(p["x"] @ p["x"]), {"x": 2 * p["x"]}

    ss.gradcheck(fn, {"x": np.array([8.0])}, step=0.25)
    assert seen[2:] == [10.0, 6.0]
    with pytest.raises(ss.GradcheckError):
        ss.gradcheck(fn, {"x": np.array([8.0])}, step=0.25, method="forward")
    with pytest.raises(ValueError, match=r"step must change every entry, got 1e-20, lost in 8.0"):
        ss.gradcheck(fn, {"x": np.array([8.0])}, step=1e-20)


def square(p: dict[str, Array]) -> tuple[float, dict[str, Array]]:
    return float(np.square(p["x"]).sum()), {"x": 2 * p["x"]}


def locked() -> Array:
    array = np.ones(2)
    array.flags.writeable = False
    return array


def grown(p: dict[str, Array]) -> tuple[float, dict[str, Array]]:
    p["x"] += 1
    return square(p)


def moving():
    counter = iter(range(1000))
    return lambda p: (float(next(counter)), {"x": p["x"]})


X = np.ones(2)
REPEATED = np.lib.stride_tricks.as_strided(np.ones(2), (2, 2), (0, 8))
REFUSED = [
    (square, {"x": X.astype(np.float32)}, {}, TypeError, r"inputs\['x'\] must be float64, got float32"),
    (square, {"x": X.astype(">f8")}, {}, TypeError, r"inputs\['x'\] must be float64, got >f8"),
    (square, {"x": [1.0]}, {}, TypeError, r"inputs\['x'\] must be a NumPy array"),
    (square, [X], {}, TypeError, r"inputs must be a dict of arrays, got list"),
    (square, {"x": locked()}, {}, ValueError, r"inputs\['x'\] must be writable"),
    (square, {"x": REPEATED}, {}, ValueError, r"inputs\['x'\] must not overlap itself"),
    (square, {"x": X, "y": X[1:]}, {}, ValueError, r"inputs must not share memory, got 'x' and 'y'"),
    (square, {"x": np.ones(0)}, {}, ValueError, r"fn must return a gradient with an entry to compare, got \['x'\]"),
    (lambda _: (1.0, {}), {"x": X}, {}, ValueError, r"fn must return a gradient with an entry to compare, got \[\]"),
    (lambda _: (1.0, {"y": X}), {"x": X}, {}, ValueError, r"must have names of inputs, \['x'\], got 'y'"),
    (lambda _: (1.0, {"x": np.ones((2, 1))}), {"x": X}, {}, ValueError, r"'x' must have shape \(2,\), got \(2, 1\)"),
    (lambda _: (1.0, {"x": X.astype("f4")}), {"x": X}, {}, TypeError, r"gradient of 'x' must be float64, got float32"),
    (lambda _: (1.0, {"x": None}), {"x": X}, {}, TypeError, r"gradient of 'x' must be a NumPy array"),
    (lambda _: (1.0, X), {"x": X}, {}, TypeError, r"fn must return gradients by name, got ndarray"),
    (lambda _: 1.0, {"x": X}, {}, TypeError, r"fn must return \(value, gradients\), got float"),
    (lambda _: (np.float32(1), {"x": X}), {"x": X}, {}, TypeError, r"return a float as its value, got float32"),
    (grown, {"x": X}, {}, ValueError, r"fn must leave its inputs as they are, got a change of 'x'"),
    (moving(), {"x": X}, {}, ValueError, r"equal values for equal inputs, got 0.0 and 1.0"),
    (square, {"x": X}, {"method": "left"}, ValueError, r"method must be one of central, forward, got 'left'"),
    (square, {"x": X}, {"step": 0.0}, ValueError, r"step must be finite and more than 0, got 0.0"),
    (square, {"x": X}, {"rtol": -1}, ValueError, r"rtol must be finite and at least 0, got -1"),
    (square, {"x": X}, {"atol": math.inf}, ValueError, r"atol must be finite and at least 0, got inf"),
    (square, {"x": X}, {"max_entries": 0}, ValueError, r"max_entries must be at least 1, got 0"),
    (square, {"x": X}, {"seed": 0.5}, TypeError, r"seed must be an integer, got 0.5"),
]


@pytest.mark.parametrize(("fn", "inputs", "settings", "error", "message"), REFUSED)
def test_refused(fn, inputs, settings, error, message) -> None:
    with pytest.raises(error, match=rf"^gradcheck: .*{message}"):
        ss.gradcheck(fn, inputs, **settings)
    assert (X == 1).all()
