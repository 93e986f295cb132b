"""The oracle of random numbers, Philox4x32-10: rust/random.rs."""

from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def philox4x32(counters: Array, key: tuple[int, int]) -> Array:
    """Four words for each row of four counter words."""
    x = counters.astype(np.uint64)
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for round_ in range(10):
        key0 = np.uint64((key[0] + round_ * 0x9E3779B9) & 0xFFFFFFFF)
        key1 = np.uint64((key[1] + round_ * 0xBB67AE85) & 0xFFFFFFFF)
        a, b = x[:, 0] * np.uint64(0xD2511F53), x[:, 2] * np.uint64(0xCD9E8D57)
        x = np.stack([(b >> shift) ^ x[:, 1] ^ key0, b & low, (a >> shift) ^ x[:, 3] ^ key1, a & low], axis=1)
    return x.astype(np.uint32)


@lru_cache(256)  # a battery asks for the same ones under each configuration
def random_words(n: int, seed: int, step: int, stream: int, start: int = 0) -> Array:
    """Element e takes word e mod 4 of block e // 4."""
    blocks = np.arange(start // 4, (start + n + 3) // 4, dtype=np.uint64)
    low, high = blocks & np.uint64(0xFFFFFFFF), blocks >> np.uint64(32)
    counters = np.stack([low, high, np.full_like(blocks, step), np.full_like(blocks, stream)], 1)
    return philox4x32(counters, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)[start % 4 :][:n]


def uniform(n: int, seed: int, step: int, stream: int, start: int = 0) -> Array:
    """(word >> 8) · 2^-24."""
    words = random_words(n, seed, step, stream, start)
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
