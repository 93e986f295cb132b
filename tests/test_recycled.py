"""Large results in the memory of those that died."""

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import stepsmith as ss
from stepsmith import _recycled
from stepsmith._recycled import LEAST, empty

FLOAT32 = np.dtype(np.float32)
COUNT = LEAST // 4
LIMIT = 256 << 20


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    ss.keep_memory(0)
    ss.keep_memory(LIMIT)
    yield
    ss.keep_memory(0)
    ss.keep_memory(LIMIT)


def place(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def kept() -> int:
    gc.collect()
    return sum(block.nbytes for block in _recycled._kept.blocks)


def test_a_result_takes_the_memory_of_one_that_died() -> None:
    x = np.ones((LEAST // 256, 64), np.float32)
    first, _ = ss.norm.layer_norm(x)
    at, address = first[5:].T, place(first)
    del first, _
    assert kept() == 0
    second, _ = ss.norm.layer_norm(x)
    assert place(second) != address
    assert not at.any()
    del at
    assert kept() == x.nbytes
    third, _ = ss.norm.layer_norm(x + 1)
    assert place(third) == address
    assert kept() == 0
    assert third.flags.c_contiguous
    assert third.flags.aligned
    assert third.flags.writeable
    assert place(third) % 64 == 0


def test_small_arrays_are_numpys() -> None:
    small = empty((COUNT - 1,), FLOAT32)
    assert small.flags.owndata
    del small
    assert kept() == 0


def test_another_size_or_dtype() -> None:
    array = empty((COUNT,), FLOAT32)
    address = place(array)
    del array
    assert place(empty((COUNT + 1,), FLOAT32)) != address
    half = empty((2, COUNT // 4), np.dtype(np.float64))
    assert place(half) == address
    assert (half.shape, half.dtype) == ((2, COUNT // 4), np.float64)


def test_the_oldest_is_let_go_beyond_the_limit() -> None:
    ss.keep_memory(2 * LEAST)
    arrays = [empty((COUNT,), FLOAT32) for _ in range(3)]
    addresses = [place(array) for array in arrays]
    while arrays:
        arrays.pop(0)
    assert kept() == 2 * LEAST
    assert [place(block) for block in _recycled._kept.blocks] == addresses[1:]
    ss.keep_memory(LEAST)
    assert kept() == LEAST
    ss.keep_memory(0)
    assert kept() == 0
    assert empty((COUNT,), FLOAT32).flags.owndata
    assert kept() == 0


def test_no_two_threads_get_the_same_memory() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            array = empty((COUNT,), FLOAT32)
            array[:: COUNT // 8] = number
            if (array[:: COUNT // 8] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert kept() <= LIMIT


def test_a_limit_is_a_number_of_bytes() -> None:
    with pytest.raises(ValueError, match="keep_memory: limit must be at least 0, got -1"):
        ss.keep_memory(-1)
    with pytest.raises(TypeError, match=r"keep_memory: limit must be an integer, got 1\.5"):
        ss.keep_memory(1.5)  # type: ignore[arg-type]
