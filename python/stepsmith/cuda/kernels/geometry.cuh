// How an array in C order is cut into rows, and rows into blocks that share a scale; see rust/quant/geometry.rs. A thread works
// on a quad, four numbers of a block that follow each other.
// needs: arrays.cuh

// Mirrors `GEOMETRY` of stepsmith/cuda/quant.py. A block has 2^log elements, four at least.
struct Geometry {
    u64 rows, len;
    u64 blocks_of_row;
    u32 log;
    u32 bits; // of a code
};

// The quotient; numbers of 32 bits are much faster to divide.
__device__ __forceinline__ u64 quotient(u64 a, u64 b) { return (a | b) >> 32 ? a / b : (u32)a / (u32)b; }

__device__ __forceinline__ u64 blocks_of(const Geometry &geometry) { return geometry.rows * geometry.blocks_of_row; }

// Four numbers of a block, or fewer where a row ends, or none.
struct Quad {
    u64 start; // of the array's elements
    u64 code;  // where its codes begin, in bytes
    u32 count;
};

// Quad number `k` of a block.
__device__ __forceinline__ Quad quad_of(const Geometry &geometry, u64 block, u32 k) {
    u64 row = geometry.rows == 1 ? 0 : quotient(block, geometry.blocks_of_row);
    u64 at = ((block - row * geometry.blocks_of_row) << geometry.log) + 4 * k, len = geometry.len;
    u64 row_bytes = (len * geometry.bits + 7) / 8;
    u32 count = row >= geometry.rows || at >= len ? 0 : len - at < 4 ? (u32)(len - at) : 4;
    return {row * len + at, row * row_bytes + at * geometry.bits / 8, count};
}

// The bytes that its codes take.
__device__ __forceinline__ u32 bytes_of(const Geometry &geometry, const Quad &quad) { return (quad.count * geometry.bits + 7) / 8; }
