// A row: one tensor of a step, its arrays as addresses and the order in which their elements are visited; as rust/optim/row.rs.
// needs: storage.cuh

const int MOST_STATE = 4;

// Places of a row's operands; the state's slots are in between.
enum Operand : int { PARAM, GRAD, STATE, EMA = STATE + MOST_STATE, SHADOW, OPERANDS };

// Mirrors `ROW` of stepsmith/cuda/optim/structs.py; an address of 0 is an array that is not there.
struct Row {
    u64 len;
    u64 unit;  // elements of what belongs to one index of the first axis; all of them below two axes
    u64 block; // its first block of 4,096 among the blocks of all rows
    u64 first; // its first element among the elements of all rows
    u64 data[OPERANDS]; // the first element in the row's order
    u64 codes[MOST_STATE], scales[MOST_STATE];
    u64 kept; // a bit an element in C order
    u64 walk; // for each axis of the row's order its length, then for each operand the bytes from one element to the next
    u64 grad, grad_walk; // the gradient in C order: its first element; for each axis its length and the bytes
    u64 unit_factors, unit_block; // a number a unit; the first block of its units among the blocks of all rows' units
    u64 means[2], mean_sums[2]; // stored means over rows and over columns; room for a number a row, and a number a column
    u64 partials; // room for a number for each column of each 64 rows
    u64 height, width, count; // of its matrices, if its second moment is factored
    int dtypes[OPERANDS];
    int codecs[MOST_STATE]; // StateCodec of those that have codes
    int mean_dtype;
    int compute; // F32 or F64
    int axes;    // of the row's order; 0: every array is dense in it
    int quads;   // a bit for each operand: is it dense in the row's order, four elements on a boundary of their own size?
    int grad_axes, grad_quads; // the same for the gradient in C order
    u32 tensor;  // its index in the optimizer
    u32 cohort;
    int plain; // are all arrays stored as they are computed, in quads, and nothing but parameter, gradient and state there?
    int unused;
};

__device__ __forceinline__ bool has(const Row &row, int k) { return row.dtypes[k] != ABSENT; }

// A quotient. Most fit into 32 bits; others are worked out bit by bit, which takes fewer registers than a division does.
__device__ __forceinline__ u64 quotient(u64 a, u64 b) {
    if (!((a | b) >> 32)) return (u32)a / (u32)b;
    u64 result = 0, rest = 0;
#pragma unroll 1
    for (int bit = 63; bit >= 0; bit--) {
        rest = rest << 1 | (a >> bit & 1);
        result = result << 1 | (rest >= b);
        rest -= rest >= b ? b : 0;
    }
    return result;
}

// Where element `i` of operand `k` lies. Calls, here and below, keep what is seldom used small.
__device__ __noinline__ u64 place_of(const Row &row, int k, u64 i) {
    u64 place = row.data[k];
    if (row.axes == 0) return place + i * item_size(row.dtypes[k]);
    const i64 *walk = global<const i64>(row.walk);
    for (int axis = row.axes - 1; axis >= 0; axis--) {
        const i64 *numbers = walk + axis * (1 + OPERANDS);
        u64 rest = quotient(i, (u64)numbers[0]);
        place += (u64)((i64)(i - rest * (u64)numbers[0]) * numbers[1 + k]);
        i = rest;
    }
    return place;
}

template <class T> __device__ __noinline__ T load_element(const Row &row, int k, u64 i) {
    return load_at<T>(place_of(row, k, i), row.dtypes[k]);
}

template <class T> __device__ __noinline__ void store_element(const Row &row, int k, u64 i, T x) {
    store_at<T>(place_of(row, k, i), row.dtypes[k], x);
}

// Where element `i` of the gradient lies, counted in C order.
__device__ __forceinline__ u64 place_of_grad(const Row &row, u64 i) {
    if (row.grad_axes == 0) return row.grad + i * item_size(row.dtypes[GRAD]);
    u64 place = row.grad;
    const i64 *walk = global<const i64>(row.grad_walk);
    for (int axis = row.grad_axes - 1; axis >= 0; axis--) {
        u64 rest = quotient(i, (u64)walk[2 * axis]);
        place += (u64)((i64)(i - rest * (u64)walk[2 * axis]) * walk[2 * axis + 1]);
        i = rest;
    }
    return place;
}

// Elements i..i + 4 of the gradient in C order, `i` being a multiple of four; zeros behind the last one.
template <class T> __device__ __forceinline__ void load_grad4(const Row &row, u64 i, T (&x)[4]) {
    if (row.grad_quads && i + 4 <= row.len) return load_quad<T>(row.grad + i * item_size(row.dtypes[GRAD]), row.dtypes[GRAD], x);
#pragma unroll
    for (int e = 0; e < 4; e++) x[e] = i + e < row.len ? load_at<T>(place_of_grad(row, i + e), row.dtypes[GRAD]) : T(0);
}

__device__ __forceinline__ bool is_kept(const Row &row, u64 i) {
    return !row.kept || global<const u8>(row.kept)[i / 8] >> (i % 8) & 1;
}

// Which elements are kept from element `i` on, a bit each; those up to the next multiple of eight.
__device__ __forceinline__ u32 kept_from(const Row &row, u64 i) {
    return row.kept ? (u32)global<const u8>(row.kept)[i / 8] >> (i % 8) : 0xffu;
}
