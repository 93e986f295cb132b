"""The tools that run kernels without a GPU: they must be able to fail."""

import numpy as np
import pytest

import gpu_shim
from gpu_shim.host import RawModule, compiled

# A sum over a block by way of shared memory: without the first barrier a warp reads what others have not written yet,
# without the second one a warp overwrites what others have not read yet.
SUMS = """
KERNEL(sums)(const float *x, float *y) {
    SHARED(float, part, 8);
    for (int round = 0; round < 2; round++) {
        float sum = x[round * 256 + threadIdx.x];
        for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
        if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
        BARRIER_AFTER_WRITE;
        sum = 0.0f;
        for (int k = 0; k < 8; k++) sum += part[k];
        if (threadIdx.x % 32 == 0) y[round * 8 + threadIdx.x / 32] = sum;
        BARRIER_AFTER_READ;
    }
}
"""
HEAD = '#define KERNEL(name) extern "C" __global__ void name\n'


@pytest.fixture(autouse=True)
def _stand_in():
    with gpu_shim.installed():
        yield


def run(source, *arrays, block=256, defines=()):
    import cupy

    kernel = RawModule(path=str(compiled(HEAD + source, defines))).get_function(
        source.split("KERNEL(")[1].split(")")[0]
    )
    given = [cupy.asarray(array) for array in arrays]
    kernel((1,), (block,), tuple(given))
    return [array.get() for array in given]


def sums(after_write="__syncthreads()", after_read="__syncthreads()"):
    x = np.arange(512, dtype=np.float32)
    defines = (f"BARRIER_AFTER_WRITE={after_write}", f"BARRIER_AFTER_READ={after_read}")
    results = []
    for name in gpu_shim.SCHEDULES:
        with gpu_shim.schedule(name):
            results.append(run(SUMS, x, np.zeros(16, np.float32), defines=defines)[1])
    want = np.repeat(x.reshape(2, 256).sum(axis=1), 8)
    return [bool((result == want).all()) for result in results]


def test_barriers_and_shuffles_work_in_every_order():
    assert sums() == [True] * len(gpu_shim.SCHEDULES)


@pytest.mark.parametrize("missing", ["after_write", "after_read"])
def test_a_missing_barrier_shows_in_some_order(missing):
    assert not all(sums(**{missing: ""}))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("if (threadIdx.x < 32) __syncthreads();", "__syncthreads is reached by a part"),
        ("if (threadIdx.x < 40) __shfl_xor_sync(0xffffffffu, 1, 1);", "deadlock"),
        ("__shfl_xor_sync(0xffffu, 1, 1);", "must name all lanes"),
        ("if (threadIdx.x % 2) __syncthreads(); else __syncwarp();", "deadlock"),
    ],
)
@pytest.mark.parametrize("order", gpu_shim.SCHEDULES)
def test_threads_that_part_at_a_barrier_are_an_error(body, says, order):
    with gpu_shim.schedule(order), pytest.raises(RuntimeError, match=says):
        run(f"KERNEL(parting)(float *x) {{ {body} x[0] = 1; }}", np.zeros(1, np.float32), block=64)


def test_shared_memory_starts_as_poison():
    source = "KERNEL(unwritten)(float *x) { SHARED_ARRAY; x[threadIdx.x] = part[threadIdx.x]; }"
    (x,) = run(source, np.zeros(64, np.float32), block=64, defines=("SHARED_ARRAY=SHARED(float,part,64)",))
    assert np.isnan(x).all()


def test_a_write_behind_an_array_is_found():
    from gpu_shim.memory import check_borders

    x = np.zeros(4, np.float32)
    run("KERNEL(inside)(float *x) { if (threadIdx.x == 0) x[3] = 1; }", x, block=32)
    check_borders()
    source = "KERNEL(outside)(float *x) { if (threadIdx.x == 0) x[4] = 1; }"
    import cupy

    array = cupy.asarray(x)
    RawModule(path=str(compiled(HEAD + source))).get_function("outside")((1,), (32,), (array,))
    with pytest.raises(RuntimeError, match="outside of an array's memory"):
        check_borders()
    array.data.mem._borders[1][:4] = 0xA5  # mended, so that no later test finds it
