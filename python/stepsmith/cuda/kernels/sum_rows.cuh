// Sums of rows with equal indices, in the order of the rows: the gradient of a table whose rows were taken.
// needs: elements.cuh divide.cuh

// `order` has the rows sorted by index, equal ones in their own order, and `starts` where those of an index begin and the last end.
template <class T>
__device__ __forceinline__ void sum_rows(const Array &sums, const Array &rows, const i64 *order, const i64 *starts,
                                         const Divisor &features, u64 count) {
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x) {
        u64 index = quotient(i, features), feature = i - index * features.n;
        T sum = T(0);
        for (i64 k = starts[index]; k < starts[index + 1]; k++) sum += load_element<T>(rows, (u64)order[k] * features.n + feature);
        store_element<T>(sums, i, sum);
    }
}

#define SUM_ROWS(T, suffix) \
    KERNEL(sum_rows_##suffix)(Array sums, Array rows, const i64 *order, const i64 *starts, Divisor features, u64 count) { \
        sum_rows<T>(sums, rows, order, starts, features, count); \
    }

SUM_ROWS(float, f32)
SUM_ROWS(double, f64)
