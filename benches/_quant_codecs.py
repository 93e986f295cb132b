"""Arrays to codes and back beside bitsandbytes, PyTorch, gguf and ml_dtypes, whose outputs are new in each call."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from _functions import numbers
from _harness import Side, find
from _quant import Case, Work
from stepsmith import _core, cast, quant
from stepsmith.quant import QuantizedArray, Scheme

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

STEP = np.float32(1 / 24)
"""The scale of integers; normal numbers stay within the codes."""


class Peer(NamedTuple):
    """Another package's functions for one array.

    Attributes:
        quantize: the array.
        right: are our codes of it what they must be beside the other's?
        decode: takes our codes and makes the function that decodes them.
    """

    quantize: Callable[[], object]
    right: Callable[[QuantizedArray], bool]
    decode: Callable[[QuantizedArray], Callable[[], Any]]


class Codec(NamedTuple):
    """A scheme, and how much it must keep.

    Attributes:
        scheme: how.
        decibels: ratio of signal to noise that is left of normal numbers at least.
        package: of the peer.
        peer: makes it; only called if the package and PyTorch, as far as it needs it, are here.
        targets: times the peer's speed, to codes and back.
    """

    scheme: Scheme
    decibels: float
    package: str = ""
    peer: Callable[[Array], Peer] | None = None
    targets: tuple[float | None, float | None] = None, None


def _torch() -> Any:
    """PyTorch with as many threads as ours."""
    torch: Any = find("torch")
    torch.set_num_threads(int(dict(_core.info())["threads"]))
    return torch


def _functional() -> Any:
    return find("bitsandbytes.functional")


def bitsandbytes_dynamic8(x: Array) -> Peer:
    """Its codes are not always the nearest ones: ours must be at least as near everywhere, up to roundings."""
    torch, functional = _torch(), _functional()
    source, block = torch.from_numpy(x), 256

    def quantize() -> Any:
        return functional.quantize_blockwise(source, blocksize=block)

    def right(q: QuantizedArray) -> bool:
        codes, state = quantize()
        theirs = (state.code.numpy()[codes.numpy().reshape(-1, block)] * state.absmax.numpy()[:, None]).reshape(x.shape)
        near = np.abs(q.dequantize() - x) <= np.abs(theirs - x) + np.spacing(np.abs(x)) * 2
        return bool(near.all()) and np.array_equal(q.scales, state.absmax.numpy())

    def decode(q: QuantizedArray) -> Callable[[], Any]:
        codes, absmax = torch.from_numpy(q.codes), torch.from_numpy(q.scales)
        code = functional.create_dynamic_map()
        return lambda: functional.dequantize_blockwise(codes, absmax=absmax, code=code, blocksize=block)

    return Peer(quantize, right, decode)


def bitsandbytes_nf4(x: Array) -> Peer:
    """The same codes."""
    torch, functional = _torch(), _functional()
    source, block = torch.from_numpy(x), 64

    def quantize() -> Any:
        return functional.quantize_nf4(source, blocksize=block)

    def right(q: QuantizedArray) -> bool:
        codes, state = quantize()
        return np.array_equal(q.codes, codes.numpy().ravel()) and np.array_equal(q.scales, state.absmax.numpy())

    def decode(q: QuantizedArray) -> Callable[[], Any]:
        state = quantize()[1]
        codes = torch.from_numpy(q.codes).reshape(-1, 1)
        return lambda: functional.dequantize_nf4(codes, state)

    return Peer(quantize, right, decode)


def torch_int8(x: Array) -> Peer:
    """The same codes."""
    torch = _torch()
    source = torch.from_numpy(x)
    warnings.filterwarnings("ignore", message="torch.quantize_per_tensor")

    def quantize() -> Any:
        return torch.quantize_per_tensor(source, float(STEP), 0, torch.qint8)

    def right(q: QuantizedArray) -> bool:
        return np.array_equal(q.codes, quantize().int_repr().numpy())

    return Peer(quantize, right, lambda _: quantize().dequantize)


def gguf_blocks(kind: str, x: Array) -> Peer:
    """The same bytes."""
    gguf: Any = find("gguf")
    label = gguf.GGMLQuantizationType[kind]

    def quantize() -> Array:
        codes: Array = gguf.quants.quantize(x, label)
        return codes

    return Peer(
        quantize,
        lambda q: np.array_equal(q.codes, quantize()),
        lambda q: lambda: gguf.quants.dequantize(q.codes, label),
    )


CODECS = {
    "dynamic8": Codec(quant.Dynamic8(256), 38, "bitsandbytes", bitsandbytes_dynamic8, (20, 5)),
    "nf4": Codec(quant.NF4(64), 19, "bitsandbytes", bitsandbytes_nf4, (100, 5)),
    "int8": Codec(quant.Affine(convention="torch", scaling="observer"), 38, "torch", torch_int8, (1, 3)),
    "q8_0": Codec(quant.GGML("q8_0"), 40, "gguf", partial(gguf_blocks, "Q8_0"), (20, 10)),
    "q4_0": Codec(quant.GGML("q4_0"), 18, "gguf", partial(gguf_blocks, "Q4_0"), (20, 10)),
    "float8_e4m3fn_256": Codec(quant.Float8("e4m3fn", 256), 30),
    "mxfp8_e4m3": Codec(quant.MX("mxfp8_e4m3"), 25),
    "mxfp8_e5m2": Codec(quant.MX("mxfp8_e5m2"), 20),
    "mxfp4": Codec(quant.MX("mxfp4"), 15),
    "nvfp4": Codec(quant.NVFP4(), 18),
}


def _peer(codec: Codec, x: Array) -> Peer | None:
    needs = ("torch", codec.package) if codec.package == "bitsandbytes" else (codec.package,)
    return codec.peer(x) if codec.peer and all(map(find, needs)) else None


def _to_codes(codec: Codec, shape: Shape) -> Work:
    """With a scale that is given for integers, as PyTorch has it."""
    x = numbers(shape)
    q, peer, scheme = quant.quantize(x, codec.scheme), _peer(codec, x), codec.scheme

    def call(nan: str) -> object:
        if isinstance(scheme, quant.Affine):
            return quant.quantize_affine(x, scheme, STEP, out=q, nan=nan)
        return quant.quantize(x, scheme, out=q, nan=nan)

    def right() -> bool:
        for nan in ("raise", "zero"):
            for part in q.parts.values():
                part.reshape(-1).view(np.uint8).fill(0xA5)
            call(nan)
            if not q.error(x).sqnr >= codec.decibels or (peer and not peer.right(q)):
                return False
        return True

    side = Side(codec.package, peer.quantize) if peer else None
    missing = None if peer else codec.package or None
    return Work(partial(call, "zero"), x.nbytes + q.nbytes, right, side, missing, partial(call, "raise"))


def _from_codes(codec: Codec, shape: Shape) -> Work:
    x, out = numbers(shape), np.full(shape, np.nan, np.float32)
    q, peer = _quantized(codec, x), _peer(codec, x)
    theirs = peer.decode(q) if peer else None

    def right() -> bool:
        q.dequantize(out=out)
        kept = 20 * np.log10(np.linalg.norm(x) / np.linalg.norm(out - x))
        return bool(kept >= codec.decibels) and (theirs is None or np.array_equal(out, np.asarray(theirs())))

    side, missing = (Side(codec.package, theirs), None) if theirs else (None, codec.package or None)
    return Work(lambda: q.dequantize(out=out), q.nbytes + out.nbytes, right, side, missing)


def _quantized(codec: Codec, x: Array) -> QuantizedArray:
    if isinstance(codec.scheme, quant.Affine):
        return quant.quantize_affine(x, codec.scheme, STEP)
    return quant.quantize(x, codec.scheme)


def _fake(shape: Shape) -> Work:
    x, out, torch = numbers(shape), np.full(shape, np.nan, np.float32), find("torch") and _torch()

    def ours() -> object:
        return quant.fake_quantize(x, STEP, out=out)

    def theirs() -> Any:
        return torch.fake_quantize_per_tensor_affine(source, float(STEP), 0, -128, 127)

    def right() -> bool:
        ours()
        want = theirs().numpy() if torch else np.clip(np.round(x * np.float32(1 / STEP)), -128, 127) * STEP
        return np.array_equal(out, want)

    source = torch.from_numpy(x) if torch else None
    side, missing = (Side("torch", theirs), None) if torch else (None, "torch")
    return Work(ours, x.nbytes + out.nbytes, right, side, missing)


def _cast(name: str, shape: Shape) -> Work:
    dtype = np.dtype(getattr(ml_dtypes, name))
    x, out = numbers(shape), np.full(shape, np.nan, dtype)

    def right() -> bool:
        cast(x, dtype, out=out)
        return np.array_equal(out.view(np.uint8), x.astype(dtype).view(np.uint8))

    side = Side("ml_dtypes", lambda: x.astype(dtype))
    return Work(lambda: cast(x, dtype, out=out), x.nbytes + out.nbytes, right, side)


def cases(shape: Shape) -> Iterator[Case]:
    """Every scheme both ways, fake quantization and casts."""
    size = "x".join(map(str, shape))
    for name, codec in CODECS.items():
        for way, make, target in zip(("quantize", "dequantize"), (_to_codes, _from_codes), codec.targets):
            yield Case(f"{way}/{name}/{size}", partial(make, codec, shape), target)
    yield Case(f"fake_quantize/int8/{size}", partial(_fake, shape), 3)
    yield Case(f"cast/float8_e4m3fn/{size}", partial(_cast, "float8_e4m3fn", shape), 20)
    yield Case(f"cast/bfloat16/{size}", partial(_cast, "bfloat16", shape))
