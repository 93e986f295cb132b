"""Exact and fast optimizer steps for NumPy arrays that a program already holds, and a thin trainer on top."""

from stepsmith import init, nn, norm, optim, random, schedules, train
from stepsmith._backend import asarray
from stepsmith._core import NonFiniteError, __version__
from stepsmith._grads import clip_grad_norm, clip_grad_value, grad_norm
from stepsmith._threads import threads
from stepsmith.train import Trainer

__all__ = [
    "NonFiniteError",
    "Trainer",
    "__version__",
    "asarray",
    "clip_grad_norm",
    "clip_grad_value",
    "grad_norm",
    "init",
    "nn",
    "norm",
    "optim",
    "random",
    "schedules",
    "threads",
    "train",
]
