// Codes in memory: up to four bytes at a time as a word, the first in the lowest byte, at once where they lie on a boundary.
// needs: storage.cuh

__device__ __forceinline__ u32 load_bytes(const u8 *from, u32 count) {
    u64 address = (u64)from;
    if (count == 4 && address % 4 == 0) return *global<const u32>(address);
    if (count == 2 && address % 2 == 0) return *global<const u16>(address);
    u32 word = 0;
#pragma unroll 1
    for (u32 k = 0; k < count; k++) word |= (u32)*global<const u8>(address + k) << (8 * k);
    return word;
}

__device__ __forceinline__ void store_bytes(u8 *to, u32 word, u32 count) {
    u64 address = (u64)to;
    if (count == 4 && address % 4 == 0) {
        *global<u32>(address) = word;
    } else if (count == 4 && address % 2 == 0) {
        *global<u16>(address) = (u16)word, *global<u16>(address + 2) = (u16)(word >> 16);
    } else if (count == 2 && address % 2 == 0) {
        *global<u16>(address) = (u16)word;
    } else {
#pragma unroll 1
        for (u32 k = 0; k < count; k++) *global<u8>(address + k) = (u8)(word >> (8 * k));
    }
}

// Codes of four numbers one a byte, in words of four bytes: those of eight bits as they are, two of four bits a byte with the
// first in its low or in its high half, four of two bits.
__device__ __forceinline__ u32 pack_low(u32 codes) {
    u32 pairs = (codes & 0x000f000fu) | (codes >> 4 & 0x00f000f0u);
    return (pairs | pairs >> 8) & 0xffff;
}

__device__ __forceinline__ u32 pack_high(u32 codes) { return pack_low((codes & 0x00ff00ffu) << 8 | (codes >> 8 & 0x00ff00ffu)); }

__device__ __forceinline__ u32 unpack_low(u32 packed) {
    u32 pairs = (packed & 0xff) | (packed & 0xff00) << 8;
    return (pairs & 0x000f000fu) | (pairs & 0x00f000f0u) << 4;
}

__device__ __forceinline__ u32 unpack_high(u32 packed) {
    u32 codes = unpack_low(packed);
    return (codes & 0x00ff00ffu) << 8 | (codes >> 8 & 0x00ff00ffu);
}

__device__ __forceinline__ u32 pack_two(u32 codes) {
    u32 pairs = codes | codes >> 6;
    return (pairs & 0x0f) | (pairs >> 12 & 0xf0);
}

__device__ __forceinline__ u32 unpack_two(u32 packed) {
    u32 pairs = (packed & 0x0f) | (packed & 0xf0) << 12;
    return (pairs | pairs << 6) & 0x03030303u;
}

// Code `k` of a word.
__device__ __forceinline__ u32 code_of(u32 codes, int k) { return codes >> (8 * k) & 0xff; }
