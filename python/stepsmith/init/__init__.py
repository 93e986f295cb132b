"""Initializers: parameters drawn from a NumPy Generator.

A weight's shape is (out, in, ...) as in PyTorch; axes after the second (a convolution's kernel) multiply both fans.
Draws are made in float64 and rounded once to `dtype`, so models of all dtypes start from the same numbers. All are
called as ``initializer(shape, rng, dtype=None, out=None)`` with arguments of their own by name.
"""

from stepsmith.init.matrix import orthogonal
from stepsmith.init.plain import constant, generator, normal, ones, uniform, zeros
from stepsmith.init.scaled import (
    calculate_gain,
    fans,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    xavier_normal,
    xavier_uniform,
)
from stepsmith.init.truncated import truncated_normal

# Other names for the same.
glorot_normal, glorot_uniform = xavier_normal, xavier_uniform
kaiming_normal, kaiming_uniform = he_normal, he_uniform
trunc_normal = truncated_normal

__all__ = [
    "calculate_gain",
    "constant",
    "fans",
    "generator",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "trunc_normal",
    "truncated_normal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]
