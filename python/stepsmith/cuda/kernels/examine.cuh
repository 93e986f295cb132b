// The one read of the gradients before a step: the check, norms by fixed-shape sums, the largest magnitude, and the factors that
// they give; as rust/optim/gradients.rs, norm.rs and survey.rs. A warp reads a block of 4,096; the last block of threads judges.
// needs: totals.cuh fold.cuh

// Quads that a lane asks for at once.
const int AT_ONCE = 4;

// What a lane has seen.
template <class T> struct Seen {
    u64 bad; // the first element that is not finite, among the elements of all rows
    typename Float<T>::Bits largest;
    Lanes lanes; // of the block that is being read
};

// What the gradients are multiplied by, and clamped to.
template <class T> struct Range {
    T inverse, limit;
};

__device__ __forceinline__ bool sums(const Pass &pass) { return pass.norm != NO_NORM && pass.norm != MAX_ABS; }

__device__ __forceinline__ double term(int norm, double x) {
    return norm == SUM_SQUARES ? x * x : norm == SUM_ABS ? magnitude(x) : x;
}

template <class T> __device__ __forceinline__ void load_grads(const Row &row, u64 i, T (&x)[AT_ONCE][4]) {
    if (row.grad_quads && i + (AT_ONCE - 1) * LANES + 4 <= row.len) {
        u32 item = item_size(row.dtypes[GRAD]);
        return load_quads<T>(row.grad + i * item, LANES * item, row.dtypes[GRAD], x);
    }
#pragma unroll
    for (int q = 0; q < AT_ONCE; q++) load_grad4<T>(row, i + q * LANES, x[q]);
}

template <class T> __device__ __forceinline__ typename Float<T>::Bits largest_bits(typename Float<T>::Bits most, const T (&x)[4]) {
#pragma unroll
    for (int e = 0; e < 4; e++) most = bits_of(magnitude(x[e])) > most ? bits_of(magnitude(x[e])) : most;
    return most;
}

// Finds the first of four that is kept and not finite.
template <class T> __device__ __forceinline__ u64 first_bad_of(const Row &row, u64 i, u32 kept, const T (&x)[4]) {
    u64 bad = NOTHING;
#pragma unroll
    for (int e = 3; e >= 0; e--)
        if (i + e < row.len && kept >> e & 1 && !is_finite(x[e])) bad = row.first + i + e;
    return bad;
}

// Pruned elements are left out of everything, and are zeros in sums.
template <class T>
__device__ __forceinline__ void look(const Pass &pass, const Row &row, const Range<T> &range, u64 i, T (&x)[4], Seen<T> &seen) {
    u32 kept = i < row.len ? kept_from(row, i) : 0;
    keep(kept, x);
    if (pass.norm == MAX_ABS) seen.largest = largest_bits(seen.largest, x);
    if (!pass.checks_finite && !sums(pass)) return;
    T scaled[4];
#pragma unroll
    for (int e = 0; e < 4; e++) scaled[e] = x[e] * range.inverse;
    if (pass.checks_finite && largest_bits<T>(0, scaled) >= Float<T>::INFINITE) {
        u64 bad = first_bad_of(row, i, kept, scaled);
        seen.bad = bad < seen.bad ? bad : seen.bad;
    }
    if (!sums(pass)) return;
#pragma unroll
    for (int e = 0; e < 4; e++) {
        T y = pass.clips_values ? clamped(scaled[e], range.limit) : x[e];
        // An infinite factor made NaN of the zeros behind the last element.
        seen.lanes.sums[e] += i + e < row.len ? term(pass.norm, (double)y) : 0.0;
    }
}

// A block by a warp.
template <class T>
__device__ __forceinline__ void look_at_block(const Pass &pass, const Row &row, const Range<T> &range, u64 block, Seen<T> &seen) {
    u64 start = block * BLOCK, end = start + BLOCK < row.len ? start + BLOCK : row.len;
    seen.lanes = {{0.0, 0.0, 0.0, 0.0}};
    for (u64 at = start; at < end; at += AT_ONCE * LANES) {
        u64 i = at + 4 * lane_of_warp();
        T x[AT_ONCE][4];
        load_grads(row, i, x);
#pragma unroll
        for (int q = 0; q < AT_ONCE; q++) look(pass, row, range, i + q * LANES, x[q], seen);
    }
    if (!sums(pass)) return;
    double sum = fold(seen.lanes);
    if (lane_of_warp() == 0) pass.partials[row.block + block] = sum;
}

// What the warp saw, to all others.
template <class T> __device__ __forceinline__ void tell(const Pass &pass, const Seen<T> &seen) {
    if (pass.checks_finite && seen.bad != NOTHING) atomicMin(&pass.control->first_bad, seen.bad);
    if (pass.norm != MAX_ABS) return;
    auto largest = seen.largest;
#pragma unroll
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        auto other = __shfl_xor_sync(EVERY_LANE, largest, lanes);
        if (other > largest) largest = other;
    }
    if (lane_of_warp() == 0) atomicMax(&pass.control->largest[sizeof(T) == 8], (u64)largest);
}

// The first bad element by tensor, place in C order, and value.
__device__ __forceinline__ void name_first_bad(const Pass &pass) {
    Control &control = *pass.control;
    u64 low = 0, high = pass.row_count;
    while (high - low > 1) {
        u64 middle = (low + high) / 2;
        (pass.rows[middle].first <= control.first_bad ? low : high) = middle;
    }
    const Row &row = pass.rows[low];
    u64 i = control.first_bad - row.first, place = place_of_grad(row, i);
    control.tensor = row.tensor;
    control.element = i;
    control.value = row.compute == F64 ? load_at<double>(place, row.dtypes[GRAD]) : (double)load_at<float>(place, row.dtypes[GRAD]);
    control.grad_scale = pass.grad_scale;
}

// The larger of two magnitudes, NaN if either is NaN.
__device__ __forceinline__ double larger_magnitude(double a, double b) { return bits_of(a) > bits_of(b) ? a : b; }

// Of the gradients as they are.
__device__ __forceinline__ double largest_of(const Control &control) {
    return larger_magnitude((double)Float<float>::of((u32)control.largest[0]), Float<double>::of(control.largest[1]));
}

// After multiplying and clipping, in the compute types.
__device__ __forceinline__ double largest_clipped(const Pass &pass) {
    double factor = magnitude(1.0 / pass.grad_scale), limit = (double)(float)pass.clip_value;
    double a = (double)(Float<float>::of((u32)pass.control->largest[0]) * (float)factor);
    double b = Float<double>::of(pass.control->largest[1]) * factor;
    return larger_magnitude(a > limit ? limit : a, b > pass.clip_value ? pass.clip_value : b);
}

__device__ __forceinline__ double norm_of(const Pass &pass, double sum) {
    if (pass.norm == MAX_ABS && pass.clips_values) return largest_clipped(pass);
    double norm = pass.norm == SUM_SQUARES ? square_root(sum) : sum;
    return pass.clips_values ? norm : norm / magnitude(pass.grad_scale);
}

// min(1, max_norm / (norm + 1e-6)), NaN for a norm that is NaN; 1 without a limit.
__device__ __forceinline__ double clip_factor(const Pass &pass, double norm) {
    if (pass.norm == NO_NORM) return 1.0;
    double factor = pass.max_norm / (norm + 1e-6);
    return factor > 1.0 ? 1.0 : factor;
}

// Whether the step may be written, and what gradients are multiplied by; by one thread.
__device__ __forceinline__ void judge(const Pass &pass, double sum) {
    Control &control = *pass.control;
    if (control.problem) return; // the host has yet to see what that says
    control.sum = pass.norm == MAX_ABS ? largest_of(control) : sum;
    control.norm = pass.norm == NO_NORM ? 0.0 : norm_of(pass, control.sum);
    if (pass.checks_finite && control.first_bad != NOTHING) {
        name_first_bad(pass);
        stop(pass, NON_FINITE);
    } else if (pass.checks_finite && !is_finite(control.norm)) {
        control.value = control.norm;
        stop(pass, NORM_OVERFLOW);
    }
    control.clip = clip_factor(pass, control.norm);
    control.first = pass.clips_values ? 1.0 / pass.grad_scale : control.clip / pass.grad_scale;
    control.second = pass.clips_values ? control.clip : 1.0;
}

template <class T> __device__ __forceinline__ void examine(const Pass &pass) {
    Range<T> range = {(T)(1.0 / pass.grad_scale), (T)pass.clip_value};
    Seen<T> seen = {NOTHING, 0, {{0.0, 0.0, 0.0, 0.0}}};
    for (u64 k = first_warp(); k < pass.chunk_count; k += warp_stride())
        look_at_block(pass, pass.rows[pass.chunks[k] >> 32], range, pass.chunks[k] & 0xffffffffu, seen);
    tell(pass, seen);
    if (!pass.is_last || !is_last_block(pass)) return;
    double sum = 0.0;
    if (sums(pass)) {
        fold_rows(pass, pass.partials, pass.norms);
        if (warp_of_block() == 0) sum = total_of_rows(pass.norms, pass.row_count);
    }
    if (threadIdx.x == 0) judge(pass, sum);
}

KERNEL(examine_f32)(const __grid_constant__ Pass pass) { examine<float>(pass); }
KERNEL(examine_f64)(const __grid_constant__ Pass pass) { examine<double>(pass); }
