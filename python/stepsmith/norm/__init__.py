"""Normalization, forward and backward, over arrays of NumPy or CuPy, with the same bits."""

from stepsmith.norm._saved import Saved
from stepsmith.norm.batch import BatchSaved, batch_norm, batch_norm_backward
from stepsmith.norm.fold import fold_batch_norm
from stepsmith.norm.group import group_norm, group_norm_backward, instance_norm, instance_norm_backward
from stepsmith.norm.layer import (
    add_layer_norm,
    add_layer_norm_backward,
    add_rms_norm,
    add_rms_norm_backward,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from stepsmith.norm.weight import weight_norm, weight_norm_backward

__all__ = [
    "BatchSaved",
    "Saved",
    "add_layer_norm",
    "add_layer_norm_backward",
    "add_rms_norm",
    "add_rms_norm_backward",
    "batch_norm",
    "batch_norm_backward",
    "fold_batch_norm",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
    "weight_norm",
    "weight_norm_backward",
]
