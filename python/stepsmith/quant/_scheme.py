"""What a scheme is: which arrays hold a quantized array, and how they are filled and read."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, fields
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import core_of, is_on_gpu, namespace

__all__ = ["REGISTRY", "Blocks", "CodecScheme", "Parts", "Scheme", "Spec", "kept_dtype", "scheme"]

Array = NDArray[Any]
Parts = Mapping[str, Array]
"""Name → array of what holds a quantized array: "codes", "scales", and more where a scheme has more. In C order."""

FLOAT32, UINT8 = np.dtype(np.float32), np.dtype(np.uint8)

REGISTRY: dict[str, type["Scheme"]] = {}
"""Name → class of every scheme."""


class Spec(NamedTuple):
    """Shape and dtype of a part."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Blocks(NamedTuple):
    """Rows in C order, and blocks of a row that share a scale; the last block of a row may be shorter."""

    rows: int
    length: int
    """Elements of a row."""
    block: int
    """Elements of a block."""

    @property
    def number(self) -> int:
        """Blocks of all rows."""
        return self.rows * -(-self.length // self.block)


class Scheme(ABC):
    """How arrays become codes. Schemes are frozen dataclasses: equal if their settings are."""

    name: ClassVar[str]
    """Key in the registry, and in saved files."""

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            REGISTRY[cls.name] = cls

    @abstractmethod
    def parts(self, shape: tuple[int, ...]) -> dict[str, Spec]:
        """What holds a quantized array of this shape; a ValueError if the scheme cannot hold it."""

    @abstractmethod
    def quantize(self, owner: str, x: Array, parts: Parts, nan: str, checks_first: bool) -> None:
        """Fills the parts; with `checks_first` nothing is written if `x` is refused."""

    @abstractmethod
    def dequantize(self, owner: str, parts: Parts, out: Array) -> None:
        """Fills `out`, which has the array's shape."""

    def settings(self) -> dict[str, Any]:
        """The scheme's fields, as JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


def scheme(name: str, /, **settings: Any) -> Scheme:
    """A scheme by its name.

    Args:
        name: a key of ``REGISTRY``.
        settings: fields of the scheme; those left out have their defaults.

    Raises:
        ValueError: a name or setting that does not exist (the message lists those that do), a setting that is missing.
        TypeError, ValueError: a value that the scheme refuses.

    Example:
        >>> ss.quant.scheme("nf4", block_size=128)
        NF4(block_size=128, double_quant=False)
    """
    cls = REGISTRY[_check.one_of("scheme", "name", name, sorted(REGISTRY))]
    known = [field for field in fields(cls) if field.init]  # type: ignore[arg-type]
    names = [field.name for field in known]
    for key in settings:
        if key not in names:
            raise ValueError(f"scheme: settings of {name} are {', '.join(names) or 'none'}, got {key!r}")
    for field in known:
        if field.name not in settings and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"scheme: {name} needs the setting {field.name}, got {sorted(settings) or 'none'}")
    return cls(**settings)


class CodecScheme(Scheme):
    """A scheme that one codec of the core works out in one sweep."""

    @abstractmethod
    def codec(self) -> tuple[str, list[float]]:
        """Name of the core's codec, and its parameters."""

    @abstractmethod
    def _blocks(self, shape: tuple[int, ...]) -> Blocks:
        """How an array is cut."""

    def _core_scheme(self, shape: tuple[int, ...]) -> tuple[str, list[float], tuple[int, int, int]]:
        return (*self.codec(), self._blocks(shape))

    def quantize(self, owner: str, x: Array, parts: Parts, nan: str, checks_first: bool) -> None:
        """Fills the parts in one sweep over `x`."""
        if not x.size:
            return
        codes, scales = as_bytes(parts["codes"], x), as_bytes(parts.get("scales"), x)
        core_of(x).quantize(owner, self._core_scheme(x.shape), x, codes, scales, nan == "zero", checks_first)

    def dequantize(self, owner: str, parts: Parts, out: Array) -> None:
        """Fills `out` in one sweep."""
        if not out.size:
            return
        codes, scales = as_bytes(parts["codes"], out), as_bytes(parts.get("scales"), out)
        core_of(out).dequantize(owner, self._core_scheme(out.shape), codes, scales, out)


def as_bytes(part: Array | None, of: Array) -> NDArray[np.uint8]:
    """The bytes of a part, which is in C order; without one none, where another array is."""
    if part is None:
        none: NDArray[np.uint8] = namespace(of).empty(0, np.uint8)
        return none
    return part.reshape(-1).view(np.uint8)


def kept_dtype(dtype: np.dtype[Any], of: object) -> np.dtype[Any]:
    """The dtype of a part where another array is: CuPy has no floats of 8 bits, and keeps their bytes."""
    return UINT8 if is_on_gpu(of) and dtype.itemsize == 1 and dtype.kind not in "iu" else dtype


def flat_blocks(shape: tuple[int, ...], block: int) -> Blocks:
    """Blocks that run over the flattened array."""
    return Blocks(1, prod(shape), block)


def power_of_two(owner: str, name: str, value: object, low: int, high: int) -> int:
    """The value, which must be a power of two in a range."""
    number = _check.integer(owner, name, value, low=low, high=high)
    if number & (number - 1):
        raise ValueError(f"{owner}: {name} must be a power of two, got {number}")
    return number
