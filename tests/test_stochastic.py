"""Random rounding of 16-bit parameters: unbiased, to a neighbour, the same bits however it is computed."""

import math

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits, different, values
from reference_stages import ROUNDING_STREAM, neighbours, random_words
from reference_storage import DTYPES

HALVES = ("bf16", "f16")
RNG = np.random.default_rng(97)


def rounded(x: np.ndarray, dtype: str, seed: int = 1, steps: int = 1) -> np.ndarray:
    """float32 numbers as a step stores them: 0 - (-x) is x."""
    param = np.zeros(x.shape, DTYPES[dtype])
    optimizer = ss.optim.SGD([param], lr=1.0, rounding="stochastic", seed=seed, on_nonfinite="propagate")
    for _ in range(steps):
        param[...] = np.copysign(np.float32(0), x).astype(param.dtype)
        optimizer.step([-x])
    return param


SAMPLES = {
    "bf16": [1.003, -1.003, 0.3, -7.77, 1e-3, 3.3e38, -1.2e-39, 9.3e-41, 1.00390624, -123.456],
    "f16": [1.0003, -1.0003, 0.3, -7.77, 65000.5, 65519.0, 3e-5, -3e-5, 6.1e-5, -2e-8, 1e-9, 6.1035e-5, -123.456],
}


@pytest.mark.parametrize(("dtype", "x"), [(dtype, x) for dtype in HALVES for x in SAMPLES[dtype]])
def test_the_mean_is_the_number(dtype, x) -> None:
    n = 40_000
    x = np.float32(x)
    got = rounded(np.full(n, x), dtype).astype(np.float64)
    low, high = (float(y[0]) for y in neighbours(np.array([x]), DTYPES[dtype]))
    high = high if math.isfinite(high) else 2.0 ** (128 if dtype == "bf16" else 16)
    fraction = (abs(float(x)) - low) / (high - low)
    assert 0 < fraction < 1
    ups = np.count_nonzero(np.abs(got) > low)
    assert set(np.abs(got)) <= {low, high, math.inf if high in {2.0**16, 2.0**128} else high}
    assert (np.signbit(got) == np.signbit(x)).all()
    sigma = math.sqrt(n * fraction * (1 - fraction))
    assert abs(ups - n * fraction) <= 5 * max(sigma, 1e-3)
    assert 0 < ups < n or sigma < 1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("dtype", "cut"), [("bf16", 16), ("f16", 13)])
def test_a_number_goes_up_from_its_own_random_number_on(dtype, cut, sign) -> None:
    """Of the numbers between neighbours the first that an element's word takes up, and the last that it does not."""
    words = random_words(5000, 1, 0, ROUNDING_STREAM)
    lowest = (np.uint32(2**cut) - (words >> np.uint32(32 - cut))).astype(np.uint32)
    for parts, up in ((lowest, True), (lowest - np.uint32(1), False)):
        x = (np.float32(1.5).view(np.uint32) + parts).view(np.float32)
        got = np.abs(rounded(sign * x, dtype).astype(np.float32))
        assert_same_bits(
            got, np.float32(1.5) + np.where(up, 2.0 ** (cut - 23), 0).astype(np.float32) + np.zeros_like(x)
        )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_denormal_float16_goes_up_where_the_uniform_number_is_below_its_fraction(sign) -> None:
    uniform = (random_words(5000, 1, 0, ROUNDING_STREAM) >> np.uint32(8)).astype(np.float32)
    for fraction, up in ((uniform, False), (uniform + np.float32(1), True)):
        x = fraction * np.float32(2.0**-48)
        want = np.full(5000, sign * up * 2.0**-24).astype(np.float16)
        assert_same_bits(rounded(sign * x, "f16"), np.copysign(want, np.float16(sign)))


@pytest.mark.parametrize("dtype", HALVES)
def test_every_number_goes_to_a_neighbour(dtype) -> None:
    exponents = RNG.uniform(-148, 127.9, 20_000) if dtype == "bf16" else RNG.uniform(-30, 15.9, 20_000)
    x = (2.0**exponents * RNG.choice([-1, 1], exponents.size)).astype(np.float32)
    low, high = neighbours(x, DTYPES[dtype])
    got = rounded(x, dtype)
    magnitude, bits = np.abs(got).view(np.uint16), low.view(np.uint16)
    assert np.isin(magnitude - bits, (0, 1)).all()
    assert (magnitude == bits).any()
    assert (magnitude == high.view(np.uint16)).any()
    assert (np.signbit(got) == np.signbit(x)).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_what_can_be_stored_stays_as_it_is(dtype) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(DTYPES[dtype])
    with np.errstate(invalid="ignore"):  # some of the NaNs signal
        got = rounded(every.astype(np.float32), dtype, steps=3)
        assert_same_bits(got, every)
        assert np.isnan(got).sum() > 100
        assert np.isinf(got).sum() == 2


def test_beyond_the_largest_number_lies_infinity() -> None:
    x = np.array([65536.0, 1e6, -3e38, -65536.0] * 100, np.float32)
    assert_same_bits(rounded(x, "f16"), np.copysign(np.float16(np.inf), x).astype(np.float16))
    top = np.full(400, np.finfo(np.float32).max, np.float32)
    assert np.isinf(rounded(top, "bf16")).mean() > 0.9


def several(dtype: str, shape: tuple[int, ...], layout=np.ascontiguousarray, threads: int = 1, **settings):
    rng = np.random.default_rng(5)
    params = {name: layout(values(rng, shape, DTYPES[dtype])) for name in "ab"}
    grads = [{name: layout(values(rng, shape, np.float32)) for name in "ab"} for _ in range(4)]
    optimizer = ss.optim.AdamW(params, lr=0.01, rounding="stochastic", **{"seed": 3, **settings})
    with ss.threads(threads):
        for row in grads:
            optimizer.step(row)
        assert ss._core.info()["last_threads"] == threads
    return params


@pytest.mark.parametrize("dtype", HALVES)
def test_threads_and_layouts_do_not_change_a_bit(dtype) -> None:
    shape = (300, 401)
    want = several(dtype, shape)
    for threads in (2, 3, 7):
        got = several(dtype, shape, threads=threads)
        for name in "ab":
            assert_same_bits(got[name], want[name])
    for layout in (np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2], lambda x: x[::-1].copy()[::-1]):
        got = several(dtype, shape, layout, 3)
        for name in "ab":
            assert_same_bits(got[name], want[name])


def test_seed_tensor_and_step_draw_numbers_of_their_own() -> None:
    x = np.full(4096, 1.003, np.float32)
    one, again, other = (rounded(x, "bf16", seed=seed) for seed in (1, 1, 2))
    assert_same_bits(one, again)
    high_word = rounded(x, "bf16", seed=1 + 2**32)
    second = rounded(x, "bf16", steps=2)
    params = [np.zeros(4096, ml_dtypes.bfloat16) for _ in range(2)]
    ss.optim.SGD(params, lr=1.0, rounding="stochastic", seed=1).step([-x, -x])
    assert_same_bits(params[0], one)
    for different_one in (other, high_word, second, params[1]):
        assert 1000 < different(different_one, one).size < 3000
    shifted = [different(one[k:], one[:-k]).size for k in (1, 2, 3, 4, 64, 128, 512)]
    assert all(1000 < n < 3000 for n in shifted), "no two places draw the same numbers"


@pytest.mark.parametrize("skip", [False, True])
def test_a_resumed_run_draws_what_the_straight_one_does(skip) -> None:
    rng = np.random.default_rng(13)
    start = {name: values(rng, (40, 33), DTYPES[name]) for name in ("bf16", "f32", "f16")}
    grads = [{name: values(rng, (40, 33), np.float32) for name in start} for _ in range(6)]
    bad = {name: np.full_like(x, np.nan, np.float32) for name, x in start.items()}
    settings = {
        "lr": 0.01,
        "rounding": "stochastic",
        "seed": 9,
        "ema": 0.9,
        "shadow": "float16",
        "on_nonfinite": "skip",
    }
    straight = {name: x.copy() for name, x in start.items()}
    optimizer = ss.optim.AdamW(straight, **settings)
    for row in grads:
        optimizer.step(row)
        if skip:
            assert optimizer.step(bad).skipped
    first = {name: x.copy() for name, x in start.items()}
    before = ss.optim.AdamW(first, **settings)
    for row in grads[:3]:
        before.step(row)
    second = {name: x.copy() for name, x in first.items()}
    after = ss.optim.AdamW(second, **settings)
    after.load_state_dict(before.state_dict())
    for row in grads[3:]:
        after.step(row)
    for name, x in straight.items():
        assert_same_bits(second[name], x, name)
        for slot, array in optimizer.state[name].items():
            assert_same_bits(after.state[name][slot], array, f"{name} {slot}")


def test_weights_that_stall_under_nearest_rounding_move_on_average() -> None:
    n, steps, update = 8192, 100, 1e-4
    grad = np.full(n, update, np.float32)
    nearest, random = (np.ones(n, ml_dtypes.bfloat16) for _ in range(2))
    still = ss.optim.SGD([nearest], lr=1.0)
    moving = ss.optim.SGD([random], lr=1.0, rounding="stochastic", seed=4)
    for _ in range(steps):
        still.step([grad])
        moving.step([grad])
    assert (nearest == 1).all()
    # Each step goes down by a whole 2^-8 or not at all.
    p = update * 2.0**8
    sigma = 2.0**-8 * math.sqrt(steps * p * (1 - p) / n)
    assert abs(random.astype(np.float64).mean() - (1 - steps * update)) < 5 * sigma


def test_float32_parameters_beside_16_bit_ones_are_rounded_as_ever() -> None:
    params = {"w": values(RNG, 600, np.float32), "h": values(RNG, 600, np.float16)}
    other = {name: x.copy() for name, x in params.items()}
    grads = {name: values(RNG, 600, np.float32) for name in params}
    ss.optim.AdamW(params, lr=0.1, rounding="stochastic").step(grads)
    ss.optim.AdamW(other, lr=0.1).step(grads)
    assert_same_bits(params["w"], other["w"])
    assert different(params["h"], other["h"]).size > 100


def test_what_cannot_be_rounded_at_random_is_refused() -> None:
    wide, half = np.ones(3, np.float32), np.ones(3, np.float16)
    with pytest.raises(
        ValueError, match=r"^SGD: rounding='stochastic' must come with a bfloat16 or float16 .*, got none$"
    ):
        ss.optim.SGD([wide], rounding="stochastic")
    with pytest.raises(ValueError, match=r"^SGD: rounding must be 'nearest' beside master=True, got 'stochastic'$"):
        ss.optim.SGD([half], rounding="stochastic", master=True)
    with pytest.raises(ValueError, match=r"^SGD: rounding must be one of nearest, stochastic, got 'up'$"):
        ss.optim.SGD([half], rounding="up")
    for seed, kind in ((-1, ValueError), (2**64, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(kind, match=r"^SGD: seed must be "):
            ss.optim.SGD([half], rounding="stochastic", seed=seed)
    ss.optim.SGD([half], rounding="stochastic", seed=2**64 - 1).step([half.copy()])
