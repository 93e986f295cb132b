"""Kernels by program and name, compiled for the current device and loaded once a device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stepsmith._backend import cupy
from stepsmith.cuda import _cache, _nvrtc
from stepsmith.cuda._source import source

__all__ = ["build", "kernel"]

Kernel = Callable[..., None]

_kernels: dict[tuple[int, str, str], Kernel] = {}
_modules: dict[tuple[int, str], Any] = {}


def build(name: str, text: str) -> Path:
    """The file with the machine code of a source for the current device."""
    compiler = _nvrtc.compiler(cupy().cuda.runtime.runtimeGetVersion() // 1000)
    architecture, suffix = _architecture(compiler)
    key = (text, architecture, *_nvrtc.OPTIONS, *map(str, compiler.version))
    return _cache.cached(
        f"{name}-{architecture}", key, suffix, lambda: compiler.compile(f"{name}.cu", text, architecture).code
    )


def _architecture(compiler: _nvrtc.Compiler) -> tuple[str, str]:
    """Machine code for the device, or PTX for the driver to finish if the compiler does not know the device yet."""
    capability, known = int(cupy().cuda.Device().compute_capability), compiler.architectures
    if capability in known:
        return f"sm_{capability}", ".cubin"
    older = [architecture for architecture in known if architecture < capability]
    if not older:
        least = min(known) / 10
        raise RuntimeError(f"stepsmith needs a GPU of compute capability {least} or later, got {capability / 10}")
    return f"compute_{max(older)}", ".ptx"


def kernel(program: str, name: str) -> Kernel:
    """The kernel of that name for the current device; called with grid, block and arguments."""
    device = cupy().cuda.runtime.getDevice()
    found = _kernels.get((device, program, name))
    if found is None:
        found = _kernels[device, program, name] = _module(device, program).get_function(name)
    return found


def _module(device: int, program: str) -> Any:
    module = _modules.get((device, program))
    if module is None:
        module = _modules[device, program] = cupy().RawModule(path=str(build(program, source(program))))
    return module
