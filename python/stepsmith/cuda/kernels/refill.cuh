// Brings the scalars of updates first..first + count into the table that steps take them from; see control.cuh.
// needs: control.cuh

KERNEL(refill)(double *table, u64 width, const double *rows, u64 first, u64 count, int clears) {
    u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < RING * width; i += stride) {
        u64 slot = i / width, column = i - slot * width;
        u64 row = (slot - first) % RING; // of the update that belongs there
        if (row < count) {
            table[i] = rows[row * width + column];
        } else if (clears && column == 0) {
            table[i] = __longlong_as_double((i64)NOTHING);
        }
    }
}
