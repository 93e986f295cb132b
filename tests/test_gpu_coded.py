"""Codecs of state of eight bits, a warp a block, against the oracle's bits."""

import ml_dtypes
import numpy as np
import pytest

import gpu_shim
from helpers import assert_same_bits
from quant_cases import numbers
from reference_codes import BLOCK, CodedType
from reference_random import random_words
from stepsmith.quant import Dynamic8, Float8

CODECS = {
    0: CodedType(Dynamic8(BLOCK), keeps=False),
    1: CodedType(Dynamic8(BLOCK, signed=False), keeps=True),
    2: CodedType(Float8("e4m3fn", BLOCK), keeps=False),
    3: CodedType(Float8("ue5m3", BLOCK), keeps=True),
}
"""``enum StateCodec`` of coded.cuh, and what the oracle calls it."""

NOT_FINITE = {0: [], 1: [], 2: [127, 255], 3: range(248, 256)}
"""Codes of no number."""

PROBE = """
KERNEL(state)(int codec, const float *x, const u32 *words, u32 *codes, float *scales, float *back, u64 blocks) {
    StateGrids grids = state_grids();
    __syncthreads();
    u64 block = (u64)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (block >= blocks) return;
    u32 at[2] = {4 * (threadIdx.x % WARP), 128 + 4 * (threadIdx.x % WARP)}, found[2], random[8];
    float numbers[8];
    for (int k = 0; k < 8; k++) numbers[k] = x[block * STATE_BLOCK + at[k / 4] + k % 4];
    for (int k = 0; k < 8; k++) random[k] = words ? words[block * STATE_BLOCK + at[k / 4] + k % 4] : 0;
    float scale = words ? encode_state_randomly(codec, grids, numbers, found, random)
                        : encode_state(codec, grids, numbers, found);
    scales[block] = scale;
    for (int k = 0; k < 2; k++) codes[(block * STATE_BLOCK + at[k]) / 4] = found[k];
    decode_state(codec, grids, found, scale, numbers);
    for (int k = 0; k < 8; k++) back[block * STATE_BLOCK + at[k / 4] + k % 4] = numbers[k];
}
"""


def run(gpu, codec, x, words=None):
    """Codes, scales and what they decode to; zeros behind the last number."""
    blocks = -(-x.size // BLOCK)
    whole = np.zeros(blocks * BLOCK, np.float32)
    whole[: x.size] = x
    if words is not None:
        words = gpu.asarray(np.resize(words, whole.size))
    codes, scales, back = (
        gpu.empty(whole.size, np.uint8),
        gpu.empty(blocks, np.float32),
        gpu.empty(whole.size, np.float32),
    )
    args = np.int32(codec), gpu.asarray(whole), words, codes, scales, back, np.uint64(blocks)
    gpu_shim.probe("coded.cuh", text=PROBE).get_function("state")((-(-blocks // 4),), (128,), args)
    return codes.get()[: x.size], scales.get(), back.get()[: x.size]


def samples():
    """Blocks of many kinds, among them some that are not finite; and every number that a code stands for."""
    rng = np.random.default_rng(3)
    x = numbers((7 * 1024 + 613,), np.dtype(np.float32))
    x[1027], x[3000], x[4100] = np.nan, np.inf, -np.inf
    kinds = [np.linspace(-1, 1, 1500), -np.abs(rng.standard_normal(300)), 10.0 ** rng.uniform(-9, 0, 4000)]
    near = np.array([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 448.0, 1e-30, 9.9e-31, 3e38, -3e38])
    return np.concatenate([x, *kinds, near]).astype(np.float32)


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("at_random", [False, True])
def test_codes_and_numbers_are_those_of_the_oracle(gpu, codec, at_random):
    x = samples()
    words = random_words(x.size, 7, 1, 2) if at_random else None
    codes, scales, back = run(gpu, codec, x, words)
    want = CODECS[codec].encode(x, words)
    assert_same_bits(scales, want.parts["scales"])
    assert_same_bits(codes, want.parts["codes"].view(np.uint8))
    assert_same_bits(back, want.astype(np.float32))


@pytest.mark.parametrize("codec", CODECS)
def test_what_lies_around_the_middles_goes_to_the_nearer_level(gpu, codec):
    finite = np.delete(np.arange(256, dtype=np.uint8), NOT_FINITE[codec])
    levels = np.unique(CODECS[codec].levels(finite)).astype(np.float64)
    middles = ((levels[1:] + levels[:-1]) / 2).astype(np.float32)
    around = [middles, np.nextafter(middles, np.float32(-np.inf)), np.nextafter(middles, np.float32(np.inf))]
    x = np.concatenate([*around, levels]).astype(np.float32)
    x = np.insert(x, np.arange(0, x.size, BLOCK - 1), np.float32(levels[-1]))
    codes, scales, _ = run(gpu, codec, x)
    want = CODECS[codec].encode(x)
    assert_same_bits(scales, want.parts["scales"])
    assert_same_bits(codes, want.parts["codes"].view(np.uint8))
    assert np.unique(codes).size >= levels.size


def test_the_values_are_those_of_the_core(gpu):
    for codec, name in ((0, "signed"), (1, "unsigned")):
        from reference_quant import GOLDEN

        values = GOLDEN[f"dynamic-map-{name}/map"]
        assert_same_bits(run(gpu, codec, values)[2], values)


def test_a_small_number_stays_above_zero(gpu):
    x = np.zeros(BLOCK, np.float32)
    x[:4] = 1, 1e-12, 1e-45, -1
    assert run(gpu, 1, x)[0][:5].tolist() == [255, 1, 1, 0, 0]
    assert run(gpu, 3, x)[0][:5].tolist() == [247, 1, 1, 0, 0]
    assert ml_dtypes.float8_e4m3fn(1) == run(gpu, 2, x)[2][0]
