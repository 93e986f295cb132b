"""What stands in for CuPy has nothing that CuPy lacks: compared with an installed one, which needs no GPU for that."""

import importlib.util
import inspect
import re

import numpy as np
import pytest

from gpu_shim import cuda, host, memory, signatures, standin
from gpu_shim.array import Flags, ndarray

MADE = standin.module()


@pytest.fixture(scope="module")
def cupy():
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    return pytest.importorskip("cupy")


def shape_of(signature):
    """Names, kinds, and which may be left out."""
    return [(p.name, p.kind, p.default is p.empty) for p in signature.parameters.values()]


def documented(function):
    """The signature in the first line of what Cython says of a function."""
    line = function.__doc__.splitlines()[0].partition(" -> ")[0]
    arguments = line[line.index("(") :].replace("\\*", "*")
    plain = re.sub(r"\b(?:_ndarray_base|Py_ssize_t|tuple|str|bool|size_t|intptr_t|int) (?=\w)", "", arguments)
    return signatures.parsed(re.sub(r"\((?:self|cls)(?:, )?", "(", plain))


def takes(function):
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        return documented(function)


def assert_within(name, ours, theirs):
    """Each argument of ours is one of theirs, in the same place if it may be given by place."""
    known = {p.name: p for p in theirs.parameters.values()}
    places = [p.name for p in theirs.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    for place, p in enumerate(p for p in ours.parameters.values() if p.name != "self"):
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            assert any(other.kind is p.kind for other in known.values()), name
            continue
        assert p.name in known, f"{name} takes no {p.name}"
        assert p.kind is p.KEYWORD_ONLY or places.index(p.name) == place, f"{name}: {p.name}"


@pytest.mark.parametrize("name", signatures.table(signatures.FUNCTIONS))
def test_functions_take_what_theirs_take(cupy, name):
    theirs = takes(getattr(cupy, name))
    assert shape_of(signatures.table(signatures.FUNCTIONS)[name]) == shape_of(theirs)


@pytest.mark.parametrize("name", standin.UFUNCS.split())
def test_functions_of_elements_take_what_theirs_take(cupy, name):
    ufunc = getattr(cupy, name)
    assert (isinstance(ufunc, cupy.ufunc), ufunc.nin) == (True, getattr(np, name).nin)
    theirs = documented(ufunc).parameters
    assert set(signatures.parsed(signatures.UFUNC).parameters) - set(theirs) <= {"x1", "x2"}
    reduce = signatures.parsed(signatures.REDUCE)
    if hasattr(getattr(MADE, name), "reduce"):
        assert shape_of(reduce) == shape_of(documented(ufunc.reduce))


def test_methods_take_what_theirs_take(cupy):
    for name, ours in signatures.table(signatures.METHODS).items():
        assert shape_of(ours) == shape_of(documented(getattr(cupy.ndarray, name))), name
        own = inspect.signature(getattr(ndarray, name))
        assert_within(name, own if "args" not in own.parameters else ours, ours)


def test_functions_of_our_own_take_what_theirs_take(cupy):
    for name, ours in vars(MADE).items():
        if inspect.isfunction(ours) and not hasattr(ours, "__signature__"):
            assert_within(name, inspect.signature(ours), takes(getattr(cupy, name)))


def names(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


def test_nothing_is_there_that_theirs_has_not(cupy):
    assert names(MADE) - names(cupy) == set()
    assert {name for name in vars(ndarray) if name not in ("_host", "__module__")} - set(dir(cupy.ndarray)) <= {
        "__annotations__",
        "__dict__",
        "__weakref__",
        "__firstlineno__",
        "__static_attributes__",
    }
    assert names(Flags(np.zeros(1).flags)) <= names(cupy._core.flags.Flags)
    assert names(memory.MemoryPointer) - {"view"} <= names(cupy.cuda.MemoryPointer)


def test_its_cuda_has_nothing_that_theirs_has_not(cupy):
    for name in ("Device", "Stream", "ExternalStream", "Event"):
        ours, theirs = getattr(cuda, name), getattr(cupy.cuda, name)
        assert names(ours) - {"capturing", "pending"} <= names(theirs), name
        document = theirs if name == "Device" else theirs.__init__
        assert_within(name, inspect.signature(ours), documented(document))
    for name in ("get_current_stream", "is_available", "alloc", "alloc_pinned_memory"):
        assert_within(name, inspect.signature(getattr(cuda, name)), takes(getattr(cupy.cuda, name)))
    assert names(cuda.runtime) <= names(cupy.cuda.runtime)


def test_kernels_are_loaded_and_called_as_theirs(cupy):
    assert_within("RawModule", inspect.signature(host.RawModule), documented(cupy.RawModule))
    call = next(line for line in cupy.RawKernel.__call__.__doc__.splitlines() if line.startswith("__call__"))
    theirs = signatures.parsed(call[call.index("(") :].replace("\\*", "*").replace("(self, ", "("))
    assert_within("a kernel", inspect.signature(host._Launcher.__call__), theirs)


def test_arguments_that_theirs_lacks_are_refused(gpu):
    x = gpu.zeros(3)
    for refused in (
        lambda: gpu.take(x, gpu.zeros(1, int), mode="clip"),
        lambda: gpu.add(x, x, where=x > 0),
        lambda: x.max(initial=0.0),
        lambda: gpu.sum(x, initial=1.0),
    ):
        with pytest.raises(TypeError):
            refused()
    assert not hasattr(gpu.add, "at") or gpu is not MADE
