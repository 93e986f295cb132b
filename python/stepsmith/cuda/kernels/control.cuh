// What the device knows of an optimizer from step to step: the count of updates, the scalars of the coming ones, what stopped a step.
//
// The host never waits in a step: it launches, and reads in its own memory what the last kernel of a step tells it there (`News`).
// needs: rows.cuh reduce.cuh

// Updates whose scalars are in the table at once.
const u64 RING = 256;

const u64 NOTHING = ~0ull;

enum Problem : u32 { NO_PROBLEM, NON_FINITE, NORM_OVERFLOW, PAST_TABLE };

// How gradients become one number: `_core.reduce`'s kinds.
enum Reduction : int { NO_NORM, SUM_ABS, SUM_SQUARES, MAX_ABS, SUM };

// Mirrors `CONTROL` of stepsmith/cuda/optim/structs.py. One an optimizer, in the device's memory.
struct Control {
    u64 updates; // steps that were written
    u64 steps;   // steps that ended, written or not
    // What an examination of the gradients finds; the step's last kernel clears it.
    u64 first_bad; // among the elements of all rows, NOTHING if all are finite
    u64 largest[2]; // bits of the largest magnitudes: of rows computed in float32, and in float64
    double sum, norm, clip; // `sum`: what the gradients were reduced to
    double first, second; // what gradients are multiplied by, before and after values are clipped
    u32 stops; // this step writes nothing
    u32 ended; // blocks of a launch that have ended
    // What went wrong, until the host has seen it: no step writes anything before.
    u32 problem;
    u32 tensor;
    u64 element;
    double value, grad_scale;
};

// What became of a step; mirrors `REPORT`.
struct Report {
    double norm;
    u64 updates; // after it
    u32 stopped;
    u32 problem;
};

// What the host reads without waiting, in its own memory; mirrors `NEWS`.
struct News {
    volatile u64 updates, steps, problem;
};

// What a step is told; mirrors `PASS`. Addresses are of the device's memory but for `news`.
struct Pass {
    const Row *rows;
    const u64 *chunks; // row << 32 | block of 4,096 of the row
    u64 chunk_count;
    u64 row_count;
    u64 block_count; // blocks of 4,096 of all rows
    u64 unit_block_count;
    Control *control;
    const double *table; // RING slots of `slot_width` numbers: bits of the update, then for each cohort scalars and sign
    u64 slot_width;
    u64 scalar_count; // of a cohort
    Report *report;
    News *news;
    double *partials; // room for two numbers for each block of 4,096, of rows and of units
    double *norms;    // for each row those of the parameter and of what the rule measures
    double grad_scale, first, second; // the factors that hold unless the gradients are examined
    double clip_value, max_norm, agc, ema_weight;
    u64 rounding_seed, state_rounding_seed;
    int checks_finite, clips_values, norm, clips_units; // the examination's questions; `norm` is a Reduction
    int is_examined;
    int skips; // a step that must not be written is left out; it is a problem else
    int rounds, rounds_state;
    int zeroes_grads;
    int only_rule; // a rehearsal: nothing follows the rule, and it is not counted
    int is_last;   // is it the step's last launch?
    int has_codes; // is some state array coded?
};

__device__ __forceinline__ const double *slot_of(const Pass &pass, u64 updates) {
    return pass.table + updates % RING * pass.slot_width;
}

__device__ __forceinline__ bool is_past_table(const Pass &pass, u64 updates) {
    return (u64)__double_as_longlong(slot_of(pass, updates)[0]) != updates;
}

// May the step go on? The same for all threads of a launch.
__device__ __forceinline__ bool may_step(const Pass &pass) {
    const Control &control = *pass.control;
    return !control.stops && !control.problem && !is_past_table(pass, control.updates);
}

// The scalars of a cohort at this update; its sign stands behind them.
__device__ __forceinline__ const double *scalars_of(const Pass &pass, u32 cohort) {
    return slot_of(pass, pass.control->updates) + 1 + cohort * (pass.scalar_count + 1);
}

__device__ __forceinline__ double sign_of(const Pass &pass, u32 cohort) { return scalars_of(pass, cohort)[pass.scalar_count]; }

// Is this block the last of its launch to come here, so that it sees what all others wrote? For all threads of the block.
__device__ __forceinline__ bool is_last_block(const Pass &pass) {
    SHARED(u32, is_last, 1);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        is_last[0] = atomicAdd(&pass.control->ended, 1u) == gridDim.x - 1;
        if (is_last[0]) pass.control->ended = 0;
    }
    __syncthreads();
    __threadfence();
    return is_last[0];
}

// Makes the step one that writes nothing, for a reason.
__device__ __forceinline__ void stop(const Pass &pass, Problem problem) {
    pass.control->stops = 1;
    if (!pass.skips || problem == PAST_TABLE) pass.control->problem = problem;
}

// Ends a step, by one thread of the last block of its last launch: counts it, tells the host, and forgets what was seen of it.
__device__ __forceinline__ void end_step(const Pass &pass) {
    Control &control = *pass.control;
    if (!control.problem && !control.stops && is_past_table(pass, control.updates)) stop(pass, PAST_TABLE);
    bool stopped = control.stops || control.problem;
    if (!stopped) control.updates++;
    control.steps++;
    *pass.report = {control.norm, control.updates, stopped, control.problem};
    pass.news->updates = control.updates;
    pass.news->problem = control.problem;
    __threadfence_system();
    pass.news->steps = control.steps;
    control.first_bad = NOTHING;
    control.largest[0] = control.largest[1] = 0;
    control.stops = 0;
}
