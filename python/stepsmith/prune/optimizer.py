"""Masks in an optimizer, and how sparse tensors are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from stepsmith._backend import namespace, require_array
from stepsmith._table import Table
from stepsmith.optim import Optimizer
from stepsmith.prune.masks import Mask

__all__ = ["Sparsity", "apply", "require_optimizer", "sparsity"]

Array = NDArray[Any]


def apply(optimizer: Optimizer, masks: Mapping[str, Mask] | None) -> None:
    """Prune weights now and hold them at zero: `Optimizer.set_masks` that does not wait for the next step.

    Pruned weights and all that is theirs (state of 8 bits too, moving average, master and shadow copies) are exactly 0
    from here on, whatever their gradients. The masks replace those of before and travel in the optimizer's
    `state_dict`. A weight that comes back starts from 0.

    Args:
        optimizer: One of `stepsmith.optim` with masks.
        masks: Name → boolean array of the parameter's shape, False where a weight is pruned; parameters without a mask
            keep every weight, and so do all with None.

    Raises:
        TypeError, ValueError: Another kind of optimizer, or masks that do not fit; nothing has changed then.
        RuntimeError: A step of the optimizer is running.

    Example:
        >>> params = {"w": np.array([0.1, -3.0, 2.0])}
        >>> optimizer = ss.optim.AdamW(params, lr=0.1)
        >>> ss.prune.apply(optimizer, {"w": ss.prune.magnitude_mask(params["w"], 1)})
        >>> _ = optimizer.step({"w": np.ones(3)})
        >>> float(params["w"][0]), optimizer.masks["w"].tolist()
        (0.0, [False, True, True])
    """
    require_optimizer("apply", optimizer).set_masks(masks, at_once=True)


def require_optimizer(owner: str, optimizer: object) -> Optimizer:
    """The optimizer, which must be one with masks."""
    if not isinstance(optimizer, Optimizer):
        kind = type(optimizer).__name__
        raise TypeError(f"{owner}: optimizer must be one of stepsmith.optim with masks, got {kind}")
    return optimizer


@dataclass(frozen=True)
class Sparsity:
    """How many elements are zero.

    Attributes:
        zeros: Name → how many of the tensor.
        sizes: Name → its elements.
    """

    zeros: dict[str, int]
    sizes: dict[str, int]

    def __getitem__(self, name: str) -> float:
        """Share of zeros in a tensor; 0 of an empty one."""
        return self.zeros[name] / max(self.sizes[name], 1)

    @property
    def total(self) -> float:
        """Share of zeros in all tensors together."""
        return sum(self.zeros.values()) / max(sum(self.sizes.values()), 1)

    def __str__(self) -> str:
        table = Table(("tensor", "elements", "zeros", "share"), "<>>>")
        for name, size in self.sizes.items():
            table.add(name, f"{size:,}", f"{self.zeros[name]:,}", f"{self[name]:.2%}")
        table.add("total", f"{sum(self.sizes.values()):,}", f"{sum(self.zeros.values()):,}", f"{self.total:.2%}")
        return str(table)


def sparsity(params: Mapping[str, Array] | Optimizer) -> Sparsity:
    """Count the zeros, of either sign, of each tensor.

    Args:
        params: Name → array, or an optimizer, for its parameters.

    Raises:
        TypeError: Something else.

    Example:
        >>> found = sparsity({"w": np.array([0.0, 2.0]), "b": np.zeros(2)})
        >>> found["w"], found.total
        (0.5, 0.75)
    """
    if isinstance(params, Optimizer):
        params = params.params
    if not isinstance(params, Mapping):
        rule = "a mapping from names to arrays or an optimizer"
        raise TypeError(f"sparsity: params must be {rule}, got {type(params).__name__}")
    arrays = {name: require_array("sparsity", f"params[{name!r}]", array) for name, array in params.items()}
    zeros = {name: array.size - int(namespace(array).count_nonzero(array)) for name, array in arrays.items()}
    return Sparsity(zeros, {name: array.size for name, array in arrays.items()})
