"""Kernels compiled by the C++ compiler of this machine, behind the surface of ``cupy.RawModule``."""

import ctypes
import hashlib
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gpu_shim import capture

HERE = Path(__file__).parent
COMPILER = os.environ.get("CXX", "g++")
FLAGS = (
    "-std=c++17",
    "-O1",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-fno-gnu-unique",
    "-Wno-unknown-pragmas",
)
SCHEDULES = ("forward", "reverse", "shuffled", "warps_first", "warps_last")
"""``enum class Order`` of shim.h: in which order threads run between barriers. Results must not depend on it."""

_KERNEL = re.compile(r'extern "C" __global__ void\s+(\w+)\s*\(')
_TABLE = """
template <class... A, size_t... I> void unpack(void (*kernel)(A...), void **args, std::index_sequence<I...>) {
    kernel(*(std::decay_t<A> *)args[I]...);
}
template <class... A> std::function<void()> bound(void (*kernel)(A...), void **args) {
    return [=] { unpack(kernel, args, std::index_sequence_for<A...>()); };
}
template <class... A> std::vector<size_t> sizes(void (*)(A...)) { return {sizeof(std::decay_t<A>)...}; }
struct Entry {
    const char *name;
    std::function<void()> (*bind)(void **);
    std::vector<size_t> (*sizes)();
};
static const Entry entries[] = {
%s
};
static const Entry *find(const char *name) {
    for (auto &entry : entries)
        if (!strcmp(entry.name, name)) return &entry;
    return nullptr;
}
#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT int shim_argument_sizes(const char *name, size_t *out) {
    auto entry = find(name);
    if (!entry) return -1;
    auto all = entry->sizes();
    for (size_t i = 0; i < all.size(); i++) out[i] = all[i];
    return (int)all.size();
}
EXPORT const char *shim_launch(const char *name, const unsigned *grid, const unsigned *block, size_t shared, int order,
                               void **args) {
    return shim::launch({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared, (shim::Order)order,
                        find(name)->bind(args));
}
"""


@cache
def _temporary() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="stepsmith-shim-")


def folder() -> Path:
    """Where compiled kernels lie: as ``STEPSMITH_SHIM_DIR`` says, else one of this process alone."""
    path = Path(os.environ.get("STEPSMITH_SHIM_DIR") or _temporary().name)
    path.mkdir(parents=True, exist_ok=True)
    return path


def compiled(text: str, defines: Sequence[str] = ()) -> Path:
    """A library with the kernels of a source."""
    flags = [*FLAGS, *(f"-D{define}" for define in defines)]
    headers = [(HERE / name).read_text() for name in ("shim.h", "fiber.h")]
    key = "\0".join([text, _TABLE, *headers, *flags, platform.machine()])
    path = folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    if not path.exists():
        table = "".join(
            f'{{"{name}", [](void **args) {{ return bound(&{name}, args); }}, [] {{ return sizes(&{name}); }}}},\n'
            for name in _kernels_of(text, flags)
        )
        whole = f'#include "shim.h"\n{text}\n{_TABLE % table}'
        temporary = path.with_suffix(f".{os.getpid()}")
        _compile([*flags, "-o", str(temporary)], whole)
        temporary.replace(path)
    return path


def _kernels_of(text: str, flags: Sequence[str]) -> list[str]:
    """The kernels' names, after macros."""
    listing = [flag for flag in flags if flag.startswith(("-D", "-std"))]
    return _KERNEL.findall(_compile([*listing, "-DSHIM_LISTING", "-E", "-P"], f'#include "shim.h"\n{text}'))


def _compile(flags: Sequence[str], text: str) -> str:
    command = [COMPILER, *flags, "-I", str(HERE), "-x", "c++", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{COMPILER} failed:\n{done.stderr[:4000]}")
    return done.stdout


class RawModule:
    """As ``cupy.RawModule(path=...)``, for what `compiled` wrote."""

    order = 0

    def __init__(self, *, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.shim_launch.restype = ctypes.c_char_p

    def get_function(self, name: str) -> Callable[..., None]:
        """The kernel, called with grid, block and arguments."""
        sizes = (ctypes.c_size_t * 64)()
        count = self._library.shim_argument_sizes(name.encode(), sizes)
        if count < 0:
            raise RuntimeError(f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name}")
        return _Launcher(self._library.shim_launch, name, list(sizes[:count]))


class _Launcher:
    def __init__(self, launch: Any, name: str, sizes: list[int]) -> None:
        self._launch, self._name, self._sizes = launch, name, sizes

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0) -> None:
        if len(args) != len(self._sizes):
            raise TypeError(f"{self._name}: takes {len(self._sizes)} arguments, got {len(args)}")
        held = [_by_value(arg) for arg in args]
        for i, (value, size) in enumerate(zip(held, self._sizes)):
            if len(value) != size:
                raise TypeError(f"{self._name}: argument {i} must have {size} bytes, got {len(value)}: {args[i]!r}")
        capture.do(lambda: self._run(grid, block, held, shared_mem))

    def _run(self, grid: Sequence[int], block: Sequence[int], held: Sequence[bytes], shared_mem: int) -> None:
        buffers = [ctypes.create_string_buffer(value, len(value) + 16) for value in held]
        pointers = (ctypes.c_void_p * max(len(buffers), 1))(*map(ctypes.addressof, buffers))
        three = ctypes.c_uint * 3
        error = self._launch(
            self._name.encode(),
            three(*(*grid, 1, 1)[:3]),
            three(*(*block, 1, 1)[:3]),
            ctypes.c_size_t(shared_mem),
            RawModule.order,
            pointers,
        )
        if error:
            raise RuntimeError(f"{self._name}: {error.decode()}")


def _by_value(arg: Any) -> bytes:
    """The bytes of an argument: an array's address, or the value itself as CuPy takes it."""
    if arg is None:
        return np.uint64(0).tobytes()
    if hasattr(arg, "data") and hasattr(arg.data, "ptr"):
        return np.uint64(arg.data.ptr).tobytes()
    if hasattr(arg, "ptr"):
        return np.uint64(arg.ptr).tobytes()
    if isinstance(arg, np.ndarray | np.generic):
        if arg.size != 1:
            raise TypeError(f"Unsupported type {type(arg)}: only an array of one element goes by value")
        return arg.tobytes()
    if isinstance(arg, bool | int | float):
        return np.asarray(arg).tobytes()
    raise TypeError(f"Unsupported type {type(arg)}")


@contextmanager
def schedule(name: str) -> Iterator[None]:
    """Kernels run their threads in that order."""
    before, RawModule.order = RawModule.order, SCHEDULES.index(name)
    try:
        yield
    finally:
        RawModule.order = before
