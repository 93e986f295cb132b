// CUDA kernels as plain C++: each CUDA thread is a fiber of one host thread. Barriers and warp collectives are real, shared memory
// starts poisoned, and the order in which threads run is chosen (`Order`): results must not depend on it. Included before the
// kernels' sources, and nothing else is: what is not here does not exist in a kernel.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "fiber.h"

#define STEPSMITH_SHIM 1
#ifndef SHIM_LISTING // `host.py` finds the kernels by this word
#define __global__
#endif
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __grid_constant__
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __builtin_assume(...)
#define SHARED(T, name, N) \
    static char name##_site; \
    T(&name)[N] = *(T(*)[N])shim::shared(&name##_site, sizeof(T) * (N))
#define DYNAMIC_SHARED(T, name) T *name = (T *)shim::dynamic

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) double2 {
    double x, y;
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace shim {
constexpr unsigned WARP = 32, FULL = 0xffffffffu, MOST_THREADS = 1024;
constexpr size_t STATIC_SHARED = 48 << 10, DYNAMIC_SHARED_MOST = 99 << 10;

enum class Order { forward, reverse, shuffled, warps_first, warps_last };
enum class State { ready, at_barrier, in_collective, done };

struct Thread {
    Fiber fiber;
    State state;
    unsigned index;
    // What this lane gives to its warp: two slots in turn, so that a fast lane does not overwrite what a slow one is to read.
    uint64_t given[2];
    unsigned turn;
};

inline std::vector<Thread> threads(MOST_THREADS);
inline Thread *running;
inline unsigned count;
inline Fiber scheduler;
inline const std::function<void()> *kernel;
inline std::string error;
inline Order order;
inline unsigned random_state;
alignas(64) inline char arena[STATIC_SHARED], dynamic_arena[DYNAMIC_SHARED_MOST];
inline char *dynamic = dynamic_arena;
inline std::vector<std::pair<const void *, size_t>> sites;
inline size_t used;

// The arrays of one static shared declaration, the same for all threads of a block.
inline void *shared(const void *site, size_t bytes) {
    for (auto &known : sites)
        if (known.first == site) return arena + known.second;
    size_t start = (used + 63) / 64 * 64;
    if (start + bytes > STATIC_SHARED) {
        fprintf(stderr, "shim: static shared memory over 48 KiB\n");
        abort();
    }
    sites.push_back({site, start});
    used = start + bytes;
    return arena + start;
}

inline void wait_as(State state) {
    running->state = state;
    switch_fiber(running->fiber, scheduler);
}

// Ends the launch from inside a thread.
inline void refuse(const char *what) {
    if (error.empty()) error = what;
    wait_as(State::done);
}

// As a device, which reads no element that is on no boundary of its own.
inline void check_alignment(uint64_t address, size_t alignment) {
    if (address % alignment) refuse("misaligned address");
}

// Everyone's value, by lane; all lanes of a warp must come here.
template <class T> inline const Thread *exchange(unsigned mask, T value, unsigned &turn) {
    static_assert(sizeof(T) <= 8, "a lane gives at most eight bytes");
    if (mask != FULL) refuse("a warp collective must name all lanes");
    turn = running->turn;
    running->turn ^= 1;
    running->given[turn] = 0;
    memcpy(&running->given[turn], &value, sizeof value);
    Thread *warp = &threads[running->index / WARP * WARP];
    wait_as(State::in_collective);
    return warp;
}

template <class T> inline T take(const Thread *warp, unsigned turn, unsigned lane) {
    T value;
    memcpy(&value, &warp[lane].given[turn], sizeof value);
    return value;
}

inline void thread_main() {
    (*kernel)();
    for (;;) wait_as(State::done);
}

inline void run(Thread &thread) {
    running = &thread;
    threadIdx = {thread.index % blockDim.x, thread.index / blockDim.x % blockDim.y, thread.index / blockDim.x / blockDim.y};
    switch_fiber(scheduler, thread.fiber);
}

inline unsigned next_random() { return random_state = random_state * 1664525u + 1013904223u; }

// Lets a warp whose lanes have all arrived go on.
inline bool release_warp(unsigned first) {
    for (unsigned i = first; i < first + WARP; i++)
        if (threads[i].state != State::in_collective) return false;
    for (unsigned i = first; i < first + WARP; i++) threads[i].state = State::ready;
    return true;
}

inline bool run_ready(const std::vector<unsigned> &indices) {
    bool ran = false;
    for (unsigned i : indices)
        if (threads[i].state == State::ready && error.empty()) {
            run(threads[i]);
            ran = true;
        }
    return ran;
}

// Every thread a turn, then the warps that can go on.
inline bool round_robin() {
    std::vector<unsigned> indices(count);
    for (unsigned i = 0; i < count; i++) indices[i] = order == Order::reverse ? count - 1 - i : i;
    if (order == Order::shuffled)
        for (unsigned i = count; i > 1; i--) std::swap(indices[i - 1], indices[next_random() % i]);
    bool ran = run_ready(indices);
    for (unsigned first = 0; first < count; first += WARP) ran |= release_warp(first);
    return ran;
}

// One warp as far as it gets, then the next: what is read before others have written it shows.
inline bool warp_by_warp() {
    bool ran = false;
    for (unsigned k = 0; k < count / WARP; k++) {
        unsigned first = (order == Order::warps_last ? count / WARP - 1 - k : k) * WARP;
        std::vector<unsigned> lanes(WARP);
        for (unsigned i = 0; i < WARP; i++) lanes[i] = order == Order::warps_last ? first + WARP - 1 - i : first + i;
        do ran |= run_ready(lanes);
        while (error.empty() && release_warp(first));
    }
    return ran;
}

inline unsigned in_state(State state) {
    unsigned n = 0;
    for (unsigned i = 0; i < count; i++) n += threads[i].state == state;
    return n;
}

inline void run_block() {
    memset(arena, 0xff, sizeof arena);
    memset(dynamic_arena, 0xff, sizeof dynamic_arena);
    for (unsigned i = 0; i < count; i++) {
        threads[i].state = State::ready;
        threads[i].index = i;
        threads[i].turn = 0;
        start_fiber(threads[i].fiber, thread_main);
    }
    while (error.empty()) {
        bool ran = order >= Order::warps_first ? warp_by_warp() : round_robin();
        unsigned done = in_state(State::done), waiting = in_state(State::at_barrier);
        if (done == count || !error.empty()) return;
        if (waiting == count) {
            for (unsigned i = 0; i < count; i++) threads[i].state = State::ready;
        } else if (waiting && waiting + done == count) {
            error = "__syncthreads is reached by a part of the block only";
        } else if (!ran) {
            error = "deadlock: a barrier or a warp collective is reached by a part of the threads only";
        }
    }
}

// Runs a kernel's grid; "" or what is wrong with it.
inline const char *launch(dim3 grid, dim3 block, size_t dynamic_bytes, Order how, const std::function<void()> &body) {
    error.clear();
    count = block.x * block.y * block.z;
    if (count == 0 || count > MOST_THREADS || count % WARP) return "a block must have whole warps, at most 1,024 threads";
    if (dynamic_bytes > DYNAMIC_SHARED_MOST) return "dynamic shared memory must be at most 99 KiB";
    kernel = &body;
    order = how;
    random_state = 12345;
    sites.clear();
    used = 0;
    gridDim = grid;
    blockDim = block;
    unsigned long long blocks = 1ull * grid.x * grid.y * grid.z;
    for (unsigned long long k = 0; k < blocks && error.empty(); k++) {
        unsigned long long b = how == Order::reverse || how == Order::warps_last ? blocks - 1 - k : k;
        blockIdx = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
        run_block();
    }
    return error.c_str();
}
} // namespace shim

inline void __syncthreads() { shim::wait_as(shim::State::at_barrier); }
inline void __syncwarp(unsigned mask = shim::FULL) {
    unsigned turn;
    shim::exchange(mask, 0, turn);
}
template <class T> inline T __shfl_sync(unsigned mask, T value, int lane) {
    unsigned turn;
    auto warp = shim::exchange(mask, value, turn);
    return shim::take<T>(warp, turn, lane & 31);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    unsigned turn, self = shim::running->index & 31;
    auto warp = shim::exchange(mask, value, turn);
    return shim::take<T>(warp, turn, self ^ lanes);
}
template <class T> inline T __shfl_down_sync(unsigned mask, T value, unsigned lanes) {
    unsigned turn, self = shim::running->index & 31;
    auto warp = shim::exchange(mask, value, turn);
    return shim::take<T>(warp, turn, self + lanes < 32 ? self + lanes : self);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T value, unsigned lanes) {
    unsigned turn, self = shim::running->index & 31;
    auto warp = shim::exchange(mask, value, turn);
    return shim::take<T>(warp, turn, self >= lanes ? self - lanes : self);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    unsigned turn, bits = 0;
    auto warp = shim::exchange(mask, predicate != 0, turn);
    for (unsigned lane = 0; lane < 32; lane++) bits |= unsigned(shim::take<bool>(warp, turn, lane)) << lane;
    return bits;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == shim::FULL; }
inline void __threadfence() {}
inline void __threadfence_system() {}

template <class T, class U> inline T atomicAdd(T *place, U value) {
    T old = *place;
    *place = old + value;
    return old;
}
template <class T, class U> inline T atomicMin(T *place, U value) {
    T old = *place;
    *place = old < T(value) ? old : T(value);
    return old;
}
template <class T, class U> inline T atomicMax(T *place, U value) {
    T old = *place;
    *place = old > T(value) ? old : T(value);
    return old;
}
template <class T, class U> inline T atomicOr(T *place, U value) {
    T old = *place;
    *place = old | value;
    return old;
}
template <class T, class U> inline T atomicExch(T *place, U value) {
    T old = *place;
    *place = value;
    return old;
}

template <class To, class From> inline To shim_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float x) { return shim_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return shim_bits<float>(x); }
inline long long __double_as_longlong(double x) { return shim_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return shim_bits<double>(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
