"""What functions and methods of CuPy take, as CuPy 14.2 says; `test_gpu_standin.py` compares it with CuPy itself."""

import inspect
from collections.abc import Callable
from typing import Any

FUNCTIONS = """
all(a, axis=None, out=None, keepdims=False)
any(a, axis=None, out=None, keepdims=False)
arange(start, stop=None, step=1, dtype=None)
argmax(a, axis=None, dtype=None, out=None, keepdims=False)
argmin(a, axis=None, dtype=None, out=None, keepdims=False)
array_equal(a1, a2, equal_nan=False)
bincount(x, weights=None, minlength=None)
broadcast_arrays(*args)
broadcast_to(array, shape)
clip(a, a_min, a_max, out=None)
concatenate(tup, axis=0, out=None, *, dtype=None, casting='same_kind')
copyto(dst, src, casting='same_kind', where=None)
count_nonzero(a, axis=None)
cumsum(a, axis=None, dtype=None, out=None)
diff(a, n=1, axis=-1, prepend=None, append=None)
dot(a, b, out=None)
empty_like(prototype, dtype=None, order='K', subok=None, shape=None)
expand_dims(a, axis)
eye(N, M=None, k=0, dtype=float, order='C')
flatnonzero(a)
full_like(a, fill_value, dtype=None, order='K', subok=None, shape=None)
linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0)
matmul(*args, axes=None, axis=None, keepdims=False, casting='', dtype=None, signature=None, order='K', out=None)
max(a, axis=None, out=None, keepdims=False)
mean(a, axis=None, dtype=None, out=None, keepdims=False)
median(a, axis=None, out=None, overwrite_input=False, keepdims=False)
min(a, axis=None, out=None, keepdims=False)
moveaxis(a, source, destination)
nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None)
nonzero(a)
ones_like(a, dtype=None, order='K', subok=None, shape=None)
outer(a, b, out=None)
packbits(a, axis=None, bitorder='big')
pad(array, pad_width, mode='constant', **kwargs)
partition(a, kth, axis=-1)
percentile(a, q, axis=None, out=None, overwrite_input=False, method='linear', keepdims=False, *, interpolation=None)
prod(a, axis=None, dtype=None, out=None, keepdims=False)
quantile(a, q, axis=None, out=None, overwrite_input=False, method='linear', keepdims=False, *, interpolation=None)
ravel(a, order='C')
repeat(a, repeats, axis=None)
reshape(a, newshape, order='C', *, copy=None)
roll(a, shift, axis=None)
round(a, decimals=0, out=None)
searchsorted(a, v, side='left', sorter=None)
split(ary, indices_or_sections, axis=0)
squeeze(a, axis=None)
stack(tup, axis=0, out=None, *, dtype=None, casting='same_kind')
std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
sum(a, axis=None, dtype=None, out=None, keepdims=False)
swapaxes(a, axis1, axis2)
take(a, indices, axis=None, out=None)
take_along_axis(a, indices, axis)
tile(A, reps)
transpose(a, axes=None)
unique(ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *, equal_nan=True)
unpackbits(a, axis=None, bitorder='big')
unravel_index(indices, dims, order='C')
vdot(a, b)
var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
where(condition, x=None, y=None)
zeros_like(a, dtype=None, order='K', subok=None, shape=None)
"""

METHODS = """
all(axis=None, out=None, keepdims=False)
any(axis=None, out=None, keepdims=False)
argmax(axis=None, out=None, dtype=None, keepdims=False)
argmin(axis=None, out=None, dtype=None, keepdims=False)
argsort(axis=-1, kind=None)
astype(dtype, order='K', casting=None, subok=None, copy=True)
clip(min=None, max=None, out=None)
copy(order='C')
cumsum(axis=None, dtype=None, out=None)
dot(b, out=None)
fill(value)
get(stream=None, order='C', out=None, blocking=True)
item()
max(axis=None, out=None, keepdims=False)
mean(axis=None, dtype=None, out=None, keepdims=False)
min(axis=None, out=None, keepdims=False)
nonzero()
prod(axis=None, dtype=None, out=None, keepdims=None)
ravel(order='C')
repeat(repeats, axis=None)
reshape(*shape, order='C', copy=None)
round(decimals=0, out=None)
set(arr, stream=None)
squeeze(axis=None)
std(axis=None, dtype=None, out=None, ddof=0, keepdims=False)
sum(axis=None, dtype=None, out=None, keepdims=False)
swapaxes(axis1, axis2)
take(indices, axis=None, out=None)
tobytes(order='C')
tolist()
transpose(*axes)
var(axis=None, dtype=None, out=None, ddof=0, keepdims=False)
view(dtype=None, type=None)
"""

UFUNC = "(x1, x2=None, /, out=None, *, casting='same_kind', dtype=None)"
REDUCE = "(array, axis=0, dtype=None, out=None, keepdims=False)"


def parsed(text: str) -> inspect.Signature:
    """The signature in such a text."""
    return inspect.signature(eval(f"lambda {text.strip()[1:-1]}: None"))


def table(lines: str) -> dict[str, inspect.Signature]:
    """Name → signature."""
    rows = (line.partition("(") for line in lines.split("\n") if line)
    return {name: parsed(f"({arguments}") for name, _, arguments in rows}


def checked(name: str, signature: inspect.Signature, call: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which refuses arguments that CuPy's has not."""

    def refusing(*args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"cupy.{name}: {error}") from None
        return call(*args, **kwargs)

    refusing.__name__, refusing.__signature__ = name, signature  # type: ignore[attr-defined]
    return refusing
