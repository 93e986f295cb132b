// Dynamic 8-bit codes: seven decades of values, the larger the finer, as bitsandbytes' blockwise quantization; the same codes as
// rust/quant/dynamic8. As `Levels` (scaled.cuh) over tables that a block of threads holds in shared memory.
//
// Magnitudes are cut into cells, equal stretches of each power of two, so short that in each of them the numbers of one value end
// at most: a number's cell tells the index of the value of its first number, and one comparison the rest.
// needs: values.cuh dynamic8_values.cuh

// Where the numbers that become one value end: of `N` magnitudes in rising order from 0 to 1, cut into 2^FINE cells for each
// power of two from 2^LOWEST to 1, and one for 1.
template <int N, int FINE, int LOWEST> struct Grid {
    static constexpr u32 SHIFT = 23 - FINE;
    static constexpr u32 FIRST = (u32)(127 + LOWEST) << 23;
    static constexpr int CELLS = (-LOWEST << FINE) + 1;

    float values[N];
    // The largest number that is nearer to a value than to the next one, for each value.
    float last[N];
    // The index of the value nearest to the first number of each cell.
    u8 first[(CELLS + 3) / 4 * 4];

    constexpr explicit Grid(const u32 (&bits)[N]) : values(), last(), first() {
        for (int i = 0; i < N; i++) values[i] = (float)number_of(bits[i]);
        for (int i = 0; i + 1 < N; i++) last[i] = round_down((number_of(bits[i]) + number_of(bits[i + 1])) / 2);
        last[N - 1] = 2.0f;
        for (int cell = 0, i = 0; cell < CELLS; cell++) {
            float start = (float)number_of(FIRST + ((u32)cell << SHIFT));
            while (start > last[i]) i++;
            first[cell] = (u8)i;
        }
    }

    // Is there one end in a cell at most?
    constexpr bool is_fine() const {
        for (int cell = 0; cell + 1 < CELLS; cell++)
            if (first[cell + 1] > first[cell] + 1) return false;
        return first[0] == 0 && first[CELLS - 1] == N - 1;
    }

    // The index of the value nearest to a magnitude up to 1.
    __device__ __forceinline__ u32 nearest(float x) const {
        u32 bits = __float_as_uint(x), one = 127u << 23;
        u32 cell = ((bits < FIRST ? FIRST : bits > one ? one : bits) - FIRST) >> SHIFT;
        u32 index = first[cell];
        return index + (x > last[index]);
    }
};

__device__ const Grid<129, 6, -22> SIGNED_GRID(SIGNED_VALUES);
__device__ const Grid<256, 7, -23> UNSIGNED_GRID(UNSIGNED_VALUES);
static_assert(Grid<129, 6, -22>(SIGNED_VALUES).is_fine() && Grid<256, 7, -23>(UNSIGNED_VALUES).is_fine(), "one end in a cell");

template <bool SIGNED> struct GridOf;
template <> struct GridOf<true> {
    typedef Grid<129, 6, -22> Type;
    static __device__ __forceinline__ const Type &global() { return SIGNED_GRID; }
};
template <> struct GridOf<false> {
    typedef Grid<256, 7, -23> Type;
    static __device__ __forceinline__ const Type &global() { return UNSIGNED_GRID; }
};

// The grid in the block's shared memory, where all its threads put it, and may read it after the next __syncthreads(). What nobody
// wants is not put there.
template <bool SIGNED> __device__ __forceinline__ const typename GridOf<SIGNED>::Type &shared_grid(bool is_wanted = true) {
    typedef typename GridOf<SIGNED>::Type Type;
    SHARED(u32, words, sizeof(Type) / 4);
    const u32 *from = (const u32 *)&GridOf<SIGNED>::global();
    for (u32 i = threadIdx.x; is_wanted && i < sizeof(Type) / 4; i += blockDim.x) words[i] = from[i];
    return *(const Type *)words;
}

// The code of the nearest value, the one nearer to zero if two are as near; 0 becomes 0.
//
// `KEPT`: what is above zero does not become zero, however small it is.
template <bool SIGNED, bool KEPT> struct Dynamic8 {
    static constexpr float LARGEST = 1.0f;
    static constexpr bool BY_MAGNITUDE = false, KEEPS = KEPT;

    const typename GridOf<SIGNED>::Type &grid;

    __device__ __forceinline__ u32 nearest(float scaled, float x) const {
        if (!SIGNED) {
            u32 code = scaled > 0.0f ? grid.nearest(scaled) : 0;
            return KEEPS && x > 0.0f && code == 0 ? 1 : code;
        }
        // Code 127 is 0, 127 ± i the value of that index with its sign; -1 alone has no negative.
        u32 index = grid.nearest(magnitude(scaled));
        return scaled < 0.0f ? 127 - (index < 127 ? index : 127) : 127 + index;
    }

    __device__ __forceinline__ float level(u32 code) const {
        if (!SIGNED) return grid.values[code];
        return code < 127 ? -grid.values[127 - code] : grid.values[code - 127];
    }
};
