"""The functions of the core on CuPy arrays: the same names, arguments and results, on the current device and stream."""

from stepsmith.cuda.optim import Stepper
from stepsmith.cuda.random import uniform
from stepsmith.cuda.vectors import assign, axpy, clamp, clip_grad_norm, dot, lerp, reduce, scale

__all__ = ["Stepper", "assign", "axpy", "clamp", "clip_grad_norm", "dot", "lerp", "reduce", "scale", "uniform"]
