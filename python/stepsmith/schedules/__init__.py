"""Schedules: pure functions of the step, which counts from 0, for the learning rate and for other hyperparameters.

A schedule stands wherever an optimizer takes ``lr``; update t (from 1) uses ``schedule(t - 1)``, as in PyTorch. Names
and arguments are those of ``torch.optim.lr_scheduler`` without "LR", with the rate first. A new one is a frozen
dataclass below `Schedule` with its name, its checks and one formula.
"""

from stepsmith.schedules.base import REGISTRY, Schedule, from_dict
from stepsmith.schedules.cosine import CosineAnnealing, CosineAnnealingWarmRestarts
from stepsmith.schedules.cyclic import Cyclic, CyclicMomentum, OneCycle, OneCycleMomentum
from stepsmith.schedules.decay import (
    Constant,
    Exponential,
    ExponentialDecay,
    InverseTime,
    Linear,
    LinearDecay,
    MultiStep,
    Polynomial,
    Step,
)
from stepsmith.schedules.plateau import PlateauState, ReduceOnPlateau
from stepsmith.schedules.sequence import Product, Sequential
from stepsmith.schedules.sparsity import CubicSparsity
from stepsmith.schedules.warmup import CosineWarmup, LinearWarmup

__all__ = [
    "REGISTRY",
    "Constant",
    "CosineAnnealing",
    "CosineAnnealingWarmRestarts",
    "CosineWarmup",
    "CubicSparsity",
    "Cyclic",
    "CyclicMomentum",
    "Exponential",
    "ExponentialDecay",
    "InverseTime",
    "Linear",
    "LinearDecay",
    "LinearWarmup",
    "MultiStep",
    "OneCycle",
    "OneCycleMomentum",
    "PlateauState",
    "Polynomial",
    "Product",
    "ReduceOnPlateau",
    "Schedule",
    "Sequential",
    "Step",
    "from_dict",
]
