"""The oracle of fixed-shape sums: rust/reduce.rs."""

from typing import Any

import numpy as np

BLOCK = 4096
LANES = 128

Array = np.ndarray[Any, Any]


def fixed_sum(terms: Array) -> float:
    """Blocks of 4,096; lane i mod 128 in order from +0.0; lanes fold by halves; the blocks' results likewise."""
    terms = terms.astype(np.float64).reshape(-1)
    while True:
        blocks = -(-terms.size // BLOCK)
        padded = np.zeros(max(blocks, 1) * BLOCK)
        padded[: terms.size] = terms
        rows = padded.reshape(-1, BLOCK // LANES, LANES)
        lanes = np.zeros((len(rows), LANES))
        for row in range(BLOCK // LANES):
            lanes = lanes + rows[:, row]
        half = LANES // 2
        while half > 0:
            lanes = lanes[:, :half] + lanes[:, half:]
            half //= 2
        terms = lanes[:, 0]
        if terms.size == 1:
            return float(terms[0])
