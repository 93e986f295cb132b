// A bias that belongs to channels, and where the sums of its gradient are cut; the same shape as rust/activation/bias.rs.
// needs: arrays.cuh divide.cuh

// Elements of a part of a run at most.
const u64 PART = 2048;

// Mirrors `LINE` of stepsmith/cuda/activation.py: as many samples as fit a block, or one; `has_table` says that each element of a
// line has a sum of its own, else each channel.
struct Line {
    u64 len;
    Divisor channels;
    Divisor inner; // elements of a channel in a sample
    int has_table;
};

// Mirrors `PIECES` there: `turn` elements at a time, cut after `cut` ones.
struct Pieces {
    u64 count;
    u64 turn;
    u64 cut;
    u64 in_turn; // pieces

    __device__ __forceinline__ u64 start(u64 piece) const { return piece / in_turn * turn + piece % in_turn * cut; }
    __device__ __forceinline__ u64 end(u64 piece, u64 n) const {
        u64 end = start(piece) + cut, last = (piece / in_turn + 1) * turn;
        end = end < last ? end : last;
        return end < n ? end : n;
    }
};

// Adds the bias of elements i..i + 4.
template <class T> __device__ __forceinline__ void add_bias(const Line &line, const T *bias, u64 i, T (&x)[4]) {
    u64 run = quotient(i, line.inner), place = i - run * line.inner.n, channel = remainder(run, line.channels);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        x[k] = x[k] + bias[channel];
        place = place + 1 == line.inner.n ? 0 : place + 1;
        if (place == 0) channel = channel + 1 == line.channels.n ? 0 : channel + 1;
    }
}

// Adds what the pieces have summed up to a channel.
__device__ __forceinline__ void add_to_channel(const double *sums, u64 pieces, const Line &line, u64 channel, double *channels) {
    u64 count = line.channels.n, inner = line.has_table ? line.inner.n : 1, numbers = line.has_table ? line.len : count;
    double sum = channels[channel];
    for (u64 piece = 0; piece < pieces; piece++)
        for (u64 at = channel * inner; at < numbers; at += count * inner)
            for (u64 k = 0; k < inner; k++) sum += sums[piece * numbers + at + k];
    channels[channel] = sum;
}
