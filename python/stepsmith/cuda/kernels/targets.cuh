// What a row ought to be: a label or probabilities, with smoothing, weights and rows that do not count; as rust/softmax/targets.rs.
// needs: elements.cuh

// What a call finds out on the device; mirrors `FINDINGS` of stepsmith/cuda/softmax.py.
struct Findings {
    u64 wrong;         // the first label that is no class, or all ones
    double divisor;    // of the sum of all losses
    double weight_sum; // of all classes
    double total;      // of all losses
};

// Mirrors `LABELS` there: a class for each row, none if there are probabilities.
struct Labels {
    const i64 *values;
    i64 ignored;
    int has_ignored;

    __device__ __forceinline__ bool is_ignored(u64 row) const { return values && has_ignored && values[row] == ignored; }
    __device__ __forceinline__ bool is_wrong(u64 row, u64 classes) const {
        return (u64)values[row] >= classes && !is_ignored(row);
    }
};

// Mirrors `SETTINGS` there.
struct Settings {
    u64 rows;
    u64 len;
    double keep; // 1 - smoothing
    double base; // smoothing / classes
};

const u64 NONE = 0xffffffffffffffffull;
