"""Exact and fast optimizer steps for NumPy arrays that a program already holds, and a thin trainer on top."""

import importlib
from typing import TYPE_CHECKING, Any

from stepsmith import (
    datasets,
    distill,
    ensemble,
    init,
    nn,
    norm,
    optim,
    prune,
    quant,
    random,
    schedules,
    train,
    transfer,
)
from stepsmith._core import NonFiniteError, __version__
from stepsmith._grads import clip_grad_norm, clip_grad_value, grad_norm
from stepsmith._interchange import asarray
from stepsmith._recycled import keep_memory
from stepsmith._threads import threads
from stepsmith.compare import Comparison, compare
from stepsmith.gradcheck import GradcheckError, GradcheckReport, gradcheck
from stepsmith.quant.cast import cast
from stepsmith.train import Trainer

if TYPE_CHECKING:
    from stepsmith import sklearn as sklearn
else:

    def __getattr__(name: str) -> Any:
        """`sklearn` at its first use, because it needs an extra."""
        if name == "sklearn":
            return importlib.import_module("stepsmith.sklearn")
        raise AttributeError(f"module 'stepsmith' has no attribute {name!r}")


__all__ = [
    "Comparison",
    "GradcheckError",
    "GradcheckReport",
    "NonFiniteError",
    "Trainer",
    "__version__",
    "asarray",
    "cast",
    "clip_grad_norm",
    "clip_grad_value",
    "compare",
    "datasets",
    "distill",
    "ensemble",
    "grad_norm",
    "gradcheck",
    "init",
    "keep_memory",
    "nn",
    "norm",
    "optim",
    "prune",
    "quant",
    "random",
    "schedules",
    "threads",
    "train",
    "transfer",
]
