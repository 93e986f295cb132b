"""Every optimizer with arrays of the device equals the oracle: the whole matrix of the CPU's tests."""

import pytest

from battery_gpu import PARTS, run


@pytest.mark.parametrize("part", ["stages alone norm-inf", "stages alone state-float8-random"])
def test_some_parts_equal_the_oracle(gpu, part):
    assert gpu
    assert run(part) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_every_part_equals_the_oracle(gpu, part):
    assert gpu
    assert run(part) == []
