from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "CHUNK",
    "NonFiniteError",
    "Stepper",
    "Territory",
    "__version__",
    "assign",
    "axpy",
    "clamp",
    "dot",
    "info",
    "lerp",
    "philox4x32",
    "reduce",
    "rules",
    "scale",
    "set_threads",
    "uniform",
    "walk",
]

__version__: Final[str]
ACTIVATIONS: Final[dict[str, list[str]]]
CODECS: Final[dict[str, list[str]]]
BLOCK: Final[int]
CHUNK: Final[int]

class NonFiniteError(FloatingPointError): ...

_T = TypeVar("_T")
_Place: TypeAlias = tuple[int, int, Sequence[int], Sequence[int]]
_AxisShape: TypeAlias = tuple[int, int, int, int, int]
_WindowShape: TypeAlias = tuple[tuple[int, int], _AxisShape, _AxisShape]

@final
class Stepper:
    @property
    def updates(self) -> int: ...
    @property
    def mode(self) -> int: ...
    def __new__(
        cls,
        owner: str,
        rule: str,
        names: Sequence[str],
        arrays: Sequence[Mapping[str, object]],
        settings: Mapping[str, object],
    ) -> Stepper: ...
    @property
    def scalars(self) -> list[str]: ...
    @property
    def is_running(self) -> bool: ...
    def bind(self, grads: Sequence[object | None] | None) -> None: ...
    def set_masks(self, masks: Sequence[bytes | None]) -> None: ...
    def set_cohorts(self, cohorts: Sequence[int], carried: Sequence[float]) -> int: ...
    def now(self, setting: int) -> tuple[int, list[float]]: ...
    def exclusive(self, work: Callable[[], _T]) -> _T: ...
    def switch(self, mode: int, work: Callable[[], object]) -> None: ...
    def restore(
        self,
        work: Callable[[], object],
        commit: Callable[[], object],
        moment: tuple[int, int],
        mode: int,
        cohorts: Sequence[int],
        carried: Sequence[float],
    ) -> None: ...
    def step(
        self,
        grads: Sequence[object | None] | None,
        moment: tuple[int, int],
        scalars: Sequence[float],
        signs: Sequence[float],
        carried: Sequence[float],
        grad_scale: float,
        only_rule: bool = False,
    ) -> float | None: ...
    def sweep(self) -> None: ...

@final
class Territory:
    def __new__(cls, owner: str, names: Sequence[str], places: Sequence[_Place]) -> Territory: ...
    def refuse_shared(self, names: Sequence[str], places: Sequence[_Place]) -> None: ...

def walk(
    shape: Sequence[int], strides: Sequence[Sequence[int]], by_memory: bool
) -> tuple[list[int], list[list[int]], list[int]]: ...
def reduce(owner: str, names: Sequence[str], arrays: Sequence[object], kind: str) -> float: ...
def scale(owner: str, names: Sequence[str], arrays: Sequence[object], factor: float) -> None: ...
def clamp(owner: str, names: Sequence[str], arrays: Sequence[object], limit: float) -> None: ...
def lerp(
    owner: str,
    names: Sequence[str],
    arrays: Sequence[object],
    ends: Sequence[object],
    shadows: Sequence[object | None],
    weights: Sequence[float],
) -> None: ...
def uniform(out: NDArray[np.float32], seed: int, step: int, stream: int, start: int) -> None: ...
def philox4x32(counter: Sequence[int], key: Sequence[int]) -> list[int]: ...
def set_threads(count: int) -> int: ...
def traits() -> dict[str, tuple[bool, bool]]: ...
def nonfinite(owner: str, name: str, shape: Sequence[int], element: int, value: float, grad_scale: float) -> str: ...
def rules() -> dict[str, tuple[list[str], list[str]]]: ...
def info() -> dict[str, object]: ...
def dot(owner: str, names: Sequence[str], arrays: Sequence[object], others: Sequence[object]) -> float: ...
def axpy(
    owner: str, names: Sequence[str], arrays: Sequence[object], factor: float, others: Sequence[object]
) -> None: ...
def assign(
    owner: str, names: Sequence[str], arrays: Sequence[object], factor: float, others: Sequence[object]
) -> None: ...
def activate(
    owner: str,
    kind: str,
    scalars: Sequence[float],
    out: object,
    read: tuple[object, object | None, object | None],
    dbias: object,
    shape: tuple[int, int, int],
) -> None: ...
def convolve(
    owner: str,
    out: object,
    read: tuple[object, object | None, object | None],
    shape: _WindowShape,
    channels: tuple[int, int],
) -> None: ...
def convolve_backward(
    owner: str,
    written: tuple[object | None, object, object | None],
    read: tuple[object, object, object],
    shape: _WindowShape,
    channels: tuple[int, int],
) -> None: ...
def max_pool(owner: str, out: object, x: object, shape: _WindowShape) -> None: ...
def max_pool_backward(owner: str, dx: object, x: object, dy: object, shape: _WindowShape) -> None: ...
def average_pool(owner: str, out: object, x: object, shape: _WindowShape, counts_padding: bool) -> None: ...
def average_pool_backward(owner: str, dx: object, dy: object, shape: _WindowShape, counts_padding: bool) -> None: ...
def norm_rows(
    owner: str,
    written: tuple[object, object | None],
    read: tuple[object | None, object | None, object | None, object | None],
    shape: tuple[int, int, int, int],
    divisor: str,
    eps: float,
) -> list[NDArray[np.float64]]: ...
def norm_rows_backward(
    owner: str,
    dx: object,
    read: tuple[object | None, object | None, object | None, object | None],
    statistics: tuple[object, object],
    shape: tuple[int, int, int, int],
    divisor: str,
) -> list[NDArray[np.float64]]: ...
def batch_norm(
    owner: str,
    out: object,
    read: tuple[object, object | None, object | None],
    running: tuple[object, object] | None,
    momentum: float,
    eps: float,
    training: bool,
    shape: tuple[int, int, int],
) -> list[NDArray[np.float64]]: ...
def batch_norm_backward(
    owner: str,
    dx: object | None,
    read: tuple[object, object, object | None],
    statistics: tuple[object, object],
    training: bool,
    shape: tuple[int, int, int],
) -> list[NDArray[np.float64]]: ...
def softmax_rows(owner: str, out: object, x: object, shape: tuple[int, int], is_log: bool) -> None: ...
def softmax_rows_backward(
    owner: str, dx: object, dy: object, y: object, shape: tuple[int, int], is_log: bool
) -> None: ...
def cross_entropy_rows(
    owner: str,
    losses: NDArray[np.float64],
    out: object | None,
    read: tuple[object, object | None, object | None],
    classes: tuple[NDArray[np.int64], int | None, bool] | None,
    shape: tuple[int, int],
    smoothing: float,
    is_mean: bool,
) -> tuple[float, float]: ...
def check_labels(owner: str, classes: tuple[NDArray[np.int64], int | None, bool], count: int) -> None: ...
def quantize(
    owner: str,
    scheme: tuple[str, Sequence[float], tuple[int, int, int]],
    x: object,
    codes: NDArray[np.uint8],
    scales: NDArray[np.uint8],
    zeroes_nan: bool,
    checks_first: bool,
) -> None: ...
def dequantize(
    owner: str,
    scheme: tuple[str, Sequence[float], tuple[int, int, int]],
    codes: NDArray[np.uint8],
    scales: NDArray[np.uint8],
    out: object,
) -> None: ...
def absmax(owner: str, x: object, zeroes_nan: bool) -> float: ...
def cast(owner: str, x: object, x_format: str | None, out: object, out_format: str | None, saturates: bool) -> None: ...
def affine_quantize(
    owner: str,
    grid: tuple[int, int, int, float | None, bool],
    cut: tuple[bool, int, int, int],
    x: object,
    codes: NDArray[np.uint8],
    scales: NDArray[np.float32],
    zero_points: NDArray[np.int32],
    zeroes_nan: bool,
    checks_first: bool,
) -> None: ...
def affine_quantize_given(
    owner: str,
    grid: tuple[int, int, int, float | None, bool],
    cut: tuple[bool, int, int, int],
    x: object,
    codes: NDArray[np.uint8],
    scales: NDArray[np.float32],
    zero_points: NDArray[np.int32],
    zeroes_nan: bool,
    checks_first: bool,
) -> None: ...
def affine_dequantize(
    owner: str,
    grid: tuple[int, int, int, float | None, bool],
    cut: tuple[bool, int, int, int],
    codes: NDArray[np.uint8],
    scales: NDArray[np.float32],
    zero_points: NDArray[np.int32],
    out: object,
) -> None: ...
def affine_steps(
    grid: tuple[int, int, int, float | None, bool],
    below: NDArray[np.float32],
    above: NDArray[np.float32],
    scales: NDArray[np.float32],
    zero_points: NDArray[np.int32],
) -> None: ...
def matmul_codes(
    owner: str,
    kind: str,
    codes: NDArray[np.uint8],
    scales: NDArray[np.float32],
    shape: tuple[int, int],
    shares: tuple[str, int],
    x: object,
    out: object,
    quantizes: bool,
) -> None: ...
def fake_quantize(
    owner: str,
    out: object,
    read: tuple[object, object | None],
    scales: NDArray[np.float64],
    zero_points: NDArray[np.float64],
    dscales: NDArray[np.float64],
    bounds: tuple[float, float, bool],
    shape: tuple[int, int, int],
) -> None: ...
