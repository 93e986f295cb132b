"""CUDA C++ to machine code with NVRTC, by ctypes: needs neither a GPU nor a driver nor CuPy."""

import ctypes
import os
import site
import sys
from collections.abc import Iterator, Sequence
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["EXTRA", "OPTIONS", "Compiled", "Compiler", "compiler"]

EXTRA = "pip install 'stepsmith[cuda12]' or 'stepsmith[cuda13]'"
"""What brings everything that a GPU needs but its driver."""

OPTIONS = (
    "--std=c++17",
    "--fmad=false",
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
    "--device-as-default-execution-space",
)
"""Each operation rounded once and by itself, denormals kept."""

MAJORS = (13, 12)
"""Versions of CUDA that are looked for, the preferred first."""


class Compiled(NamedTuple):
    """What became of a source."""

    code: bytes
    """A cubin, or PTX for a virtual architecture."""
    ptx: str
    """What the machine code was made of."""
    log: str
    """What the compiler said; with ``--ptxas-options=-v`` registers and spills of each kernel."""


class Compiler:
    """NVRTC from one library."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._library = library = ctypes.CDLL(path)
        library.nvrtcGetErrorString.restype = c_char_p
        major, minor = c_int(), c_int()
        self._check(library.nvrtcVersion(byref(major), byref(minor)))
        self.version = major.value, minor.value

    def _check(self, status: int, log: str = "") -> None:
        if status:
            said = self._library.nvrtcGetErrorString(status).decode()
            raise RuntimeError(f"NVRTC failed: {said}" + (f"\n{log}" if log else ""))

    @property
    def architectures(self) -> list[int]:
        """Compute capabilities that it has machine code for, such as 90."""
        count = c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(byref(count)))
        numbers = (c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(numbers))
        return list(numbers)

    def compile(self, name: str, text: str, architecture: str, options: Sequence[str] = OPTIONS) -> Compiled:
        """Machine code for ``sm_90`` and the like, PTX for ``compute_90``.

        Raises:
            RuntimeError: with the compiler's log, if the text is wrong.
        """
        library, program = self._library, c_void_p()
        self._check(library.nvrtcCreateProgram(byref(program), text.encode(), name.encode(), 0, None, None))
        try:
            given = [f"--gpu-architecture={architecture}".encode(), *(option.encode() for option in options)]
            status = library.nvrtcCompileProgram(program, len(given), (c_char_p * len(given))(*given))
            log = self._read(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").rstrip(b"\0").decode()
            self._check(status, log)
            ptx = self._read(program, "nvrtcGetPTXSize", "nvrtcGetPTX")
            is_virtual = architecture.startswith("compute_")
            code = ptx if is_virtual else self._read(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN")
            return Compiled(code, ptx.rstrip(b"\0").decode(), log)
        finally:
            library.nvrtcDestroyProgram(byref(program))

    def _read(self, program: c_void_p, size_of: str, read: str) -> bytes:
        size = c_size_t()
        self._check(getattr(self._library, size_of)(program, byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, read)(program, buffer))
        return buffer.raw


@cache
def compiler(major: int | None = None) -> Compiler:
    """The NVRTC of that major version of CUDA, or the newest one.

    Raises:
        ImportError: there is none; names what to install.
    """
    wanted = MAJORS if major is None else (major,)
    for path in (path for version in wanted for path in _candidates(version)):
        try:
            return Compiler(path)
        except OSError:
            continue
    version = "" if major is None else f" {major}"
    raise ImportError(f"stepsmith needs NVRTC{version} of the CUDA toolkit to compile for a GPU, found none: {EXTRA}")


def _candidates(major: int) -> Iterator[str]:
    """Where the library may be: wheels, the toolkit's folder, wherever the system looks."""
    windows = sys.platform == "win32"
    file = f"nvrtc64_{major}0_0.dll" if windows else f"libnvrtc.so.{major}"
    for packages in dict.fromkeys([*site.getsitepackages(), site.getusersitepackages(), *sys.path]):
        yield from sorted(map(str, Path(packages).glob(f"nvidia/*/{'bin/**' if windows else 'lib'}/{file}")))
    for toolkit in filter(None, (os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda")):
        for folder in ("bin",) if windows else ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"):
            path = Path(toolkit) / folder / file
            if path.exists():
                yield str(path)
    yield file
