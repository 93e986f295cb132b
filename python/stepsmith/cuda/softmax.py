"""Softmax and cross entropy on a GPU."""

import math
from typing import Any

import numpy as np

from stepsmith._backend import is_on_gpu
from stepsmith.cuda._call import check_lengths, dense, is_wide, numbers, taken
from stepsmith.cuda._launch import THREADS, launch
from stepsmith.cuda._rows import launch_rows, launch_streaming

__all__ = ["check_labels", "cross_entropy_rows", "softmax_rows", "softmax_rows_backward"]

FINDING_NAMES = ("wrong", "divisor", "weight_sum", "total")
FINDINGS = np.dtype([(name, np.uint64 if name == "wrong" else np.float64) for name in FINDING_NAMES])
LABELS = np.dtype([("values", np.uint64), ("ignored", np.int64), ("has_ignored", np.int32)], align=True)
SETTINGS = np.dtype([("rows", np.uint64), ("len", np.uint64), ("keep", np.float64), ("base", np.float64)])
"""Structs of kernels/targets.cuh."""

NONE = 2**64 - 1
SUM_THREADS = 512

Classes = tuple[Any, int | None, bool]


def softmax_rows(owner: str, out: Any, x: Any, shape: tuple[int, int], is_log: bool) -> None:
    """As `_core.softmax_rows`."""
    arrays = taken(owner, {"out": out}, {"x": x})
    check_lengths(shape[0] * shape[1], {"x": x, "out": out})
    by_row = arrays["out"], arrays["x"]
    launch_rows("softmax", "softmax", by_row, shape, (*_sizes(shape), *by_row, np.int32(is_log)))


def softmax_rows_backward(owner: str, dx: Any, dy: Any, y: Any, shape: tuple[int, int], is_log: bool) -> None:
    """As `_core.softmax_rows_backward`."""
    arrays = taken(owner, {"dx": dx}, {"dy": dy, "y": y})
    check_lengths(shape[0] * shape[1], {"dy": dy, "y": y, "dx": dx})
    by_row = arrays["dx"], arrays["dy"], arrays["y"]
    args = (*_sizes(shape), *by_row, np.int32(is_log))
    launch_rows("softmax_backward", "softmax_backward", by_row, shape, args)


def cross_entropy_rows(
    owner: str,
    losses: Any,
    out: Any | None,
    read: tuple[Any, Any | None, Any | None],
    classes: Classes | None,
    shape: tuple[int, int],
    smoothing: float,
    is_mean: bool,
) -> tuple[float, float]:
    """As `_core.cross_entropy_rows`. The host waits once, for the loss; then it learns of wrong labels too."""
    x, probabilities, weight = read
    (rows, length), size = shape, shape[0] * shape[1]
    arrays = taken(owner, {"out": out}, {"logits": x, "labels": probabilities, "weight": weight})
    check_lengths(size, {"logits": x, "labels": probabilities, "out": out})
    check_lengths(length, {"weight": weight})
    check_lengths(rows, {"labels": None if classes is None else classes[0], "losses": losses})
    if classes is None and probabilities is None:
        raise ValueError("labels must be given, got None")
    kind, factors = "f64" if is_wide(x) else "f32", dense(weight)
    settings = np.array((rows, length, 1.0 - smoothing, smoothing / length), SETTINGS)
    labels, findings = (
        _labels(owner, classes),
        _begin(float(rows) if is_mean and classes is None else 1.0, float(length)),
    )
    if classes is not None:
        _check(labels, shape, findings)
        if is_mean:
            _find_divisor(kind, (settings, labels, factors, losses, findings))
    if weight is not None:
        _add(kind, factors, length, findings, "weight_sum")
    given = arrays["out"], arrays["logits"], arrays["labels"], factors, losses, findings
    launch_streaming("cross_entropy", f"cross_entropy_{kind}", shape, (settings, labels, *given))
    _add("f64", losses, rows, findings, "total")
    return _loss(owner, findings, classes, length)


def _find_divisor(kind: str, args: tuple[Any, ...]) -> None:
    """The sum of the labels' weights, which are noted where the losses will be."""
    *_, losses, findings = args
    launch("cross_entropy", f"weigh_labels_{kind}", -(-losses.size // THREADS), args)
    _add("f64", losses, losses.size, findings, "divisor")


def _loss(owner: str, findings: Any, classes: Classes | None, count: int) -> tuple[float, float]:
    """What was found, for which the host waits."""
    found = findings.get().view(FINDINGS)[0]
    if classes is not None:
        _refuse(owner, classes, int(found["wrong"]), count)
    divisor = float(found["divisor"])
    # Where nothing counts there is no mean, though smoothing may leave a sum.
    return (math.nan if divisor == 0.0 else float(found["total"]) / divisor), divisor


def check_labels(owner: str, classes: Classes, count: int) -> None:
    """As `_core.check_labels`. The host waits for the answer."""
    labels, findings = _labels(owner, classes), _begin(1.0, 0.0)
    _check(labels, (classes[0].size, count), findings)
    _refuse(owner, classes, int(findings.get().view(FINDINGS)[0]["wrong"]), count)


def _sizes(shape: tuple[int, int]) -> tuple[np.uint64, np.uint64]:
    return np.uint64(shape[0]), np.uint64(shape[1])


def _labels(owner: str, classes: Classes | None) -> Any:
    if classes is None:
        return np.zeros((), LABELS)
    values, ignored, _ = classes
    if not is_on_gpu(values):
        raise TypeError(f"{owner}: labels must be an array of CuPy as the logits are, got one of NumPy")
    return np.array((values.data.ptr, 0 if ignored is None else ignored, ignored is not None), LABELS)


def _begin(divisor: float, weight_sum: float) -> Any:
    """What is found on the device: float64 numbers, the first of which is an integer by its bits."""
    findings = numbers(len(FINDING_NAMES))
    launch("cross_entropy", "begin", 1, (np.array((NONE, divisor, weight_sum, 0.0), FINDINGS), findings), 32)
    return findings


def _check(labels: Any, shape: tuple[int, int], findings: Any) -> None:
    args = (labels, *_sizes(shape), findings)
    launch("cross_entropy", "find_wrong_label", -(-shape[0] // THREADS), args)


def _refuse(owner: str, classes: Classes, index: int, count: int) -> None:
    if index == NONE:
        return
    value = int(classes[0][index])
    if classes[2]:
        value %= 1 << 64
    raise ValueError(f"{owner}: labels must be in [0, {count}), got {value} at index {index}")


def _add(kind: str, given: Any, count: int, findings: Any, name: str) -> None:
    """Notes the sum of some numbers."""
    place = np.uint64(findings.data.ptr + 8 * FINDING_NAMES.index(name))
    launch("cross_entropy", f"add_numbers_{kind}", 1, (given, np.uint64(count), place), SUM_THREADS)
