// Channels of all samples, and how what was measured of their parts is merged; as in rust/norm/channels.rs.
// needs: moments.cuh

// Samples of a block.
const u64 HEIGHT = 64;

// Mirrors `CHANNELS` of stepsmith/cuda/batch_norm.py: an array of (samples, channels, inner).
struct Channels {
    u64 samples;
    u64 channels;
    u64 inner;
    u64 tall;
    u64 pieces;

    __device__ __forceinline__ u64 start(u64 piece) const { return piece * tall; }
    __device__ __forceinline__ u64 end(u64 piece) const { return (piece + 1) * tall < samples ? (piece + 1) * tall : samples; }
};

// Moments of a channel, part after part; each part has `values` of a channel but the last one.
__device__ __forceinline__ Moments merged(const double *means, const double *squares, u64 stride, u64 parts, u64 values,
                                               u64 all_values) {
    Moments all = {0.0, 0.0, 0.0};
    for (u64 part = 0; part < parts; part++) {
        u64 left = all_values - part * values;
        all = all.merged_with({(double)(left < values ? left : values), means[part * stride], squares[part * stride]});
    }
    return all;
}
