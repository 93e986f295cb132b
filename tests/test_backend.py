"""asarray: tensors of other libraries share memory or are refused; a stub stands in for PyTorch."""

import sys
import types

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits
from reference_storage import BFLOAT16


class Tensor:
    """As much of a PyTorch tensor as `asarray` may ask for."""

    def __init__(self, array, dtype="torch.float32", device="cpu", requires_grad=False) -> None:
        self.array, self.dtype, self.device, self.requires_grad = array, dtype, device, requires_grad

    def detach(self):
        return Tensor(self.array, self.dtype, self.device)

    def view(self, dtype):
        assert dtype == "the stub's int16"
        return Tensor(self.array.view(np.int16), "torch.int16", self.device)

    def numpy(self):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


@pytest.fixture
def stub(monkeypatch):
    module = types.ModuleType("stubtorch")
    module.int16 = "the stub's int16"
    monkeypatch.setitem(sys.modules, "stubtorch", module)
    monkeypatch.setattr(Tensor, "__module__", "stubtorch.nn.parameter")
    return Tensor


def test_an_array_is_returned_as_it_is() -> None:
    array = np.ones((3, 4), np.int32)[:, ::2]
    assert ss.asarray(array) is array


def test_a_tensor_shares_memory(stub) -> None:
    memory = np.arange(12, dtype=np.float32).reshape(3, 4)
    array = ss.asarray(stub(memory.T, requires_grad=True))
    assert np.shares_memory(array, memory)
    assert (array.shape, array.strides) == ((4, 3), (4, 16))
    optimizer = ss.optim.SGD([array], lr=1.0)
    optimizer.step([np.ones((4, 3), np.float32)])
    assert (memory == np.arange(12).reshape(3, 4) - 1).all()


def test_a_bfloat16_tensor_shares_memory(stub) -> None:
    memory = np.array([1.0, -2.5, 3.0], BFLOAT16)
    array = ss.asarray(stub(memory.view(np.int16), "torch.bfloat16", requires_grad=True))
    assert array.dtype == ml_dtypes.bfloat16
    assert_same_bits(array, memory)
    array[1] = 7
    assert memory[1] == 7


def test_a_tensor_elsewhere_is_refused(stub) -> None:
    with pytest.raises(TypeError, match=r"^asarray: tensor must be on the CPU or a GPU of NVIDIA, got one on mps:0$"):
        ss.asarray(stub(np.ones(3), device="mps:0"))


class Dlpack:
    def __init__(self, array, device=1) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, **arguments):
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return (self.device, 0)


def test_what_speaks_dlpack_shares_memory() -> None:
    memory = np.arange(5, dtype=np.float64)
    array = ss.asarray(Dlpack(memory))
    assert np.shares_memory(array, memory)
    rule = "tensor must be on the CPU or a GPU of NVIDIA"
    with pytest.raises(TypeError, match=rf"^asarray: {rule}, got one on DLPack device \(8, 0\)$"):
        ss.asarray(Dlpack(memory, device=8))


def test_what_is_on_a_gpu_needs_cupy(stub, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    for tensor in (Dlpack(np.ones(3), device=2), stub(np.ones(3), device="cuda:0")):
        with pytest.raises(ImportError, match=r"stepsmith needs CuPy for arrays on a GPU: pip install"):
            ss.asarray(tensor)


@pytest.mark.parametrize("value", [[1.0], 1.0, None, np.float32(1)], ids=repr)
def test_what_is_no_tensor_is_refused(value) -> None:
    with pytest.raises(
        TypeError, match=r"^asarray: tensor must be a PyTorch tensor or an array of NumPy or CuPy, got "
    ):
        ss.asarray(value)


def test_a_torch_tensor_steps_in_place() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        tensor = torch.nn.Parameter(torch.ones(7, 5, dtype=dtype).T)
        array = ss.asarray(tensor)
        assert array.ctypes.data == tensor.data_ptr()
        assert array.shape == (5, 7)
        ss.optim.SGD([array], lr=0.5).step([np.ones((5, 7), np.float32)])
        assert (tensor == 0.5).all()
