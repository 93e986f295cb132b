// Cross entropy of the softmax, and its gradient in the same pass; the same as rust/softmax/cross_entropy.rs.
//
// With targets q' = q·(1 - smoothing) + smoothing / classes and class weights w, a row's loss is Σ w·q'·(log(s) - (x - m)) in
// float64. Its gradient is e·(scale·W / s) - w·q'·scale in the compute type, W = Σ w·q', scale = 1 / divisor.
// needs: row_sums.cuh math.cuh targets.cuh

enum Step : int { LARGEST, ADD, EXPECT, WRITE };

// One call.
template <class T> struct Pass {
    const Settings &settings;
    const Labels &labels;
    const Array &dx, &x, &q;
    const T *weight;
    double *losses;
    const Findings *findings;

    __device__ __forceinline__ double wide_weight(u64 place) const { return weight ? (double)weight[place] : 1.0; }

    // A row is read for the largest element, for the sum, for what its loss adds up unless that is one element, and for the
    // gradient.
    __device__ __forceinline__ void row(const Team &team) const {
        const u64 len = settings.len;
        const bool has_labels = labels.values, is_ignored = team.is_there && labels.is_ignored(team.row);
        const bool is_smooth = settings.base > 0.0, counts = has_labels && team.is_there && !is_ignored;
        const double scale = 1.0 / findings->divisor;
        const u64 label = counts ? (u64)labels.values[team.row] : NONE;
        const double share = counts ? settings.keep * wide_weight(label) : 0.0;
        const double at_label = counts ? (double)load_element<T>(x, team.row * len + label) : 0.0;
        T max = -infinity<T>(), factor = T(0);
        double sum = 0.0, log = 0.0, sums[2] = {0.0, 0.0}; // of w·q' and of the losses; of labels' the second one alone
#pragma unroll 1
        for (int step = LARGEST; step <= WRITE; step++) {
            if (step == EXPECT && has_labels && !is_smooth) continue;
            if (step == WRITE && is_absent(dx)) break;
#pragma unroll 1
            for (u64 at = 0; at < len; at += SEGMENT) {
                const u32 n = len - at < SEGMENT ? (u32)(len - at) : SEGMENT;
                const u64 start = team.row * len + at;
                double of_segment[2];
                team.go(n, step == ADD || step == EXPECT, of_segment, [&](u32 i, u32 count, double(&terms)[2][4]) {
                    T own[4], target[4];
                    load_some(x, start + i, count, own);
                    if (step >= EXPECT && !has_labels) load_some(q, start + i, count, target);
#pragma unroll
                    for (u32 k = 0; k < 4; k++) {
                        const u64 place = at + i + k;
                        if (k >= count) break;
                        if (step == LARGEST) max = larger(own[k], max);
                        double surprise = log - ((double)own[k] - (double)max);
                        if (step == EXPECT) expect(place, surprise, target[k], terms[0][k], terms[1][k]);
                        if (step == LARGEST || step == EXPECT) continue;
                        T e = exponential(own[k] - max);
                        terms[0][k] = (double)e;
                        if (step == WRITE) own[k] = gradient(place, e * factor, target[k], scale, is_ignored, label, share);
                    }
                    if (step == WRITE) store_some(dx, start + i, count, own);
                });
                if (step == ADD) sum += of_segment[0];
                if (step == EXPECT) sums[0] += of_segment[0], sums[1] += of_segment[1];
            }
            if (step == LARGEST) max = team.largest(max);
            if (step == ADD) log = logarithm(sum);
            const bool is_known = step == EXPECT || (step == ADD && has_labels && !is_smooth);
            if (!is_known) continue;
            double loss = 0.0 + share * (log - (at_label - (double)max));
            factor = finish(team, sums, sum, 0.0 + share, loss, scale);
        }
    }

    // Of one element: w·q' and its loss, or with a label what smoothing adds but for its share.
    __device__ __forceinline__ void expect(u64 place, double surprise, T q, double &expected, double &loss) const {
        if (labels.values) {
            loss = weight ? (double)weight[place] * surprise : surprise;
            return;
        }
        expected = ((double)q * settings.keep + settings.base) * wide_weight(place);
        loss = expected * surprise;
    }

    // Notes the row's loss and returns by what its exponentials are multiplied: scale·W / s.
    __device__ __forceinline__ T finish(const Team &team, const double (&sums)[2], double sum, double share, double own,
                                        double scale) const {
        double loss = sums[1], expected = sums[0];
        if (labels.values) {
            loss = own, expected = share;
            if (settings.base > 0.0) loss += settings.base * sums[1], expected += settings.base * findings->weight_sum;
        }
        bool is_ignored = team.is_there && labels.is_ignored(team.row);
        if (team.is_writer()) losses[team.row] = is_ignored ? 0.0 : loss;
        return (T)((is_ignored ? 0.0 : scale * expected) / sum);
    }

    __device__ __forceinline__ T gradient(u64 place, T scaled, T q, double scale, bool is_ignored, u64 label, double share) const {
        if (!labels.values) {
            T expected = (q * (T)settings.keep + (T)settings.base) * (weight ? weight[place] : T(1));
            return scaled - expected * (T)scale;
        }
        if (settings.base > 0.0 && !is_ignored) scaled = scaled - (T)(scale * (settings.base * wide_weight(place)));
        // Rounded once: float64 has more than twice the digits of float32.
        return place == label ? (T)((double)scaled - (double)(T)(scale * share)) : scaled;
    }
};

#define CROSS_ENTROPY_KERNEL(T, suffix) \
    ROWS_KERNEL(cross_entropy_##suffix)(Settings settings, Labels labels, Array dx, Array x, Array q, const T *weight, \
                                        double *losses, const Findings *findings, u32 shift) { \
        SHARED(double, room, Team::ROOM); \
        Team team(settings.rows, shift, room); \
        if (findings->wrong == NONE) Pass<T>{settings, labels, dx, x, q, weight, losses, findings}.row(team); \
    } \
    KERNEL(weigh_labels_##suffix)(Settings settings, Labels labels, const T *weight, double *weights, const Findings *findings) { \
        u64 row = (u64)blockIdx.x * blockDim.x + threadIdx.x; \
        if (row >= settings.rows || findings->wrong != NONE) return; \
        weights[row] = labels.is_ignored(row) ? 0.0 : weight ? (double)weight[labels.values[row]] : 1.0; \
    } \
    ROWS_KERNEL(add_numbers_##suffix)(const T *numbers, u64 count, double *total) { \
        SHARED(double, room, Team::ROOM); \
        Team team(1, 9, room); \
        add_numbers(team, numbers, count, total); \
    }

// The sum of some numbers, by one block: segment by segment from +0.0.
template <class T> __device__ __forceinline__ void add_numbers(const Team &team, const T *numbers, u64 count, double *total) {
    double sum = 0.0;
#pragma unroll 1
    for (u64 at = 0; at < count; at += SEGMENT) {
        const u32 n = count - at < SEGMENT ? (u32)(count - at) : SEGMENT;
        double of_segment[1];
        team.go(n, true, of_segment, [&](u32 i, u32 own, double(&terms)[1][4]) {
#pragma unroll
            for (u32 k = 0; k < 4; k++) terms[0][k] = k < own ? (double)numbers[at + i + k] : 0.0;
        });
        sum += of_segment[0];
    }
    if (team.is_writer()) *total = sum;
}

CROSS_ENTROPY_KERNEL(float, f32)
CROSS_ENTROPY_KERNEL(double, f64)

KERNEL(begin)(Findings start, Findings *findings) {
    if (threadIdx.x == 0) *findings = start;
}

// The first label that is neither a class nor ignored.
KERNEL(find_wrong_label)(Labels labels, u64 rows, u64 classes, Findings *findings) {
    u64 row = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (row < rows && labels.is_wrong(row, classes)) atomicMin(&findings->wrong, row);
}
