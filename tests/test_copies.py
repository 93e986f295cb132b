"""Moving average, shadow and master copies: written in the same pass, right from the start, else refused."""

import ml_dtypes
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import stepsmith as ss
from helpers import assert_same_bits, different, misaligned, run_python, values
from reference_stages import SHADOWS
from reference_storage import BFLOAT16, DTYPES, encode

RNG = np.random.default_rng(103)
SHARES = "must not share elements, got arrays that overlap in memory"


def params_of(*dtypes: str, shape=(7, 130)) -> dict[str, np.ndarray]:
    return {dtype: values(RNG, shape, DTYPES[dtype]) for dtype in dtypes}


def grads_of(params) -> dict[str, np.ndarray]:
    return {name: values(RNG, x.shape, np.float32) for name, x in params.items()}


# The moving average.


@pytest.mark.parametrize("ema", [0.0, 0.5, 0.999, np.float32(0.1), 1e-20])
def test_the_average_follows_the_stored_parameter(ema) -> None:
    params = params_of("f32", "f64", "bf16", "f16")
    optimizer = ss.optim.AdamW(params, lr=0.1, ema=ema)
    want = {name: x.astype(np.float64 if name == "f64" else np.float32) for name, x in params.items()}
    for name, x in want.items():
        assert_same_bits(optimizer.state[name]["ema"], x, "it starts as a copy")
    for _ in range(3):
        optimizer.step(grads_of(params))
        for name, average in want.items():
            wide = params[name].astype(average.dtype)
            want[name] = average + (wide - average) * average.dtype.type(1.0 - float(ema))
            assert_same_bits(optimizer.state[name]["ema"], want[name], name)
            assert ema < 0.1 or different(want[name], wide).size > 0


@pytest.mark.parametrize(
    ("ema", "kind"), [(1.0, ValueError), (-0.1, ValueError), (np.nan, ValueError), ("0.9", TypeError)]
)
def test_a_decay_must_be_below_one(ema, kind) -> None:
    with pytest.raises(kind, match=r"^SGD: ema must be "):
        ss.optim.SGD([np.ones(3)], ema=ema)


# Shadow copies.


@pytest.mark.parametrize("shadow", SHADOWS)
def test_a_shadow_is_the_rounded_parameter_from_the_start(shadow) -> None:
    params = params_of("f32", "f64", "bf16")
    params["f32"][0, :4] = 1e10, -70000.0, np.inf, np.nan
    params["f64"][0, :3] = 1e300, 1 + 2.0**-11 + 2.0**-40, -0.0
    optimizer = ss.optim.AdamW(params, lr=0.1, shadow=shadow)
    assert "shadow" not in optimizer.state["bf16"]
    for _ in range(2):
        for name in ("f32", "f64"):
            with np.errstate(over="ignore"):
                assert_same_bits(optimizer.state[name]["shadow"], encode(params[name], SHADOWS[shadow]), name)
        optimizer.step(grads_of(params))


@pytest.mark.parametrize("layout", [np.copy, np.asfortranarray, misaligned, lambda x: np.repeat(x, 3, axis=1)[:, ::-3]])
def test_a_shadow_may_be_an_array_of_the_caller_in_any_layout(layout) -> None:
    params = params_of("f32", "f64", "f16")
    base = layout(np.zeros((7, 130), BFLOAT16))
    optimizer = ss.optim.AdamW(params, lr=0.1, shadow={"f32": base})
    assert_same_bits(base, encode(params["f32"], BFLOAT16))
    assert "shadow" not in optimizer.state["f32"], "it is the caller's"
    optimizer.step(grads_of(params))
    assert_same_bits(base, encode(params["f32"], BFLOAT16))


def test_elements_between_those_of_a_strided_shadow_stay() -> None:
    params = params_of("f32", shape=(300,))
    wide = np.full(900, 7, np.float16)
    ss.optim.SGD(params, shadow={"f32": wide[1::3]}).step(grads_of(params))
    assert (wide[0::3] == 7).all()
    assert (wide[2::3] == 7).all()
    assert_same_bits(wide[1::3].copy(), params["f32"].astype(np.float16))


X = np.ones(8, np.float32)
HALF = np.ones(8, np.float16)


def read_only() -> np.ndarray:
    array = HALF.copy()
    array.flags.writeable = False
    return array


BUFFER = np.ones(64, np.uint8)
BAD = {
    "name": ({"w": X}, "half", ValueError, "shadow must be one of bfloat16, float16, got 'half'"),
    "kind": ({"w": X}, HALF, TypeError, "shadow must be 'bfloat16', 'float16' or a mapping .*, got ndarray"),
    "unknown": (
        {"w": X},
        {"v": HALF},
        ValueError,
        r"shadow\['v'\] must belong to a float32 or float64 parameter, got .*",
    ),
    "half": (
        {"w": X, "h": HALF},
        {"h": HALF.copy()},
        ValueError,
        r"shadow\['h'\] must belong to a float32 or float64 parameter, got .*",
    ),
    "none-wide": (
        {"h": HALF},
        "bfloat16",
        ValueError,
        "shadow must come with a float32 or float64 parameter, got none",
    ),
    "dtype": (
        {"w": X},
        {"w": X.copy()},
        TypeError,
        r"shadow\['w'\] must be a bfloat16 or float16 NumPy array, got float32",
    ),
    "byte-order": (
        {"w": X},
        {"w": np.ones(8, ">f2")},
        TypeError,
        r"shadow\['w'\] must be .*float16.*, got dtype\('>f2'\)",
    ),
    "list": (
        {"w": X},
        {"w": [1.0] * 8},
        TypeError,
        r"shadow\['w'\] must be a bfloat16 or float16 NumPy array, got list",
    ),
    "shape": ({"w": X}, {"w": HALF[:7]}, ValueError, r"shadow\['w'\] must have shape \(8,\), got \(7,\)"),
    "read-only": ({"w": X}, {"w": read_only()}, ValueError, r"shadow\['w'\] must be writable, got a read-only array"),
    "repeats": (
        {"w": X},
        {"w": as_strided(HALF, (8,), (0,))},
        ValueError,
        r"shadow\['w'\] must not repeat elements, got .*",
    ),
    "its-parameter": (
        {"w": BUFFER.view(np.float32)[:8]},
        {"w": BUFFER.view(np.float16)[8:16]},
        ValueError,
        rf"params\['w'\] and shadow\['w'\] {SHARES}",
    ),
    "each-other": (
        {"a": X, "b": X.copy()},
        {"a": HALF, "b": HALF},
        ValueError,
        rf"shadow\['a'\] and shadow\['b'\] {SHARES}",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_shadow_that_cannot_be_is_refused(case) -> None:
    params, shadow, kind, message = BAD[case]
    before = {name: x.copy() for name, x in params.items()}
    given = {name: np.array(x) for name, x in shadow.items()} if isinstance(shadow, dict) else {}
    with pytest.raises(kind, match=f"^AdamW: {message}$"):
        ss.optim.AdamW(params, shadow=shadow)
    for name, x in params.items():
        assert_same_bits(x, before[name])
    for name, x in given.items():
        assert np.array_equal(np.array(shadow[name]), x)


def test_a_gradient_beside_a_shadow_is_refused() -> None:
    shadow = np.zeros(8, np.float16)
    optimizer = ss.optim.SGD({"w": X.copy()}, shadow={"w": shadow})
    with pytest.raises(ValueError, match=rf"^SGD: grads\['w'\] and shadow\['w'\] {SHARES}$"):
        optimizer.step([shadow])
    ema = ss.optim.SGD({"w": X.copy()}, ema=0.5)
    with pytest.raises(ValueError, match=rf"^SGD: grads\['w'\] and state\['w'\]\['ema'\] {SHARES}$"):
        ema.bind([ema.state["w"]["ema"]])


def test_a_shadow_that_changed_since_it_was_given_is_refused() -> None:
    """A resized array's memory is gone: in a process of its own, where that would be a crash."""
    out = run_python(
        """
import numpy as np, stepsmith as ss
param, shadow = np.ones(50_000, np.float32), np.zeros(50_000, np.float16)
optimizer = ss.optim.SGD({"w": param}, lr=0.5, shadow={"w": shadow})
shadow.resize(3, refcheck=False)
try:
    optimizer.step([param.copy()])
except ValueError as error:
    print(error)
assert (param == 1).all() and (shadow == 1).all()
shadow = np.zeros(8, np.float16)
optimizer = ss.optim.SGD({"w": param[:8]}, lr=0.5, shadow={"w": shadow})
shadow.flags.writeable = False
try:
    optimizer.step([np.ones(8)])
except ValueError as error:
    print(error)
"""
    )
    assert out.splitlines()[0].startswith("SGD: shadow['w'] must stay as it was bound, got another ")
    assert out.splitlines()[1].startswith("SGD: shadow['w'] must stay as it was bound, got another ")


# Master copies.


def test_steps_work_on_the_master_and_the_parameter_is_its_rounded_copy() -> None:
    params = params_of("bf16", "f16", "f32")
    wide = {name: x.astype(np.float32) for name, x in params.items()}
    optimizer = ss.optim.AdamW(params, lr=1e-3, master=True, ema=0.9)
    plain = ss.optim.AdamW(wide, lr=1e-3, ema=0.9)
    assert "master" not in optimizer.state["f32"]
    for name in ("bf16", "f16"):
        assert_same_bits(optimizer.state[name]["master"], wide[name])
    for _ in range(4):
        grads = grads_of(params)
        optimizer.step(grads)
        plain.step(grads)
        params["bf16"][0] = 3.0  # what is written from outside does not reach the master
        for name, x in wide.items():
            assert_same_bits(optimizer.state[name].get("master", params[name]), x, name)
            assert_same_bits(optimizer.state[name]["ema"], plain.state[name]["ema"], name)
            assert_same_bits(params[name][1:], x.astype(params[name].dtype)[1:], name)
    assert different(params["bf16"][1:].astype(np.float32), wide["bf16"][1:]).size > 500


def test_small_updates_add_up_in_the_master() -> None:
    half, plain = np.ones(65, ml_dtypes.bfloat16), np.ones(65, ml_dtypes.bfloat16)
    grad = np.full(65, 1e-4, np.float32)
    optimizer, other = ss.optim.SGD([half], lr=1.0, master=True), ss.optim.SGD([plain], lr=1.0)
    for _ in range(100):
        optimizer.step([grad])
        other.step([grad])
    assert (plain == 1).all()
    np.testing.assert_allclose(half.astype(float), 0.99, atol=2**-9)


@pytest.mark.parametrize("settings", [{"master": True}, {"shadow": "float16"}, {"ema": 0.9}])
def test_copies_are_saved_and_come_back(settings) -> None:
    start, grads = params_of("bf16", "f32", "f64"), [grads_of(params_of("bf16", "f32", "f64")) for _ in range(5)]
    straight = {name: x.copy() for name, x in start.items()}
    optimizer = ss.optim.AdamW(straight, lr=0.01, **settings)
    for row in grads:
        optimizer.step(row)
    first = {name: x.copy() for name, x in start.items()}
    before = ss.optim.AdamW(first, lr=0.01, **settings)
    for row in grads[:2]:
        before.step(row)
    saved = before.state_dict()
    assert any(slot in row for row in saved["state"].values() for slot in ("master", "shadow", "ema"))
    second = {name: x.copy() for name, x in first.items()}
    after = ss.optim.AdamW(second, lr=0.01, **settings)
    for row in saved["state"].values():
        for slot in row:
            row[slot] = row[slot].copy()
    after.load_state_dict(saved)
    for row in grads[2:]:
        after.step(row)
    for name, x in straight.items():
        assert_same_bits(second[name], x, name)
        assert after.state[name].keys() == optimizer.state[name].keys()
        for slot, array in optimizer.state[name].items():
            assert_same_bits(after.state[name][slot], array, f"{name} {slot}")
    other = ss.optim.AdamW({name: x.copy() for name, x in start.items()}, lr=0.01)
    with pytest.raises(ValueError, match=r"^AdamW: state_dict must fit the optimizer: state\["):
        other.load_state_dict(saved)
    with pytest.raises(ValueError, match=r"^AdamW: state_dict must fit the optimizer: state\["):
        after.load_state_dict(other.state_dict())


def test_a_master_is_refused_where_there_is_nothing_to_copy() -> None:
    with pytest.raises(ValueError, match=r"^SGD: master must come with a bfloat16 or float16 parameter, got none$"):
        ss.optim.SGD([np.ones(3)], master=True)
    with pytest.raises(TypeError, match=r"^SGD: master must be True or False, got 1$"):
        ss.optim.SGD([np.ones(3, np.float16)], master=1)


def test_parameters_still_must_not_overlap_beside_masters() -> None:
    buffer = np.ones(9, np.float16)
    with pytest.raises(ValueError, match=rf"^SGD: params\['0'\] and params\['1'\] {SHARES}$"):
        ss.optim.SGD([buffer[:5], buffer[4:]], master=True)
    param = np.ones(8, np.float16)
    optimizer = ss.optim.SGD({"w": param}, master=True)
    with pytest.raises(ValueError, match=rf"^SGD: grads\['w'\] and params\['w'\] {SHARES}$"):
        optimizer.step([param])
    with pytest.raises(ValueError, match=rf"^SGD: grads\['w'\] and state\['w'\]\['master'\] {SHARES}$"):
        optimizer.step([optimizer.state["w"]["master"]])
    param.flags.writeable = False
    with pytest.raises(ValueError, match=r"^SGD: params\['w'\] must "):
        optimizer.step([np.ones(8)])
