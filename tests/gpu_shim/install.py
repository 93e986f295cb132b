"""Puts the stand-in in the place of CuPy, and the host's compiler in that of NVRTC."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from gpu_shim import standin
from gpu_shim.host import compiled


@cache
def _rules() -> tuple[str, ...]:
    """The programs that are a rule's."""
    from stepsmith.cuda._source import FOLDER, programs

    return tuple(name for name in programs() if "\nRULE(" in (FOLDER / f"{name}.cuh").read_text(encoding="utf-8"))


def build(name: str, text: str) -> Path:
    """As `stepsmith.cuda._module.build`, for the host. Rules are compiled together: most of each is the same."""
    from gpu_shim import ahead
    from stepsmith.cuda._source import text_of

    ahead.wait()
    return compiled(text_of(tuple(f"{rule}.cuh" for rule in _rules())) if name in _rules() else text)


@contextmanager
def installed() -> Iterator[None]:
    """While this lasts CuPy is the stand-in."""
    from stepsmith.cuda import _module

    modules = mock.patch.dict(sys.modules, {"cupy": standin.module()})
    loaded = mock.patch.multiple(_module, build=build, _modules={}, _kernels={})
    with modules, loaded:
        yield


def has_gpu() -> bool:
    """Is there a real one, with CuPy?"""
    try:
        import cupy
    except ImportError:
        return False
    return bool(cupy is not standin.module() and cupy.cuda.is_available())


@contextmanager
def device() -> Iterator[Any]:
    """CuPy where there is a GPU, else its stand-in, whose arrays' borders are looked at in the end."""
    if has_gpu():
        yield sys.modules["cupy"]
        return
    with installed():
        yield standin.module()
    standin.check_borders()


def probe(*needs: str, text: str) -> Any:
    """A module of kernels that only a test wants, over files of the project."""
    from stepsmith.cuda import _module
    from stepsmith.cuda._source import text_of

    return _module.cupy().RawModule(path=str(_module.build("probe", text_of(needs) + text)))


def install() -> None:
    """For the rest of the process CuPy is the stand-in."""
    from stepsmith.cuda import _module

    sys.modules["cupy"] = standin.module()
    _module.build = build  # type: ignore[assignment]
