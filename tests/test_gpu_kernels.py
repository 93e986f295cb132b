"""The program that compute-sanitizer watches runs every kernel there is."""

import pytest

import gpu_kernels


@pytest.mark.slow
def test_every_kernel_runs_once(gpu):
    assert gpu
    gpu_kernels.main()
