"""Philox numbers equal the oracle's and the known answers, wherever a call starts."""

import numpy as np
import pytest

import reference_random as reference
import stepsmith as ss
from helpers import assert_same_bits, misaligned
from stepsmith import _core

KNOWN = [
    ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "want"), KNOWN, ids=["zeros", "ones", "pi"])
def test_known_answers(counter, key, want) -> None:
    words = [int(word, 16) for word in want.split()]
    assert list(_core.philox4x32(counter, key)) == words
    assert reference.philox4x32(np.array([counter]), tuple(key))[0].tolist() == words


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 33, 2**34 - 2, 2**40 + 5, 2**64 - 97])
@pytest.mark.parametrize("n", [0, 1, 3, 31, 32, 33, 97])
def test_uniform_equals_the_oracle(n, start) -> None:
    seed, step, stream = 0xFEDC_BA98_7654_3210, 0xDEAD_BEEF, (1 << 24) + 3
    got = ss.random.uniform(n, seed=seed, step=step, stream=stream, start=start)
    want = reference.uniform(n, seed, step, stream, start)
    assert_same_bits(got, want)
    assert ((got >= 0) & (got < 1)).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_uniform_does_not_depend_on_threads(threads) -> None:
    with ss.threads(threads):
        got = ss.random.uniform((7, 10007), seed=5, step=6, stream=7, start=9)
        assert _core.info()["last_threads"] == threads
    assert_same_bits(got.reshape(-1), reference.uniform(70049, 5, 6, 7, 9))


def test_each_argument_counts() -> None:
    base = {"seed": 1, "step": 2, "stream": 3, "start": 0}
    first = ss.random.uniform(64, **base)
    for name, value in base.items():
        other = ss.random.uniform(64, **{**base, name: value + (1 << 31)})
        assert (first != other).sum() > 60, name
    assert (ss.random.uniform(64, **{**base, "seed": 1 + 2**32}) != first).sum() > 60


def test_out_is_filled_and_returned() -> None:
    out = np.full((3, 5), -1.0, np.float32)
    assert ss.random.uniform((3, 5), seed=1, step=0, stream=0, out=out) is out
    assert_same_bits(out.reshape(-1), reference.uniform(15, 1, 0, 0))


GOOD = {"seed": 0, "step": 0, "stream": 0}
READ_ONLY = np.ones(4, np.float32)
READ_ONLY.flags.writeable = False
BAD = [
    ({"seed": -1}, ValueError, "uniform: seed must be at least 0, got -1"),
    ({"seed": 2**64}, ValueError, "uniform: seed must be at most"),
    ({"seed": 1.0}, TypeError, "uniform: seed must be an integer, got 1.0"),
    ({"step": 2**32}, ValueError, "uniform: step must be at most"),
    ({"stream": -1}, ValueError, "uniform: stream must be at least 0, got -1"),
    ({"start": 2**64 - 3}, ValueError, "uniform: start must leave room for 4 elements below 2**64"),
    ({"out": np.ones(5, np.float32)}, ValueError, "uniform: out must have shape (4,), got (5,)"),
    ({"out": np.ones(4)}, TypeError, "uniform: out must be a float32 NumPy array"),
    ({"out": np.ones(4, ">f4")}, TypeError, "uniform: out must be a float32 NumPy array"),
    ({"out": np.ones(8, np.float32)[::2]}, ValueError, "uniform: out must be C-contiguous, got a strided array"),
    ({"out": READ_ONLY}, ValueError, "uniform: out must be writable, got a read-only array"),
    ({"out": misaligned(np.ones(4, np.float32))}, ValueError, "uniform: "),
    ({"out": [0.0] * 4}, TypeError, "uniform: out must be a float32 NumPy array"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments_are_named(arguments, kind, message) -> None:
    with pytest.raises(kind) as caught:
        ss.random.uniform(4, **{**GOOD, **arguments})
    assert message in str(caught.value)
    assert (READ_ONLY == 1).all()
