// What an array has: its largest magnitude, infinity being the largest number, and the place of its first NaN; see rust/quant/codec.rs.
// needs: finite.cuh scaled.cuh

KERNEL(survey)(Array x, u64 n, u64 *largest, u64 *first_nan) {
    u32 found = 0;
    for (u64 i = first_quad(); i < n; i += quad_stride()) {
        float numbers[4];
        load_finite(x, i, n, true, first_nan, numbers);
        u32 own = largest_bits(numbers);
        found = own > found ? own : found;
    }
    found = largest_of_lanes(found, WARP);
    if (threadIdx.x % WARP == 0 && found > 0) atomicMax(largest, (u64)found);
}
