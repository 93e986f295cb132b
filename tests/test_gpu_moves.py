"""Arrays go to a device and back with their bits, and those of other libraries come in without a copy."""

import sys
import types

import ml_dtypes
import numpy as np
import pytest

import gpu_shim
import stepsmith as ss
from helpers import LAYOUTS, assert_same_bits, laid_out, values
from stepsmith._backend import assign, device_of, moved, require_same_kind

DTYPES = [np.float32, np.float64, ml_dtypes.bfloat16, np.float16, np.int64, np.uint8, np.bool_]


def array(dtype, shape=(3, 5, 2)):
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind in "iub":
        return rng.integers(0, 2, shape).astype(dtype)
    x = values(rng, shape, dtype)
    x.flat[:3] = [np.nan, -np.inf, -0.0]
    return x


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back_keeps_bits(gpu, dtype, layout):
    x = laid_out(array(dtype), layout)
    y = moved(x, "cuda")
    assert (type(y), y.dtype, y.shape, device_of(y)) == (gpu.ndarray, x.dtype, x.shape, "cuda:0")
    back = moved(y, "cpu")
    assert (type(back), device_of(back)) == (np.ndarray, "cpu")
    assert_same_bits(back, np.array(x))
    back[...] = 1
    assert_same_bits(moved(y, "cpu"), np.array(x), "a copy of its own")


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
@pytest.mark.usefixtures("gpu")
def test_the_order_in_memory_is_kept(axes):
    x = np.arange(30.0).reshape(5, 3, 2).transpose(axes)
    y = moved(x, "cuda")
    assert (y.strides, moved(y, "cpu").strides) == (x.strides, x.strides)
    assert_same_bits(moved(y, "cpu"), x.copy())


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1)])
@pytest.mark.usefixtures("gpu")
def test_shapes_without_much_in_them_go_too(shape):
    y = moved(np.ones(shape, np.float32), "cuda:0")
    assert (y.shape, moved(y, "cpu").shape) == (shape, shape)


def test_what_is_there_is_the_array_itself(gpu):
    x, y = np.ones(3), gpu.ones(3)
    assert moved(x, "cpu") is x
    assert moved(y, "cuda") is y
    assert moved(y, "cuda:0") is y


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("gpu", ValueError, r"^moved: device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'$"),
        ("cuda:", ValueError, r"^moved: device must be 'cpu', 'cuda' or 'cuda:N', got 'cuda:'$"),
        ("cuda:-1", ValueError, r"^moved: device must be 'cpu', 'cuda' or 'cuda:N', got 'cuda:-1'$"),
        ("cuda:99", ValueError, r"^moved: device must be one of cuda:0.*, got 'cuda:99'$"),
        (0, TypeError, r"^moved: device must be 'cpu', 'cuda' or 'cuda:N', got 0$"),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_other_devices_are_refused(device, error, message):
    with pytest.raises(error, match=message):
        moved(np.ones(3), device)


def test_without_cupy_or_a_gpu_the_error_says_so(gpu, monkeypatch):
    def fails():
        raise gpu.cuda.runtime.CUDARuntimeError("no driver")

    monkeypatch.setattr(gpu.cuda.runtime, "getDeviceCount", fails)
    with pytest.raises(RuntimeError, match=r"^moved: device 'cuda' needs a GPU of NVIDIA and its driver \(no driver"):
        moved(np.ones(3), "cuda")
    monkeypatch.setattr(gpu.cuda.runtime, "getDeviceCount", lambda: 0)
    with pytest.raises(RuntimeError, match=r"^moved: device 'cuda' needs a GPU of NVIDIA, found none$"):
        moved(np.ones(3), "cuda")
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"CuPy for arrays on a GPU: pip install 'stepsmith\[cuda12\]'"):
        moved(np.ones(3), "cuda")


def test_assign_takes_from_anywhere(gpu):
    for target in (np.zeros((2, 3), np.float32), gpu.zeros((2, 3), np.float32)):
        for source in (np.arange(3.0), gpu.arange(3.0), 7.0):
            assign(target, source)
            want = np.broadcast_to(moved(source, "cpu") if hasattr(source, "shape") else source, (2, 3))
            assert_same_bits(moved(target, "cpu"), want.astype(np.float32))


def test_kinds_that_differ_are_named(gpu):
    x, y = np.ones(3), gpu.ones(3)
    require_same_kind("F", "x", x, x)
    require_same_kind("F", "x", y, y)
    with pytest.raises(TypeError, match=r"^F: x must be an array of CuPy as the parameters are, got one of NumPy$"):
        require_same_kind("F", "x", x, y)
    with pytest.raises(TypeError, match=r"^F: x must be an array of NumPy as the weights are, got one of CuPy$"):
        require_same_kind("F", "x", y, x, "the weights")
    with pytest.raises(TypeError, match=r"^F: x must be a NumPy array or one of CuPy .*, got builtins.list$"):
        require_same_kind("F", "x", [1.0], y)


# Arrays of other libraries.


class Tensor:
    """As much of a PyTorch tensor on a GPU as may be asked for; its memory is where the device's is."""

    __module__ = "stubtorch"

    def __init__(self, held, dtype="torch.float32", requires_grad=False, seen=None):
        self.held, self.dtype, self.requires_grad, self.device = held, dtype, requires_grad, "cuda:0"
        self.streams = [] if seen is None else seen

    def detach(self):
        return Tensor(self.held, self.dtype, False, self.streams)

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def view(self, dtype):
        assert (self.dtype, dtype) == ("torch.bfloat16", "the stub's int16")
        return Tensor(self.held.view(np.int16), "torch.int16", False, self.streams)

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, *, stream=None, **_):
        assert not self.requires_grad
        assert self.dtype != "torch.bfloat16"
        self.streams.append(stream)
        return self.held.__dlpack__()


@pytest.fixture
def stub(gpu, monkeypatch):  # noqa: ARG001 - it comes first
    if gpu_shim.has_gpu():
        pytest.skip("a real GPU does not reach the stub's memory")
    module = types.ModuleType("stubtorch")
    module.int16 = "the stub's int16"
    monkeypatch.setitem(sys.modules, "stubtorch", module)
    return Tensor


def test_an_array_of_the_device_is_returned_as_it_is(gpu):
    x = gpu.ones((3, 4))[:, ::2]
    assert ss.asarray(x) is x


def test_a_tensor_of_the_device_shares_memory(gpu, stub):
    memory = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensor = stub(memory.T[1:], requires_grad=True)
    x = ss.asarray(tensor)
    assert (type(x), x.shape, x.strides, x.dtype) == (gpu.ndarray, (3, 3), (4, 16), np.float32)
    x[0, 0] = 77.0
    assert memory[0, 1] == 77.0
    assert tensor.streams == [1], "the null stream has the number 1 in DLPack"


def test_a_tensor_comes_in_on_the_current_stream(gpu, stub):
    tensor, stream = stub(np.ones(3, np.float32)), gpu.cuda.Stream(non_blocking=True)
    with stream:
        ss.asarray(tensor)
    assert tensor.streams == [stream.ptr]
    with gpu.cuda.ExternalStream(4711):
        ss.asarray(tensor)
    assert tensor.streams[1:] == [4711]


def test_a_bfloat16_tensor_of_the_device_shares_memory(stub):
    memory = np.array([1.0, -2.5, 3.0], ml_dtypes.bfloat16)
    x = ss.asarray(stub(memory, "torch.bfloat16", requires_grad=True))
    assert x.dtype == ml_dtypes.bfloat16
    x[1] = 7
    assert_same_bits(memory, np.array([1, 7, 3], ml_dtypes.bfloat16))


@pytest.mark.usefixtures("stub")
def test_what_speaks_dlpack_on_a_device_shares_memory(gpu):
    class Other:
        def __init__(self, held):
            self.held = held

        def __dlpack_device__(self):
            return 2, 0

        def __dlpack__(self, *, stream=None, **_):
            return self.held.__dlpack__()

    memory = np.arange(5.0)
    x = ss.asarray(Other(memory))
    x[0] = 3.0
    assert (memory[0], type(x)) == (3.0, gpu.ndarray)


def test_torch_shares_memory_on_a_gpu(gpu):
    torch = pytest.importorskip("torch")
    if not gpu_shim.has_gpu():
        pytest.skip("needs a GPU")
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        tensor = torch.nn.Parameter(torch.ones(7, 5, dtype=dtype, device="cuda").T)
        x = ss.asarray(tensor)
        assert (x.data.ptr, x.shape) == (tensor.data_ptr(), (5, 7))
        x[...] = 2
        gpu.cuda.get_current_stream().synchronize()
        assert (tensor == 2).all()
