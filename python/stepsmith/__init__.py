"""Exact and fast optimizer steps for NumPy arrays that a program already holds, and a thin trainer on top."""

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
from stepsmith._backend import asarray
from stepsmith._core import NonFiniteError, __version__
from stepsmith._grads import clip_grad_norm, clip_grad_value, grad_norm
from stepsmith._recycled import keep_memory
from stepsmith._threads import threads
from stepsmith.gradcheck import GradcheckError, GradcheckReport, gradcheck
from stepsmith.quant.cast import cast
from stepsmith.train import Trainer

__all__ = [
    "GradcheckError",
    "GradcheckReport",
    "NonFiniteError",
    "Trainer",
    "__version__",
    "asarray",
    "cast",
    "clip_grad_norm",
    "clip_grad_value",
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
