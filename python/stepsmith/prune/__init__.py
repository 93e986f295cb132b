"""Pruning: masks, an optimizer that keeps pruned weights at zero, models that are really smaller, and their files.

Masks are boolean arrays, True where a weight is kept. `apply` gives them to an optimizer, `GradualPruning` does so
during a fit, `shrink` takes pruned units out of a model, `save_sparse` writes files without the zeros.
"""

from stepsmith.prune.files import load_sparse, save_sparse
from stepsmith.prune.gradual import GradualPruning
from stepsmith.prune.masks import global_masks, magnitude_mask, n_m_mask, structured_mask
from stepsmith.prune.optimizer import Sparsity, apply, sparsity
from stepsmith.prune.shrink import Shrunk, shrink

__all__ = [
    "GradualPruning",
    "Shrunk",
    "Sparsity",
    "apply",
    "global_masks",
    "load_sparse",
    "magnitude_mask",
    "n_m_mask",
    "save_sparse",
    "shrink",
    "sparsity",
    "structured_mask",
]
