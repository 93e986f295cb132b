// Which scale belongs to an element; see rust/quant/affine/place.rs.
// needs: geometry.cuh

// Mirrors `PLACE` of stepsmith/cuda/quant/affine.py. Runs of elements that share a scale follow each other, in turn those of all
// channels; with rows that are no whole groups each row begins a run.
struct Place {
    u64 run;      // elements
    u64 channels; // 0: each run has a scale of its own
    u64 row;      // elements of a row that is no whole groups, else 0
    u64 runs_of_row;
};

// The scale of an element, and elements from it on that share it.
struct Run {
    u64 step, left;
};

__device__ __forceinline__ Run run_of(const Place &place, u64 i) {
    if (place.channels == 1) return {0, ~0ull};
    u64 first = 0;
    if (place.row) {
        u64 row = quotient(i, place.row);
        i -= row * place.row, first = row * place.runs_of_row;
    }
    u64 run = quotient(i, place.run), turn = place.channels ? quotient(run, place.channels) * place.channels : 0;
    return {first + run - turn, (run + 1) * place.run - i};
}

// That of the next element of the same row.
__device__ __forceinline__ void advance(const Place &place, Run &run) {
    if (--run.left) return;
    run.step = run.step + 1 == place.channels ? 0 : run.step + 1;
    run.left = place.run;
}
