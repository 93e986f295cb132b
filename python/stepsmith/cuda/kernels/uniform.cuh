// Uniform numbers in [0, 1) for elements start..start + n.
// needs: arrays.cuh random.cuh

KERNEL(uniform)(Array out, u64 n, u64 seed, u32 step, u32 stream, u64 start) {
    Philox philox = {seed, step, stream};
    for (u64 i = first_quad(); i < n; i += quad_stride()) {
        u32 words[4];
        float x[4];
        philox_quad(philox, start + i, words);
#pragma unroll
        for (int k = 0; k < 4; k++) x[k] = uniform_of(words[k]);
        store4<float>(out, i, n, x);
    }
}
